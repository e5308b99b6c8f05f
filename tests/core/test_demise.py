"""A server that goes away at work is told once, with what is lost; a broken connection and a known cause are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import FailureCounted
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import LogChunk, LogRestarted, Observation, QueueState, SourceDown, SourceUp, Tick
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.texts import text

AT = datetime(2026, 11, 21, tzinfo=UTC)
SERVER = "127.0.0.1:8188"
KILLED = b"Out of memory: Killed process 77 (python) total-vm:1kB, anon-rss:33554432kB, file-rss:0kB\n"


class World:
    def __init__(self) -> None:
        matcher = load_matcher()
        self.engine = Engine(matcher.rules, shows_records=False, correlates=True, ready=matcher)
        self.snapshot = Snapshot()
        self.counted: list[str] = []

    def feed(self, observation: Observation) -> World:
        for event in self.engine.feed(observation):
            self.snapshot = self.snapshot.after(event)
            if isinstance(event, FailureCounted):
                self.counted += [event.label] * event.failures
        return self

    def queue(self, seconds: float, pending: int, running: int) -> World:
        return self.feed(QueueState(after(seconds), SERVER, pending, running))

    def down(self, seconds: float, *, failed: bool = True) -> World:
        return self.feed(SourceDown(after(seconds), SERVER, "comfyui", text("nothing listens"), failed=failed))

    def back(self, seconds: float, *, anew: bool = True) -> World:
        self.feed(SourceUp(after(seconds), SERVER, "comfyui"))
        if anew:
            self.feed(LogRestarted(after(seconds), SERVER))
        return self.queue(seconds, 0, 0)

    @property
    def shown(self) -> list[Incident]:
        return list(self.snapshot.incidents.values())


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def test_another_process_answers() -> None:
    world = World().queue(0, 3, 1).down(5)
    assert world.shown == []
    world.back(17)
    (only,) = world.shown
    assert (only.label, only.state, only.severity) == ("server_stopped", "cleared", "error")
    assert only.text == "the server went away while 1 ran and 3 waited; another process answered 12 s later"
    assert world.counted == ["server_stopped"]
    assert only.diagnosis is not None
    assert [str(line) for line in only.diagnosis.evidence] == [only.text]
    world.down(20).back(30)
    assert world.counted == ["server_stopped"], "nothing ran that time"


def test_nobody_answers_for_a_minute() -> None:
    world = World().queue(0, 0, 1).down(5).feed(Tick(after(60)))
    assert world.shown == []
    world.feed(Tick(after(65)))
    assert [(each.state, each.facts["running_count"]) for each in world.shown] == [("open", 1)]
    world.feed(Tick(after(90))).back(100)
    assert [each.state for each in world.shown] == ["cleared"]
    assert world.counted == ["server_stopped"]


def test_a_connection_that_only_broke_is_none() -> None:
    assert World().queue(0, 3, 1).down(5).back(9, anew=False).feed(Tick(after(99))).shown == []


def test_a_long_silence_that_ends_without_a_restart_is_over() -> None:
    world = World().queue(0, 0, 1).down(5).feed(Tick(after(70))).back(80, anew=False)
    assert [each.state for each in world.shown] == ["cleared"]


def test_an_idle_server_and_our_own_end_are_none() -> None:
    assert World().queue(0, 0, 0).down(5).back(9).shown == []
    assert World().queue(0, 2, 1).down(5, failed=False).feed(Tick(after(99))).shown == []


def test_what_is_explained_is_not_told_twice() -> None:
    for seconds in (4, 8):
        world = World().queue(0, 3, 1)
        steps: list[tuple[float, Observation | None]] = [
            (5, None),
            (seconds, LogChunk(after(seconds), "kernel", KILLED, "kernel")),
        ]
        for _at, step in sorted(steps, key=lambda pair: pair[0]):
            if step is None:
                world.down(5)
            else:
                world.feed(step)
        world.back(20)
        assert {each.label for each in world.shown} == {"host_oom_killed"}
