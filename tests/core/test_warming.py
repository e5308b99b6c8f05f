"""What is loaded ahead changes nothing that is told."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.rules import rule_set
from gpuwatch.core.warming import warm_up

AT = datetime(2026, 1, 1, tzinfo=UTC)
FAILURE = LogChunk(AT, "log", b"RuntimeError: CUDA error: an illegal memory access was encountered\n")


def told(engine: Engine) -> list[Event]:
    return [*engine.feed(FAILURE), *engine.end(AT)]


def test_what_was_played_is_told_to_nobody_and_changes_no_answer() -> None:
    rules = load_rules()
    cold, warm = (Engine(rules, load_workloads(), ready=Matcher(rules), correlates=True) for _ in range(2))
    warm.matcher.stopwatch.clock = count().__next__
    warm_up(warm)
    assert warm.matcher._decided  # something was played to these rules
    assert warm.matcher.stopwatch.seconds == {}
    assert not warm.matcher.quarantined
    warm.matcher.stopwatch.clock = None
    assert told(warm) == told(cold)


def test_a_person_may_have_no_rules_at_all() -> None:
    engine = Engine(rule_set([]))
    warm_up(engine)
    assert engine.end(AT) == []
