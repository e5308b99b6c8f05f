"""Half an hour of a server's bad luck, played as fast as it happens: no failure lost, none told twice.

The clock is moved on by the script; everything else is real: HTTP, websockets, a log file that is watched beside the API.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.sources.comfyui import ComfyuiSource
from gpuwatch.adapters.sources.file import FileSource
from gpuwatch.core.engine import Engine
from gpuwatch.pipeline import Pipeline
from tests.adapters.comfyui.beside import QUICK, RULES, WORKLOADS, Beside, submit
from tests.standin.comfyui import ComfyUI
from tests.standin.prompts import faulty, workflow
from tests.standin.server import Standin, standing

STEP = timedelta(minutes=2)


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def settled(standin: Standin, beside: Beside, watched: ComfyuiSource) -> None:
    """Every failure that the server logged is counted, every job that ended is told, and both logs are read to their end."""
    comfyui = standin.comfyui
    log = comfyui.log_file
    assert log is not None
    with comfyui.changed:
        assert comfyui.changed.wait_for(lambda: not comfyui.pending and comfyui.running is None, 30)
    beside.until(lambda: beside.failures() >= comfyui.failures)
    beside.until(lambda: set(comfyui.history) <= {job.job_id for job in beside.jobs()})
    lines = log.read_bytes().count(b"\n")
    beside.until(lambda: beside.snapshot.sources["comfyui.log"].records >= lines)
    beside.until(lambda: watched._log.knows({"entries": list(comfyui.ring)}))
    assert beside.failures() == comfyui.failures, beside.story()


def test_half_an_hour_of_hazards_loses_nothing_and_tells_nothing_twice(tmp_path: Path) -> None:
    clock, log = Clock(), tmp_path / "comfyui.log"
    with standing(ComfyUI(log_file=log)) as standin:
        comfyui = standin.comfyui
        watched = ComfyuiSource(server_of(standin.url), pace=QUICK, clock=clock)
        file = FileSource.from_path(str(log), from_start=False, show_history=True, clock=clock)
        lone = Engine(
            RULES, WORKLOADS, shows_records=False
        )  # each failure by itself: what several mean is told elsewhere
        beside = Beside(Pipeline(lone, [watched, file], clock=clock))
        beside.pipeline.subscribe(beside.listen)
        beside.pipeline.start()
        try:
            beside.heard(standin)
            beside.until(lambda: "comfyui.log" in beside.snapshot.sources)
            for hazard in hazards(standin, beside):
                hazard()
                settled(standin, beside, watched)
                clock.ahead += STEP
            assert clock.ahead >= timedelta(minutes=30)

            told_before = beside.failures()
            comfyui.worker_alive = False
            submit(standin, workflow(256))
            beside.until(lambda: beside.snapshot.queues[watched.name].pending)
            clock.ahead += timedelta(seconds=20)
            beside.until(lambda: beside.incidents("worker_dead"))
            standin.restart()
            beside.until(lambda: not beside.incidents("worker_dead")[0].active)
            assert beside.failures() == told_before + 1
        finally:
            beside.pipeline.stop()
        shown = [each for each in beside.snapshot.incidents.values() if each.fresh and not each.members]
        assert sum(each.label != "worker_dead" for each in shown) == comfyui.failures, beside.story()
        ids = [job.job_id for job in beside.jobs()]
        assert sorted(ids) == sorted(set(ids))
        assert set(ids) == set(comfyui.executed)


def hazards(standin: Standin, beside: Beside) -> list[Callable[[], object]]:
    """Each leaves the server as it was, or as another process of the same version."""
    comfyui, wrong = standin.comfyui, standin.hazards

    def failed_after_restart() -> None:
        standin.restart()
        submit(standin)

    def missed_while_away() -> None:
        standin.drop()
        submit(standin)

    def deaf() -> None:
        with comfyui.lock:
            comfyui.clients.clear()
            comfyui.subscribed.clear()
        submit(standin)

    def unsubscribed() -> None:
        with comfyui.lock:
            comfyui.subscribed.clear()
        submit(standin)

    def interrupted() -> None:
        comfyui.gate.clear()
        id_ = submit(standin, workflow(256))
        beside.until(lambda: comfyui.running is not None)
        comfyui.stop_running(id_)

    def deleted() -> None:
        comfyui.gate.clear()
        submit(standin, workflow(256))
        comfyui.delete([submit(standin)])
        comfyui.gate.set()

    def burst() -> None:
        comfyui.gate.clear()
        for number in range(12):
            submit(standin, workflow(1280 if number % 3 == 0 else 256))
        comfyui.gate.set()

    def answers(path: str, status: int) -> Callable[[], None]:
        def play() -> None:
            wrong.statuses[path] = status
            asked = len(standin.asked)
            submit(standin, faulty(f"odd {path}"))
            beside.until(lambda: len(standin.asked) > asked + 3)
            wrong.statuses.clear()

        return play

    def another_site() -> None:
        wrong.html = True
        asked = len(standin.asked)
        beside.until(lambda: len(standin.asked) > asked + 2)
        wrong.html = False
        submit(standin)

    return [
        lambda: submit(standin), lambda: submit(standin, workflow(256)), failed_after_restart, missed_while_away, deaf,
        unsubscribed, interrupted, deleted, burst, answers("/api/jobs", 500), answers("/system_stats", 500),
        answers("/prompt", 502), answers("/internal/logs/raw", 500), another_site, standin.restart, failed_after_restart,
    ]  # fmt: skip
