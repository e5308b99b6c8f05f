"""One server seen by its file and over its API: each failure once, whichever tells it first, whatever is folded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, FailureCounted, IncidentChanged
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk, LogRestarted, QueueState, SourceDown, SourceKind, Tick
from gpuwatch.texts import text

AT = datetime(2026, 11, 21, tzinfo=UTC)
MATCHER = Matcher(load_rules())
OOM = b"!!! Exception during processing !!! CUDA error: out of memory\nPrompt executed in 0.1 seconds\n"
OTHER = (
    b"!!! Exception during processing !!! CUDA error: device-side assert triggered\nPrompt executed in 0.1 seconds\n"
)


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def chunk(kind: SourceKind, seconds: float, data: bytes = OOM, source: str | None = None) -> LogChunk:
    return LogChunk(after(seconds), source or kind, data, kind)


def engine() -> Engine:
    return Engine(MATCHER.rules, shows_records=False, ready=MATCHER)


def told(events: list[Event]) -> tuple[int, set[str]]:
    """How many failures were counted, and the ids of the incidents that were shown."""
    return (
        sum(event.failures for event in events if isinstance(event, FailureCounted)),
        {event.incident.id for event in events if isinstance(event, IncidentChanged)},
    )


def play(*observations: LogChunk | LogRestarted | SourceDown | Tick) -> list[Event]:
    one = engine()
    return [event for observation in observations for event in one.feed(observation)]


@pytest.mark.parametrize(
    "kinds", [("file", "comfyui"), ("comfyui", "file"), ("comfyui", "docker"), ("stdin", "comfyui")]
)
@pytest.mark.parametrize("later", [0.0, 2.0, 60.0])
def test_the_second_to_tell_it_is_evidence(kinds: tuple[SourceKind, SourceKind], later: float) -> None:
    events = play(chunk(kinds[0], 0), chunk(kinds[1], later))
    failures, shown = told(events)
    assert (failures, len(shown)) == (1, 1)
    last = [event.incident for event in events if isinstance(event, IncidentChanged)][-1]
    assert (last.source, last.also_in) == (kinds[0], (kinds[1],))


@pytest.mark.parametrize(
    "pair",
    [
        (chunk("file", 0), chunk("stdin", 1)),  # two programs' logs
        (chunk("comfyui", 0, source="a"), chunk("comfyui", 1, source="b")),  # two servers
        (chunk("file", 0), chunk("comfyui", 300)),  # not at the same time
        (chunk("file", 0), chunk("comfyui", 1, OTHER)),  # not the same words
        (chunk("file", 0), LogChunk(after(1), "comfyui", OOM, "comfyui", fresh=False)),
    ],
)
def test_what_is_not_the_same_is_told_twice(pair: tuple[LogChunk, LogChunk]) -> None:
    failures, shown = told(play(*pair))
    assert (failures, len(shown)) == (2, 2)


def test_a_file_belongs_to_the_server_that_it_was_seen_to_be_of() -> None:
    events = play(
        chunk("comfyui", 0, source="a"), chunk("file", 1), chunk("comfyui", 60, OTHER, source="b"), chunk("file", 61, OTHER)
    )  # fmt: skip
    assert told(events)[0] == 3  # the file is a's: the second failure is a's and b's


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["comfyui", "file", "rest"]), max_size=24), st.integers(1, 8))
def test_in_any_order_and_with_any_pause_each_failure_counts_once(order: list[str], failures: int) -> None:
    """Each source tells all of them in its own time; counted is what the one that told most told."""
    one, left, seconds, events = engine(), {"comfyui": failures, "file": failures}, 0.0, []
    for word in [*order, *["comfyui", "file"] * failures]:
        if word == "rest":
            seconds += 1
            events += one.feed(Tick(after(seconds)))
        elif left[word]:
            left[word] -= 1
            events += one.feed(chunk("comfyui" if word == "comfyui" else "file", seconds))
    events += one.end(after(seconds + 1))
    assert told(events)[0] == failures


def queue(seconds: float, pending: int, running: int) -> QueueState:
    return QueueState(after(seconds), "server", pending, running)


def labels(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.incident.label, event.incident.state) for event in events if isinstance(event, IncidentChanged)]


def test_a_worker_that_takes_nothing_is_dead_until_one_runs() -> None:
    one = engine()
    quiet = [event for second in (0, 5, 10) for event in one.feed(queue(second, 3, 0))]
    assert labels(quiet) == []
    died = one.feed(queue(16, 3, 0))
    assert labels(died) == [("worker_dead", "open")]
    (incident,) = (event.incident for event in died if isinstance(event, IncidentChanged))
    assert incident.diagnosis is not None
    assert [fix.action for fix in incident.diagnosis.fixes] == ["restart_server"]
    assert sum(event.failures for event in died if isinstance(event, FailureCounted)) == 1
    assert labels(one.feed(queue(20, 9, 0))) == []
    assert labels(one.feed(queue(21, 0, 0))) == []  # a queue that was emptied by hand is no proof of life
    lives = one.feed(queue(30, 1, 1))
    assert labels(lives) == [("worker_dead", "cleared")]
    assert [event.incident.diagnosis is not None for event in lives if isinstance(event, IncidentChanged)] == [True]


@pytest.mark.parametrize(
    "states",
    [
        [(0, 3, 0), (5, 3, 1), (10, 3, 0), (16, 3, 0), (20, 3, 1)],  # between two prompts
        [(0, 0, 0), (60, 0, 0), (120, 0, 0), (180, 0, 0)],
        [(0, 2, 0), (60, 2, 0)],  # two looks are no proof
    ],
)
def test_a_worker_that_lives_is_left_alone(states: list[tuple[float, int, int]]) -> None:
    one = engine()
    assert labels([event for state in states for event in one.feed(queue(*state))]) == []


def test_a_server_that_was_away_or_restarted_has_another_worker() -> None:
    one = engine()
    for second in (0, 8, 16):
        one.feed(queue(second, 3, 0))
    assert labels(one.feed(LogRestarted(after(20), "server"))) == [("worker_dead", "cleared")]
    for second in (30, 38):
        one.feed(queue(second, 3, 0))
    one.feed(SourceDown(after(40), "server", "comfyui", text("gone"), failed=True))
    assert labels(one.feed(queue(46, 3, 0))) == []  # waiting begins anew


def test_a_dead_worker_that_the_log_told_is_not_told_again_by_the_queue() -> None:
    one = engine()
    one.feed(queue(0, 0, 0))
    events = one.feed(
        LogChunk(AT, "server", b"Exception in thread Thread-1 (prompt_worker):\nValueError: odd\n", "comfyui")
    )
    events += one.feed(Tick(after(1)))
    for second in (2, 10, 18, 30):
        events += one.feed(queue(second, 3, 0))
    assert told(events)[0] == 1
