"""Failures that mean something together: an incident of its own, told once, over when nothing more comes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuwatch.core.correlation import Correlator
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, FailureCounted, IncidentChanged
from gpuwatch.core.incidents import Incident, Node
from gpuwatch.core.mutes import Mute, Mutes
from gpuwatch.core.observations import LogChunk, LogRestarted, Tick
from gpuwatch.core.rules import Correlate, Rule, RuleSet, rule_set
from gpuwatch.texts import Text, render

AT = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = Text("It failed {failure_count} times.", zh="失败 {failure_count} 次。")


def told_by(rule_id: str, label: Any, match: bytes, **more: Any) -> Rule:
    return Rule(rule_id, label, Text(rule_id, zh="字"), "error", WORDS, (match,), **more)


def together(label: Any = "repeated_failures", **wants: Any) -> Rule:
    correlate = Correlate(**{"within_seconds": 600.0, **wants})
    return Rule("together", label, Text("Together", zh="合"), "critical", WORDS, (), correlate=correlate)


OOM = told_by("oom", "cuda_oom", rb"out of memory", clear_after="success")
ILLEGAL = told_by("illegal", "illegal_memory_access", rb"illegal access", clear_after="restart")
BLAS = told_by("blas", "cublas_error", rb"CUBLAS")
XID = told_by("xid-app", "xid", rb"Xid")
PATTERNS = (OOM, ILLEGAL, BLAS, XID)
THREE = {"any_of": frozenset({"cuda_oom"}), "count": 3}
POISONED = {
    "after": frozenset({"illegal_memory_access"}),
    "any_of": frozenset({"illegal_memory_access", "blas"}),
    "standing": True,
    "same": "source",
}


class Story:
    """An engine that is told lines at times; each line is a failure that is over at once."""

    def __init__(self, rule: Rule, mutes: Mutes | None = None) -> None:
        self.engine = Engine(rule_set([*PATTERNS, rule]), correlates=True, mutes=mutes or Mutes())
        self.events: list[Event] = []

    def tell(self, seconds: float, line: bytes, source: str = "a.log", *, fresh: bool = True) -> Story:
        at = AT + timedelta(seconds=seconds)
        self.events += self.engine.feed(Tick(at))
        self.events += self.engine.feed(LogChunk(at, source, line + b"\n", fresh=fresh))
        self.events += self.engine.feed(LogRestarted(at, source))
        return self

    def tick(self, seconds: float) -> Story:
        self.events += self.engine.feed(Tick(AT + timedelta(seconds=seconds)))
        return self

    @property
    def found(self) -> list[Incident]:
        """Ours, each as it stands now."""
        latest: Mapping[str, Incident] = {
            event.incident.id: event.incident
            for event in self.events
            if isinstance(event, IncidentChanged) and event.incident.rule.id == "together"
        }
        return list(latest.values())

    def counted(self, label: str) -> int:
        return sum(e.failures for e in self.events if isinstance(e, FailureCounted) and e.label == label)


def test_so_many_within_the_time_are_one_incident_that_names_them() -> None:
    story = Story(together(**THREE))
    story.tell(0, b"out of memory, 1").tell(100, b"out of memory, 2")
    assert story.found == []
    story.tell(200, b"out of memory, 3").tell(300, b"out of memory, 4")
    (found,) = story.found
    members = {e.incident.id for e in story.events if isinstance(e, IncidentChanged) and e.incident.rule is OOM}
    assert set(found.members) == members
    assert found.label == "repeated_failures"
    assert found.facts == {"failure_count": 4, "span_seconds": 300.0}
    assert found.first_at == AT
    assert found.diagnosis is not None
    assert render(found.diagnosis.cause) == "It failed 4 times."
    assert render(found.diagnosis.evidence[0]) == "a.log:1: out of memory, 1"
    assert story.counted("repeated_failures") == 1
    assert story.counted("cuda_oom") == 4


def test_it_is_over_when_nothing_more_comes_and_begins_anew() -> None:
    story = Story(together(**THREE))
    for second in (0, 1, 2):
        story.tell(second, b"out of memory, %d" % second)
    story.tick(602)
    assert [one.state for one in story.found] == ["open"]
    story.tick(603)
    assert [one.state for one in story.found] == ["cleared"]
    story.tell(604, b"out of memory, 4").tell(605, b"out of memory, 5")
    assert len(story.found) == 1
    story.tell(606, b"out of memory, 6")
    assert [one.state for one in story.found] == ["cleared", "open"]
    assert story.counted("repeated_failures") == 2


def test_the_window_slides() -> None:
    story = Story(together(**THREE))
    for second in (0, 400, 800, 1200):
        story.tell(second, b"out of memory, %d" % second)
    assert story.found == []
    story.tell(1300, b"out of memory, last")
    assert len(story.found) == 1


def test_what_a_log_tells_at_once_is_one_failure() -> None:
    """The end of a crash says it again, and a log that is piped in whole has no times."""
    story = Story(together(**THREE))
    for number in range(9):
        story.tell(number / 10, b"out of memory, %d" % number)
    assert story.found == []
    story.tell(2, b"out of memory").tell(3, b"out of memory")
    assert len(story.found) == 1
    assert Story(together(**POISONED)).tell(0, b"illegal access").tell(0.1, b"illegal access, at exit").found == []


@pytest.mark.parametrize(
    ("same", "lines", "wanted"),
    [
        (None, [("a", b"out of memory"), ("b", b"out of memory"), ("c", b"out of memory")], 1),
        ("source", [("a", b"out of memory"), ("b", b"out of memory"), ("a", b"out of memory")], 0),
        ("source", [("a", b"out of memory"), ("b", b"Xid"), ("a", b"out of memory"), ("a", b"out of memory")], 1),
        ("node", [("a", b"out of memory")] * 3, 0),
    ],
)
def test_what_they_must_have_in_common(same: Any, lines: list[tuple[str, bytes]], wanted: int) -> None:
    story = Story(together(**THREE, same=same))
    for second, (source, line) in enumerate(lines):
        story.tell(second, line, source)
    assert len(story.found) == wanted


def test_one_of_each_in_any_order_across_sources() -> None:
    wants = {"all_of": (frozenset({"illegal_memory_access"}), frozenset({"xid-app"})), "within_seconds": 5.0}
    for first, second in (("illegal access", "Xid 31"), ("Xid 31", "illegal access")):
        story = Story(together(**wants)).tell(0, first.encode(), "a").tell(1, first.encode(), "a")
        assert story.found == []
        story.tell(4, second.encode(), "b")
        assert len(story.found) == 1
    assert Story(together(**wants)).tell(0, b"illegal access").tell(6, b"Xid 31", "b").found == []


def test_only_what_comes_after_counts() -> None:
    assert Story(together(**POISONED)).tell(0, b"CUBLAS").tell(1, b"illegal access").found == []
    assert len(Story(together(**POISONED)).tell(0, b"illegal access").tell(1, b"CUBLAS").found) == 1
    assert len(Story(together(**POISONED)).tell(0, b"illegal access 1").tell(1, b"illegal access 2").found) == 1


def test_what_is_over_no_longer_counts_where_it_must_stand() -> None:
    story = Story(together(**POISONED)).tell(0, b"illegal access 1")
    story.tell(10, b"Total VRAM 8188 MB, total RAM 32599 MB")
    story.tell(20, b"illegal access 2")
    assert story.found == []
    story.tell(30, b"illegal access 3")
    assert [one.state for one in story.found] == ["open"]
    story.tell(40, b"Total VRAM 8188 MB, total RAM 32599 MB")
    assert [one.state for one in story.found] == ["cleared"]


def test_what_was_there_before_we_came_and_what_is_muted_do_not_count() -> None:
    story = Story(together(**THREE))
    for second in range(4):
        story.tell(second, b"out of memory, %d" % second, fresh=False)
    assert story.found == []
    muted = Story(together(**THREE), Mutes((Mute(label="cuda_oom"),)))
    for second in range(4):
        muted.tell(second, b"out of memory, %d" % second)
    assert muted.found == []
    assert muted.counted("cuda_oom") == 4


def test_an_engine_that_is_not_told_to_does_not_look() -> None:
    engine = Engine(rule_set([*PATTERNS, together(**THREE)]))
    lines = b"".join(b"out of memory, %d\n" % number for number in range(9))
    events = [*engine.feed(LogChunk(AT, "a.log", lines)), *engine.end(AT)]
    assert {e.incident.rule.id for e in events if isinstance(e, IncidentChanged)} == {"oom"}


def test_memory_is_bounded() -> None:
    correlator = Correlator((together(**THREE, same="source"), together(**POISONED)))
    for number in range(5000):
        at = AT + timedelta(milliseconds=number)
        incident = Incident(f"i{number}", f"s{number}", ILLEGAL, "illegal_memory_access", "open", 1, "x", at, at)
        list(correlator.changed(incident))
        list(correlator.counted(incident.id, at))
    assert len(correlator._groups) <= 2 * 256
    assert len(correlator._known) <= 1000


def test_other_rules_take_over_and_what_was_found_still_ends() -> None:
    correlator = Correlator((together(**THREE),))

    def fail(number: int) -> list[tuple[Incident, bool]]:
        at = AT + timedelta(seconds=number)
        incident = Incident(f"i{number}", "a", OOM, "cuda_oom", "open", number, "x", at, at, node=Node(type="N"))
        list(correlator.changed(incident))
        return list(correlator.counted(incident.id, at))

    assert [len(fail(number)) for number in (1, 2)] == [0, 0]
    correlator.replace_rules((together(**THREE),))
    assert [new for _one, new in fail(3)] == [True]
    correlator.replace_rules(())
    assert [one.state for one in correlator.tick(AT + timedelta(seconds=700))] == ["cleared"]


def test_a_rule_set_keeps_both_kinds_apart() -> None:
    rules = RuleSet(PATTERNS).layered([together(**THREE)])
    assert list(rules) == list(PATTERNS)
    assert [rule.id for rule in rules.correlations] == ["together"]
    again = rules.layered([told_by("together", "cuda_oom", rb"x")])
    assert again.correlations == ()
    assert len(again) == len(PATTERNS) + 1
