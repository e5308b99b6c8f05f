"""A failure that ends the worker thread too: one failure, told once, whose server is known to run nothing any more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import FailureCounted, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk, Observation, QueueState, SourceKind, SourceUp
from gpuwatch.core.snapshot import Snapshot

AT = datetime(2026, 11, 21, tzinfo=UTC)
MATCHER = Matcher(load_rules())
WORDS = "CUDA error: an illegal memory access was encountered"
TRACE = (
    'Traceback (most recent call last):\n  File "/opt/ComfyUI/execution.py", line 542, in execute\n'
    f"torch.AcceleratorError: {WORDS}\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n\n"
)
FAILURE = f"got prompt\n!!! Exception during processing !!! {WORDS}\n{TRACE}Prompt executed in 0.56 seconds\n"
THREAD = f"Exception in thread Thread-1 (prompt_worker):\n{TRACE}"
RESTART = "Total VRAM 24106 MB, total RAM 24106 MB\n"
SERVER = "127.0.0.1:8188"


class World:
    def __init__(self, *, correlates: bool = True, looked_at: bool = True) -> None:
        self.engine = Engine(MATCHER.rules, shows_records=looked_at, correlates=correlates, ready=MATCHER)
        self.snapshot = Snapshot()
        self.counted: list[tuple[str, int]] = []

    def feed(self, observation: Observation) -> World:
        for event in self.engine.feed(observation):
            self.snapshot = self.snapshot.after(event)
            if isinstance(event, FailureCounted):
                self.counted.append((event.label, event.failures))
            if isinstance(event, IncidentChanged):
                assert event.incident.diagnosis is not None or not event.incident.active
        return self

    def say(self, words: str, seconds: float = 0, kind: SourceKind = "comfyui", source: str = SERVER) -> World:
        return self.feed(LogChunk(AT + timedelta(seconds=seconds), source, words.encode(), kind))

    def queue(self, seconds: float, pending: int, running: int) -> World:
        return self.feed(QueueState(AT + timedelta(seconds=seconds), SERVER, pending, running))

    @property
    def shown(self) -> list[Incident]:
        return list(self.snapshot.incidents.values())


@pytest.mark.parametrize("looked_at", [True, False])
@pytest.mark.parametrize("seconds", [0, 10])
def test_the_threads_traceback_after_an_illegal_access_is_the_same_failure(seconds: float, looked_at: bool) -> None:
    world = World(looked_at=looked_at).say(FAILURE).say(THREAD, seconds).say("got prompt\n" * 2, seconds + 5)
    (only,) = world.shown
    assert (only.label, only.count, only.state, only.worker_dead) == ("illegal_memory_access", 1, "settled", True)
    assert world.counted == [("illegal_memory_access", 1)]
    assert only.diagnosis is not None
    assert "none will run" in str(only.diagnosis.cause)


@pytest.mark.parametrize(
    "thread",
    [
        THREAD.replace(WORDS, "CUDA error: unspecified launch failure"),
        THREAD.replace(WORDS, "odd"),
        'Exception in thread Thread-3 (prompt_worker):\nTraceback (most recent call last):\n  File "/srv/execution.py", line 4',
    ],
)
def test_whatever_its_last_line_says_and_also_where_that_is_cut_off(thread: str) -> None:
    world = World().say(FAILURE).say(thread, 4)
    for event in world.engine.end(AT + timedelta(seconds=60)):
        world.snapshot = world.snapshot.after(event)
    assert [(each.label, each.worker_dead) for each in world.shown] == [("illegal_memory_access", True)]
    assert world.counted == [("illegal_memory_access", 1)]


def test_a_warning_and_the_threads_traceback_without_a_head_are_one_failure() -> None:
    warning = (
        "sampling.py:70: UserWarning: HIP warning: an illegal memory access was encountered (Triggered internally)\n"
    )
    bar = " 47%|xxxx    | 14/30 [00:09<00:10,  1.49it/s]\n"
    world = World().say(warning + bar + THREAD.replace("CUDA error", "HIP error"))
    assert [(each.label, each.worker_dead) for each in world.shown] == [("illegal_memory_access", True)]


def test_the_file_and_the_api_tell_it_together_once() -> None:
    world = World()
    for seconds, words in ((0, FAILURE), (6, THREAD)):
        world.say(words, seconds, "file", "comfyui.log").say(words, seconds + 1)
    (only,) = world.shown
    assert (only.worker_dead, only.also_in) == (True, (SERVER,))
    assert world.counted == [("illegal_memory_access", 1)]


def test_after_a_restart_both_are_over_and_the_next_failure_is_another() -> None:
    world = World().say(FAILURE + THREAD).say(RESTART)
    assert [each.state for each in world.shown] == ["cleared"]
    world.say(FAILURE)
    assert [(each.state, each.worker_dead) for each in world.shown] == [("cleared", True), ("settled", False)]
    assert sum(failures for _, failures in world.counted) == 2


def test_prompts_that_fail_while_the_worker_lives_are_victims_of_their_own() -> None:
    world = World().say(FAILURE, 0).say(FAILURE, 5)
    assert [each.label for each in world.shown] == ["illegal_memory_access"] * 2 + ["poisoned_context"]
    assert world.counted == [("illegal_memory_access", 1), ("illegal_memory_access", 1), ("poisoned_context", 1)]


def test_another_cause_of_death_keeps_its_name_and_says_that_the_worker_is_dead() -> None:
    oom = THREAD.replace(WORDS, "CUDA out of memory. Tried to allocate 2.00 GiB")
    world = World().say(oom)
    for event in world.engine.end(AT):
        world.snapshot = world.snapshot.after(event)
    assert [(each.label, each.worker_dead) for each in world.shown] == [("cuda_oom", True)]


@pytest.mark.parametrize("words", [FAILURE + THREAD, FAILURE])
def test_the_queue_then_tells_nothing_new(words: str) -> None:
    world = World().feed(SourceUp(AT, SERVER, "comfyui")).queue(0, 1, 1).say(words)
    for seconds in (2, 10, 18, 30):
        world.queue(seconds, 3, 0)
    assert [(each.label, each.worker_dead) for each in world.shown] == [("illegal_memory_access", True)]
    assert world.counted == [("illegal_memory_access", 1)]
    assert world.snapshot.workers == {SERVER: "dead"}
    world.say(RESTART, 40).queue(41, 0, 0)
    assert world.snapshot.workers == {SERVER: "idle"}


def test_what_a_worker_does_is_told_by_its_queue() -> None:
    world = World()
    steps = (SourceUp(AT, SERVER, "comfyui"), QueueState(AT, SERVER, 0, 0), QueueState(AT, SERVER, 4, 1))
    seen = [world.feed(step).snapshot.workers[SERVER] for step in steps]
    assert seen == ["away", "idle", "busy"]


def test_a_failure_of_its_own_that_ends_the_thread_is_told_however_the_log_was_cut() -> None:
    xid = "NVRM: Xid (PCI:0000:08:00): 31, pid=1, name=x, Ch 00000023\n"
    memory = "!!! Exception during processing !!! CUDA out of memory. Tried to allocate 2.00 GiB.\n"
    thread = THREAD.splitlines(keepends=True)[0]
    for world in (World().say(xid + memory + thread), World().say(xid + memory).say(thread)):
        assert {incident.label for incident in world.shown} == {"xid", "cuda_oom"}


def test_the_threads_end_is_the_failures_also_where_all_was_read_after_a_restart() -> None:
    told = [
        world.shown for world in (World().say(FAILURE + THREAD + RESTART), World().say(FAILURE).say(THREAD + RESTART))
    ]
    for (only,) in told:
        assert (only.label, only.worker_dead, only.state) == ("illegal_memory_access", True, "cleared")


def test_a_thread_that_ends_after_the_restart_is_a_failure_of_its_own() -> None:
    for world in (World().say(FAILURE + RESTART + THREAD), World().say(FAILURE).say(RESTART).say(THREAD)):
        assert [incident.worker_dead for incident in world.shown] == [False, True]
