"""A ComfyUI server is watched through all that servers do: each failure told once, nothing lost, nothing asked too often."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpuwatch.adapters.comfyui import server_log
from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.pace import Pace
from gpuwatch.adapters.sources.comfyui import ComfyuiSource
from gpuwatch.adapters.sources.file import FileSource
from gpuwatch.core.observations import LogChunk, Observation, QueueState
from tests.adapters.comfyui.beside import QUICK, submit, watched, watching
from tests.adapters.comfyui.beside import source as source_of
from tests.standin.comfyui import VERSIONS, ComfyUI
from tests.standin.prompts import faulty, workflow
from tests.standin.server import standing


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failure_is_one_incident_with_node_size_and_job(version: str) -> None:
    with standing(ComfyUI(version)) as standin, watched(standin) as beside:
        id_ = submit(standin, client_id="somebody")
        # The snapshot is there before those who listen are told.
        beside.until(lambda: beside.failures() == 1 and beside.incidents("cuda_oom")[0].job_id and beside.jobs())
        (incident,) = beside.incidents("cuda_oom")
        assert (incident.job_id, incident.node.id, incident.node.type) == (id_, "3", "DDColor_Colorize")
        assert incident.node.inputs["model_input_size"] == 1280
        assert "image" not in incident.node.inputs  # a tensor's words
        assert incident.diagnosis is not None
        assert incident.diagnosis.fixes[0].params["to"] < 1280
        seen = beside.snapshot.servers[source_of(standin).name]
        assert (seen.version, seen.total_bytes) == (version, standin.comfyui.card.total_bytes)
        (job,) = beside.jobs()
        assert (job.outcome, job.workload) == ("error", "ddcolor")
        assert [failures.label for failures in beside.events if hasattr(failures, "failures")] == ["cuda_oom"]


def test_every_kind_of_end_is_told_as_what_it_is() -> None:
    with standing() as standin, watched(standin) as beside:
        well = submit(standin, workflow(256))
        beside.until(lambda: len(beside.jobs()) == 1)
        standin.comfyui.gate.clear()
        interrupted = submit(standin, workflow(256))
        deleted = submit(standin, workflow(256))
        beside.until(lambda: any(isinstance(e, QueueState) and (e.pending, e.running) == (1, 1) for e in beside.events))
        standin.comfyui.delete([deleted])
        standin.comfyui.stop_running(interrupted)
        beside.until(lambda: len(beside.jobs()) == 2)
        assert {job.job_id: job.outcome for job in beside.jobs()} == {well: "success", interrupted: "interrupted"}
        assert beside.failures() == 0


def test_what_was_before_explains_and_is_not_counted() -> None:
    with standing() as standin:
        id_ = submit(standin)
        with standin.comfyui.changed:
            assert standin.comfyui.changed.wait_for(lambda: id_ in standin.comfyui.history, 20)
        with watched(standin) as beside:
            beside.until(lambda: any(each.job_id == id_ for each in beside.snapshot.incidents.values()))
            assert (beside.failures(), beside.jobs()) == (0, [])
            assert not beside.snapshot.failures_total


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failure_that_the_log_still_tells_has_its_node_however_many_jobs_ended_since(version: str) -> None:
    with standing(ComfyUI(version)) as standin:
        failed = submit(standin)
        for _ in range(12):
            submit(standin, workflow(256))
        last = submit(standin)
        with standin.comfyui.changed:
            assert standin.comfyui.changed.wait_for(lambda: last in standin.comfyui.history, 20)
        with watched(standin) as beside:
            beside.until(lambda: sum(each.job_id is not None for each in beside.snapshot.incidents.values()) == 2)
            first, second = beside.snapshot.incidents.values()
            assert (first.job_id, second.job_id) == (failed, last), "the same words, each with its own job"
            assert (first.node.type, first.node.inputs["model_input_size"]) == ("DDColor_Colorize", 1280)
            assert beside.failures() == 0
            assert beside.jobs() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failure_that_is_told_from_the_start_has_its_job_out_of_the_history(version: str) -> None:
    with standing(ComfyUI(version)) as standin:
        failed = submit(standin)
        last = submit(standin, workflow(1536))
        with standin.comfyui.changed:
            assert standin.comfyui.changed.wait_for(lambda: last in standin.comfyui.history, 20)
        with watched(standin, from_start=True) as beside:
            beside.until(lambda: all(each.job_id for each in beside.incidents("cuda_oom")) and beside.failures() == 2)
            first, second = beside.incidents("cuda_oom")
            assert [first.job_id, second.job_id] == [failed, last]
            assert [each.node.inputs["model_input_size"] for each in (first, second)] == [1280, 1536]
            live = submit(standin)
            beside.until(lambda: beside.failures() == 3 and beside.incidents("cuda_oom")[-1].job_id)
            assert beside.incidents("cuda_oom")[-1].job_id == live


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_that_is_nowhere_is_looked_for_a_bounded_number_of_times(version: str) -> None:
    with standing(ComfyUI(version)) as standin:
        comfyui = standin.comfyui
        gone = submit(standin)
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: gone in comfyui.history and not comfyui.remaining, 60)
            told = list(comfyui.ring)
        last = [submit(standin, faulty(f"fault {number}")) for number in range(70)][-1]
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: last in comfyui.history, 60)
            del comfyui.history[gone]
            comfyui.ring.clear()
            comfyui.ring.extend(told)
        with watched(standin) as beside:
            beside.until(lambda: beside.snapshot.incidents and beside.snapshot.queues)
            assert [each.job_id for each in beside.snapshot.incidents.values()] == [None]
        asked = [path for _, path in standin.asked if "/history?" in path or "status=failed" in path]
        assert 1 < len(asked) <= 10


def test_a_restart_forgets_and_is_survived() -> None:
    with standing() as standin, watched(standin) as beside:
        for count in (1, 2):
            lives = standin.comfyui.lives
            submit(standin, prompt_id="00000000-0000-0000-0000-000000001234")
            beside.until(lambda: beside.failures() == len(beside.jobs()) == count)  # noqa: B023 - it is called at once
            standin.restart()
            beside.heard(standin)
            assert standin.comfyui.lives == lives + 1
        beside.until(lambda: all(not each.active for each in beside.incidents("cuda_oom")))  # a new process: none yet
        assert beside.failures() == 2
        assert len(beside.incidents("cuda_oom")) == 2


def test_a_log_that_no_frame_told_is_found_among_what_the_server_keeps() -> None:
    with standing() as standin, watched(standin) as beside:
        with standin.comfyui.lock:
            standin.comfyui.subscribed.clear()
        standin.comfyui.log_raw("RuntimeError: CUDA error: out of memory\n")
        beside.until(lambda: beside.failures() == 1)
        beside.heard(standin)


def test_a_dead_worker_is_its_own_incident_until_it_runs_again() -> None:
    with standing() as standin, watched(standin) as beside:
        standin.comfyui.worker_alive = False
        submit(standin, workflow(256))
        beside.until(lambda: any(isinstance(e, QueueState) and (e.pending, e.running) == (1, 0) for e in beside.events))
        assert beside.incidents("worker_dead") == []  # it may still take it: how long it must not is core's affair
        with standin.comfyui.changed:
            standin.comfyui.worker_alive = True
            standin.comfyui.changed.notify_all()
        beside.until(lambda: len(beside.jobs()) == 1)
        assert beside.failures() == 0


def test_an_illegal_access_names_the_node_and_the_server_stays_watched() -> None:
    with standing() as standin, watched(standin) as beside:
        submit(standin, faulty("illegal"))
        beside.until(lambda: any(each.node.id == "2" for each in beside.incidents("illegal_memory_access")))
        submit(standin, workflow(256))
        beside.until(lambda: any(isinstance(e, QueueState) and (e.pending, e.running) == (1, 0) for e in beside.events))
        assert beside.downs() == []


def test_a_file_and_the_server_that_writes_it_tell_each_failure_once(tmp_path: Path) -> None:
    log = tmp_path / "comfyui.log"
    with standing(ComfyUI(log_file=log)) as standin:
        file = FileSource.from_path(str(log), from_start=False, show_history=True)
        with watching(source_of(standin), file) as beside:
            beside.heard(standin)
            beside.until(lambda: "comfyui.log" in beside.snapshot.sources)
            for count in (1, 2, 3):
                submit(standin)
                beside.until(lambda: len(beside.jobs()) == count)  # noqa: B023 - it is called at once
            beside.until(
                lambda: beside.failures() == 3 and sum(bool(i.also_in) for i in beside.incidents("cuda_oom")) == 3
            )
            submit(standin, workflow(256))
            beside.until(lambda: len(beside.jobs()) == 4)
            assert beside.failures() == 3
            assert len(beside.incidents("cuda_oom")) == 3
            assert all(each.node.id == "3" for each in beside.incidents("cuda_oom"))
            told = beside.incidents("cuda_oom")[0].diagnosis
            assert told is not None
            assert any("tells it too" in str(line) for line in told.evidence)


def test_behind_a_proxy_with_a_path_and_a_token() -> None:
    with standing(base="/gpu/comfy", headers={"Authorization": "Bearer hidden"}) as standin:
        server = server_of(standin.url, {"Authorization": "Bearer hidden"})
        with watching(ComfyuiSource(server, pace=QUICK)) as beside:
            beside.heard(standin)
            submit(standin)
            beside.until(lambda: beside.failures() == 1 and beside.jobs())
            assert beside.jobs()[0].server == f"127.0.0.1:{standin.port}/gpu/comfy"
        with watching(source_of(standin)) as beside:
            beside.until(beside.downs)
            assert "refuses us (HTTP 401)" in beside.downs()[0]


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_server_whose_clock_is_wrong_tells_each_failure_once_with_its_job(hours: int) -> None:
    now = lambda: datetime.now(UTC) + timedelta(hours=hours)  # noqa: E731
    with standing(ComfyUI(now=now)) as standin, watched(standin) as beside:
        ids = {submit(standin) for _ in range(2)}
        beside.until(lambda: {each.job_id for each in beside.incidents("cuda_oom")} == ids)
        beside.until(lambda: {job.job_id for job in beside.jobs()} == ids)
        assert beside.failures() == 2
        assert {each.node.id for each in beside.incidents("cuda_oom")} == {"3"}


def test_more_jobs_than_a_page_end_between_two_looks() -> None:
    for version in VERSIONS:
        with standing(ComfyUI(version)) as standin, watched(standin) as beside:
            standin.comfyui.gate.clear()
            ids = {submit(standin, workflow(256)) for _ in range(40)}
            standin.comfyui.gate.set()
            beside.until(lambda: len(beside.jobs()) >= 40)
            assert {job.job_id for job in beside.jobs()} == ids
            assert len(beside.jobs()) == 40


def test_a_job_that_ends_late_and_deep_in_the_list_is_found() -> None:
    with standing() as standin, watched(standin) as beside:
        standin.comfyui.gate.clear()
        first = submit(standin, workflow(256))
        beside.until(lambda: any(isinstance(e, QueueState) and e.running for e in beside.events))
        with standin.comfyui.lock:  # made long before the newest twenty, and ended after them
            assert standin.comfyui.running is not None
            standin.comfyui.running[3]["create_time"] = 1
            for number in range(20):
                said = {"prompt_id": f"x{number}", "timestamp": 5}
                messages = [["execution_start", said], ["execution_success", said]]
                status = {"status_str": "success", "completed": True, "messages": messages}
                item = [number, f"x{number}", {}, {"create_time": 10**13 + number}, []]
                entry = {"prompt": item, "outputs": {}, "status": status, "meta": {}}
                standin.comfyui.history[f"x{number}"] = entry
        standin.comfyui.gate.set()
        beside.until(lambda: first in {job.job_id for job in beside.jobs()})
        assert len(beside.jobs()) == 21


def test_of_a_bar_that_is_redrawn_only_a_frame_now_and_then_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_log, "_BAR_SECONDS", 60.0)
    read: list[bytes] = []
    ended, stop = threading.Event(), threading.Event()

    def emit(observation: Observation) -> bool:
        if isinstance(observation, LogChunk):
            read.append(observation.data)
            if b"the end" in observation.data:
                ended.set()
        return True

    with standing() as standin:
        watching_it = threading.Thread(target=source_of(standin).run, args=(emit, stop))
        watching_it.start()
        with standin.comfyui.changed:
            while not standin.comfyui.subscribed:
                standin.comfyui.changed.wait(0.02)
        for step in range(200):
            standin.comfyui.log_raw(f"\r {step // 2}%|#   | {step}/200 [00:01<00:09, 20.00it/s]")
        standin.comfyui.log_raw("\r100%|####| 200/200 [00:10<00:00, 20.00it/s]\n")
        standin.comfyui.log("the end\n")
        assert ended.wait(30)
        stop.set()
        watching_it.join(30)
    bars = [piece for piece in read if b"%|" in piece]
    assert len(bars) <= 3
    assert b"200/200" in bars[-1], "what ends in a newline is a line"


def test_an_idle_server_is_asked_seldom() -> None:
    """Counted from the pace, not from the clock: so many requests a poll, and one for each of the others."""
    pace = Pace()
    polls, stats, ring = 60 / pace.idle_seconds, 60 / pace.stats_seconds, 60 / pace.ring_seconds
    with (
        standing() as standin,
        watched(standin, pace=Pace(idle_seconds=0.02, stats_seconds=60, ring_seconds=60)) as beside,
    ):
        begun = len(standin.asked)
        beside.until(lambda: len(standin.asked) >= begun + 12)
        assert {path for _, path in standin.asked[begun + 6 :]} == {"/prompt"}
    assert polls + stats + ring <= 16
