"""The screen beside the stand-in server, as `gpuwatch watch URL` makes it."""

from __future__ import annotations

import argparse
from functools import partial

from textual.pilot import Pilot

from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.pace import Pace
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.sources.comfyui import ComfyuiSource
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.faces.servers import hands_of, mender_of
from gpuwatch.faces.tui.app import WatchApp, Watched
from gpuwatch.faces.tui.mend import Recall, servers_of
from gpuwatch.pipeline import Pipeline
from tests.faces.tui_play import until
from tests.standin.server import Standin

PATIENCE_SECONDS = 30
PACE = Pace(busy_seconds=0.05, idle_seconds=0.05, first_wait_seconds=0.05, longest_wait_seconds=0.2)


def watching(standin: Standin, *, read_only: bool = False, recall: Recall | None = None) -> WatchApp:
    """The screen as `gpuwatch watch URL` makes it."""
    arguments = argparse.Namespace(rules=None, gpu_memory=None)
    matcher = load_matcher(None)
    sources = [ComfyuiSource(server_of(standin.url), pace=PACE)]
    servers = servers_of(sources).items()
    watched = Watched(
        Pipeline(Engine(matcher.rules, load_workloads(), ready=matcher), sources),
        menders={name: partial(mender_of, server, arguments) for name, server in servers},
        recall=recall,
        hands={name: partial(hands_of, server) for name, server in servers},
    )
    return WatchApp(opens=lambda: watched, read_only=read_only)


async def failed(app: WatchApp, pilot: Pilot[None], standin: Standin, prompt: dict[str, object]) -> str:
    """A job that fails while the screen watches, known to it with its id."""
    await until(pilot, lambda: app.snapshot.queues, "the server")
    _status, answer = standin.comfyui.submit({"prompt": prompt})
    await until(pilot, lambda: any(each.job_id for each in app.snapshot.incidents.values()), "the failed job")
    return str(answer["prompt_id"])


def detail(app: WatchApp) -> str:
    return app.body.detail.rows.shown
