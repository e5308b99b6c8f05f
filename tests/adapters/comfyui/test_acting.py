"""What can be done to a server, and how its answers are understood: the hands of the guard and of `fix --server`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from gpuwatch.adapters.comfyui.acting import GoneError, Hands, RefusedError
from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.errors import UnreachableError, UsageError
from gpuwatch.texts import render
from tests.adapters.comfyui.guarded import guarded
from tests.standin.comfyui import VERSIONS, ComfyUI
from tests.standin.prompts import workflow
from tests.standin.server import Standin, standing


def hands_of(standin: Standin, address: Callable[[str], str] = str) -> Hands:
    return Hands(Client(server_of(address(standin.url))))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_newest_failed_job_is_found_behind_others(version: str) -> None:
    with guarded(ComfyUI(version)) as scene:
        failed = scene.run(2048)
        for _ in range(9):
            scene.run(128)
        assert scene.mender.hands.failed_job().id == failed


def test_a_job_that_cannot_be_mended_says_why() -> None:
    with guarded() as scene:
        hands = scene.mender.hands
        with pytest.raises(UsageError, match="no failed job"):
            hands.failed_job()
        well = scene.run(128)
        with pytest.raises(UsageError, match="did not fail"):
            hands.failed_job(well)
        with pytest.raises(GoneError, match="neither"):
            hands.failed_job("nobody")
        scene.standin.comfyui.worker_alive = False
        _status, answer = scene.standin.comfyui.submit({"prompt": workflow()})
        with pytest.raises(UsageError, match="not ended"):
            hands.failed_job(answer["prompt_id"])


def test_a_refused_prompt_is_told_with_its_node() -> None:
    with guarded() as scene:
        with pytest.raises(RefusedError) as refused:
            scene.mender.hands.queue(workflow(5000))
        assert "DDColor_Colorize #3" in str(refused.value)
        assert "4096" in str(refused.value)
        with pytest.raises(RefusedError, match="Mystery"):
            scene.mender.hands.queue({"1": {"class_type": "Mystery", "inputs": {}}})
        scene.standin.comfyui.worker_alive = False
        two = {**workflow(5000), "5": workflow()["1"], "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0]}}}
        queued = scene.mender.hands.queue(two)
        assert queued.dropped is not None
        assert "DDColor_Colorize #3" in render(queued.dropped)


def test_something_else_on_the_port_is_no_server_and_a_password_is_never_told() -> None:
    with standing() as standin:
        standin.hazards.html = True
        hands = hands_of(standin, lambda url: url.replace("//", "//me:hunter2@"))
        assert hands.client.server.headers["Authorization"].startswith("Basic ")
        with pytest.raises(UnreachableError) as strange:
            hands.greet()
        assert "hunter2" not in f"{strange.value}{strange.value.hint}{hands.name}"
        standin.hazards.html = False
        standin.hazards.raw["/prompt"] = b"[1, 2]"
        with closing(hands), pytest.raises(NoAnswerError, match="not as ComfyUI does"):
            hands.greet()


def test_waiting_for_an_end_survives_a_restart_and_notices_what_is_lost() -> None:
    with guarded() as scene:
        comfyui, hands = scene.standin.comfyui, scene.mender.hands
        comfyui.gate.clear()
        _status, answer = comfyui.submit({"prompt": workflow(128)})
        pauses: list[float] = []

        def pause(seconds: float) -> bool:
            pauses.append(seconds)
            if len(pauses) == 2:
                scene.standin.restart()
            return len(pauses) > 50

        assert hands.await_end(answer["prompt_id"], pause) is None
        assert 4 <= len(pauses) < 50
