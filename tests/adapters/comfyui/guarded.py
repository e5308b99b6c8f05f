"""A guard beside a stand-in, driven by hand: nothing here waits for time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gpuwatch.adapters.comfyui.acting import Hands
from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.client import Client
from gpuwatch.adapters.comfyui.guarded_job import Note
from gpuwatch.adapters.comfyui.guarding import Guard
from gpuwatch.adapters.comfyui.mending import Limits, Mender
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.tried_file import TriedFile
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.observations import FixTried
from gpuwatch.texts import Text
from tests.standin.comfyui import ComfyUI
from tests.standin.prompts import workflow
from tests.standin.server import Standin, standing
from tests.workflows import knowledge

PATIENCE_SECONDS = 30
SECRETS = {"auth_token_comfy_org": "sesame-secret", "api_key_comfy_org": "opensecret"}


matcher, workloads = cache(load_matcher), cache(load_workloads)


@dataclass
class Scene:
    """A guard beside a stand-in."""

    standin: Standin
    guard: Guard
    mender: Mender
    notes: list[Note] = field(default_factory=list)
    told: list[FixTried] = field(default_factory=list)
    broken: Text | None = None

    @property
    def events(self) -> list[str]:
        return [note.event for note in self.notes]

    def run(self, side_px: int = 1280, **body: Any) -> str:
        """Submit a prompt and wait for its end."""
        _status, answer = self.standin.comfyui.submit({"prompt": workflow(side_px)} | body)
        return self.ended(answer["prompt_id"])

    def ended(self, id_: str) -> str:
        comfyui = self.standin.comfyui
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: id_ in comfyui.history, PATIENCE_SECONDS)
        return id_

    def follow(self, most: int = 20) -> None:
        """Tell the guard of the end of what it queued, until it queues nothing more."""
        for _ in range(most):
            if not self.guard.under_way:
                return
            self.ended(self.notes[-1].fields["new_job"])
            self.guard.look()

    def prompt_of(self, id_: str) -> dict[str, Any]:
        return self.standin.comfyui.history[id_]["prompt"][2]


@contextmanager
def guarded(comfyui: ComfyUI | None = None, folder: Path | None = None, **limits: Any) -> Iterator[Scene]:
    with standing(comfyui) as standin:
        hands = Hands(Client(server_of(standin.url)))
        mender = Mender(hands, matcher(), workloads(), knowledge(), limits=Limits(**limits), memory=TriedFile(folder))
        scene = Scene(standin, None, mender)  # type: ignore[arg-type]  # set below, it tells the scene
        scene.guard = Guard(
            mender,
            scene.notes.append,
            scene.told.append,
            incident_of=lambda job: f"incident-{job[:4]}",
            broken=lambda: scene.broken,
        )
        with closing(hands):
            yield scene
