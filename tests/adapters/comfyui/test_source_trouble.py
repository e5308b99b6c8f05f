"""A server that is away, says nothing, lacks a part of its API, or answers with anything: what is still told of it."""

from __future__ import annotations

import threading

import pytest

from tests.adapters.comfyui.beside import source as source_of
from tests.adapters.comfyui.beside import submit, watched, watching
from tests.standin.comfyui import VERSIONS, ComfyUI
from tests.standin.prompts import workflow
from tests.standin.server import standing


def test_what_was_logged_while_the_connection_was_gone_is_read_later() -> None:
    with standing() as standin, watched(standin) as beside:
        submit(standin)
        beside.until(lambda: beside.failures() == 1)
        standin.down()
        beside.until(beside.downs)
        submit(standin)
        submit(standin, workflow(1152, "ddcolor_modelscope.pth"))
        with standin.comfyui.changed:
            assert standin.comfyui.changed.wait_for(lambda: len(standin.comfyui.history) == 3, 20)
        standin.up()
        beside.until(lambda: beside.failures() == standin.comfyui.failures and len(beside.jobs()) == 3)
        beside.heard(standin)
        assert len(beside.downs()) == 1
        assert beside.ups() == 2


def test_a_server_that_is_away_is_said_once_and_waited_for() -> None:
    with standing() as standin:
        standin.down()
        with watching(source_of(standin)) as beside:
            beside.until(beside.downs)
            refused = standin.port
            standin.up()
            assert standin.port == refused
            beside.heard(standin)
            assert beside.downs() == [f"127.0.0.1:{refused}: nothing listens there."]
            assert beside.snapshot.sources[f"127.0.0.1:{refused}"].state == "up"


def test_a_socket_that_says_nothing_is_noticed_by_what_the_queue_does() -> None:
    with standing() as standin, watched(standin) as beside:
        (deaf,) = standin.comfyui.clients
        with standin.comfyui.lock:  # as when another takes the same id: the first stays open, and hears nothing more
            standin.comfyui.clients.clear()
            standin.comfyui.subscribed.clear()
        submit(standin)
        beside.until(lambda: beside.failures() == 1 and beside.jobs())
        beside.heard(standin)
        assert deaf not in standin.comfyui.clients


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_log_stream_failures_come_from_the_job_list(version: str) -> None:
    with standing(ComfyUI(version)) as standin:
        standin.hazards.statuses = {"/internal/logs/subscribe": 404, "/internal/logs/raw": 404}
        with watching(source_of(standin)) as beside:
            beside.until(lambda: beside.snapshot.queues)
            submit(standin)
            beside.until(lambda: beside.failures() == 1 and beside.incidents("cuda_oom")[0].job_id)
            assert beside.incidents("cuda_oom")[0].node.id == "3"
            assert "its log is not to be had" in str(beside.snapshot.sources[source_of(standin).name].reason)


def test_without_a_websocket_failures_come_from_the_job_list() -> None:
    with standing() as standin:
        standin.hazards.statuses = {"/ws": 404}
        with watching(source_of(standin)) as beside:
            beside.until(lambda: beside.snapshot.queues)
            submit(standin)
            beside.until(lambda: beside.failures() == 1 and beside.jobs())


def test_what_is_no_comfyui_is_said_once() -> None:
    with standing() as standin:
        standin.hazards.html = True
        with watching(source_of(standin)) as beside:
            beside.until(beside.downs)
            asked = len(standin.asked)
            beside.until(lambda: len(standin.asked) > asked + 3)
            (reason,) = beside.downs()
            assert reason.startswith(
                f"127.0.0.1:{standin.port}: answers /prompt with text/html, not with JSON. Is it a ComfyUI"
            )
            standin.hazards.html = False
            beside.heard(standin)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b"null",
        b'{"exec_info": 3}',
        b'{"exec_info": {"queue_remaining": "many"}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_an_answer_of_another_shape_is_no_crash(body: bytes) -> None:
    with standing() as standin:
        standin.hazards.raw["/prompt"] = body
        with watching(source_of(standin)) as beside:
            beside.until(beside.downs)
            standin.hazards.raw.clear()
            beside.heard(standin)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'{"jobs": 4}',
        b'{"jobs": [4, null, {"id": 4}, {"id": "x", "status": 9}]}',
        b'{"jobs": [{"id": "x", "status": "failed", "execution_error": [], "execution_end_time": "l"}]}',
    ],
)
def test_a_job_list_of_another_shape_is_no_crash(body: bytes) -> None:
    with standing() as standin:
        standin.hazards.raw["/api/jobs"] = body
        with watched(standin) as beside:
            asked = len(standin.asked)
            submit(standin)
            beside.until(lambda: len(standin.asked) > asked + 4)
            assert beside.snapshot.sources[source_of(standin).name].state == "up"
            beside.until(lambda: beside.failures() == 1)  # the log tells it


def test_errors_of_system_stats_do_not_hide_the_rest() -> None:
    with standing() as standin:
        standin.hazards.statuses["/system_stats"] = 500
        with watched(standin) as beside:
            submit(standin)
            beside.until(lambda: beside.failures() == 1 and beside.jobs())
            assert beside.downs() == []


def test_a_history_too_large_to_read_is_asked_for_in_smaller_pieces() -> None:
    with standing(ComfyUI("0.3.64")) as standin:
        source = source_of(standin)
        source.client._most_bytes = 300_000
        with watching(source) as beside:
            beside.heard(standin)
            standin.comfyui.gate.clear()
            for _ in range(8):
                submit(standin, workflow(256))
            standin.hazards.padding_bytes = 80_000
            standin.comfyui.gate.set()
            beside.until(lambda: len(beside.jobs()) >= 2)
            assert beside.downs() == []


def test_it_stops_at_once_while_a_server_does_not_answer() -> None:
    with standing() as standin, watching(source_of(standin)) as beside:
        beside.heard(standin)
        standin.hazards.slow = threading.Event()
        beside.pipeline.stop()
