"""The stand-in answers as the recorded servers do: what rests on it rests on this."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.standin.comfyui import VERSIONS, ComfyUI
from tests.standin.failing import GIB, Card
from tests.standin.prompts import faulty, workflow
from tests.standin.server import Standin, standing

PATIENCE_SECONDS = 20


def ask(standin: Standin, method: str, path: str, value: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request(method, path, None if value is None else json.dumps(value))
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body else None
    finally:
        connection.close()


def get(standin: Standin, path: str) -> Any:
    return ask(standin, "GET", path)[1]


def post(standin: Standin, path: str, value: Any) -> Any:
    return ask(standin, "POST", path, value)[1]


def ended(standin: Standin, id_: str) -> dict[str, Any]:
    comfyui = standin.comfyui
    with comfyui.changed:
        assert comfyui.changed.wait_for(lambda: id_ in comfyui.history, PATIENCE_SECONDS)
    return dict(get(standin, f"/history/{id_}")[id_])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_prompt_fails_or_runs_by_what_the_card_has(version: str) -> None:
    with standing(ComfyUI(version)) as standin:
        failed = ended(standin, post(standin, "/prompt", {"prompt": workflow(1280)})["prompt_id"])
        said = dict(failed["status"]["messages"])
        assert failed["status"]["status_str"] == "error"
        assert said["execution_error"]["current_inputs"]["model_input_size"] == [1280]
        ran = ended(standin, post(standin, "/prompt", {"prompt": workflow(512)})["prompt_id"])
        assert ran["status"]["status_str"] == "success"
        standin.comfyui.card.total_bytes = 24 * GIB
        again = ended(standin, post(standin, "/prompt", {"prompt": workflow(1280), "front": True})["prompt_id"])
        assert again["status"]["completed"] is True


def test_freeing_gives_back_what_others_held() -> None:
    with standing(ComfyUI(card=Card(24 * GIB, held_bytes=20 * GIB))) as standin:
        assert get(standin, "/system_stats")["devices"][0]["vram_free"] == 4 * GIB
        post(standin, "/free", {"free_memory": True})
        assert get(standin, "/system_stats")["devices"][0]["vram_free"] == 24 * GIB


def test_only_the_newer_version_lists_jobs() -> None:
    with standing(ComfyUI("0.3.64")) as standin:
        assert ask(standin, "GET", "/api/jobs") == (404, None)
    with standing() as standin:
        id_ = post(standin, "/prompt", {"prompt": workflow(1280)})["prompt_id"]
        ended(standin, id_)
        (job,) = get(standin, "/api/jobs?status=failed&limit=5")["jobs"]
        assert (job["id"], job["execution_error"]["node_id"]) == (id_, "3")


def test_a_monitor_hears_the_log_and_the_queue_and_no_error_of_another() -> None:
    with standing() as standin, connect(standin.url.replace("http", "ws") + "/ws?clientId=monitor") as ws:
        assert json.loads(ws.recv(PATIENCE_SECONDS))["type"] == "status"
        ask(standin, "PATCH", "/internal/logs/subscribe", {"clientId": "monitor", "enabled": True})
        post(standin, "/prompt", {"prompt": workflow(1280), "client_id": "somebody"})
        heard: list[tuple[str, str]] = []
        while not heard or "Prompt executed" not in heard[-1][1]:
            frame = json.loads(ws.recv(PATIENCE_SECONDS))
            heard.append((frame["type"], str(frame["data"])))
        assert {kind for kind, _ in heard} == {"status", "logs"}
        assert any("!!! Exception during processing !!!" in words for _, words in heard)


def test_an_illegal_access_ends_the_worker_and_not_the_server() -> None:
    with standing() as standin:
        ended(standin, post(standin, "/prompt", {"prompt": faulty("illegal")})["prompt_id"])
        post(standin, "/prompt", {"prompt": workflow(256)})
        queue = get(standin, "/queue")
        assert (len(queue["queue_running"]), len(queue["queue_pending"])) == (0, 1)


def test_a_restart_forgets_everything() -> None:
    with standing() as standin:
        ended(standin, post(standin, "/prompt", {"prompt": workflow(256)})["prompt_id"])
        standin.restart()
        assert get(standin, "/history?max_items=5") == {}
        assert post(standin, "/prompt", {"prompt": workflow(256)})["number"] == 0
