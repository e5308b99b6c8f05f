"""What a person muted: found as ever, marked, left out of what is active, and never heard by what looks at several failures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.adapters.rule_patterns import complaint
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import FailureCounted, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.mutes import Mute, Mutes, line_pattern
from gpuwatch.core.observations import LogChunk, LogRestarted, Tick
from gpuwatch.core.reloads import MutesLoaded, MutesRefused, RulesLoaded, RulesRefused
from gpuwatch.core.rules import Rule, RuleSet
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.texts import Text, plain

AT = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = Text("Words.", zh="字。")
OOM = Rule(
    "oom", "cuda_oom", WORDS, "error", WORDS, (rb"out of memory",), facts=(rb"Tried (?P<tried_bytes>\d+ MiB)",), ahead=3,
    clear_match=rb"all well",
)  # fmt: skip
NAN = Rule("nan", "nan_output", WORDS, "warning", WORDS, (rb"NaN",))
RULES = RuleSet((OOM, NAN))


def incident(text: str = "out of memory, 3", source: str = "a.log") -> Incident:
    return Incident("i", source, OOM, "cuda_oom", "open", 1, text, AT, AT)


@pytest.mark.parametrize(
    ("mute", "wanted"),
    [
        (Mute(rule="oom"), True),
        (Mute(rule="nan"), False),
        (Mute(label="cuda_oom"), True),
        (Mute(label="hip_oom"), False),
        (Mute(pattern=rb"memory, \d"), True),
        (Mute(pattern=rb"memory; \d"), False),
        (Mute(rule="oom", source="a.log"), True),
        (Mute(rule="oom", source="b.log"), False),
        (Mute(rule="oom", until=AT), False),
        (Mute(rule="oom", until=AT + timedelta(seconds=1)), True),
    ],
)
def test_an_entry_speaks_of_what_it_says(mute: Mute, wanted: bool) -> None:
    assert (Mutes((mute,)).mute_of(incident(), AT) is mute) == wanted


def test_a_pattern_that_takes_too_long_is_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.core.mutes.PATTERN_TIMEOUT_SECONDS", 0.001)
    slow, quick = Mute(pattern=rb"(?:a|a)+b"), Mute(label="cuda_oom")
    mutes = Mutes((slow, quick))
    for _time in range(3):
        assert mutes.set_aside == ()
        assert mutes.mute_of(incident("a" * 2000), AT) is quick
    assert mutes.set_aside == (slow,)


@given(st.text(max_size=400))
def test_the_pattern_for_lines_like_this_finds_the_line(line: str) -> None:
    line = " ".join(line.splitlines())
    pattern = line_pattern(line).encode()
    assert regex.compile(pattern).search(line.encode(), timeout=5) is not None
    if line.strip():
        assert complaint(line_pattern(line)) is None


def test_a_mute_that_is_set_aside_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.core.mutes.PATTERN_TIMEOUT_SECONDS", 0.001)
    world = World(Mutes((Mute(pattern=rb"(?:a|a)+b", where="mutes.yaml:7"),)))
    for number in range(3):
        world.tell(b"out of memory " + b"a" * (2000 + number))
    assert world.snapshot.quarantined == {"mutes.yaml:7"}
    assert world.muted == [False] * 3


def test_lines_like_this_have_other_numbers_and_the_same_words() -> None:
    pattern = regex.compile(line_pattern("MyNode [7]: 1.5 GiB at 0x7f00?").encode())
    assert pattern.search(b"MyNode [8]: 22 GiB at 0xbeef?")
    assert not pattern.search(b"MyNode [8]: 22 MiB at 0xbeef?")
    assert not pattern.search(b"say: MyNode [8]: 22 GiB at 0xbeef?")


class World:
    """An engine and the snapshot after what it said."""

    def __init__(self, mutes: Mutes | None = None) -> None:
        self.engine = Engine(RULES, mutes=mutes or Mutes())
        self.snapshot = Snapshot(mutes=self.engine.explainer.mutes)
        self.counted: list[FailureCounted] = []

    def feed(self, observation: Any) -> World:
        for event in self.engine.feed(observation):
            self.snapshot = self.snapshot.after(event)
            if isinstance(event, FailureCounted):
                self.counted.append(event)
        return self

    def tell(self, line: bytes, seconds: float = 0) -> World:
        at = AT + timedelta(seconds=seconds)
        return self.feed(LogChunk(at, "a.log", line + b"\n")).feed(LogRestarted(at, "a.log"))

    @property
    def muted(self) -> list[bool]:
        return [one.muted for one in self.snapshot.incidents.values()]


def test_a_muted_failure_is_counted_twice_and_not_active() -> None:
    world = World(Mutes((Mute(rule="oom"),))).tell(b"out of memory").tell(b"NaN")
    assert world.muted == [True, False]
    assert world.snapshot.failures_total == {("cuda_oom", "error"): 1, ("nan_output", "warning"): 1}
    assert world.snapshot.muted_total == {"cuda_oom": 1}
    assert world.snapshot.standing == {"nan_output": 1}
    assert [event.muted for event in world.counted] == [True, False]


def test_new_mutes_hold_for_what_is_there_already_and_go_again() -> None:
    world = World().tell(b"out of memory")
    assert world.muted == [False]
    world.feed(MutesLoaded(AT, Mutes((Mute(rule="oom"),))))
    assert world.muted == [True]
    world.tell(b"out of memory, again")
    assert world.muted == [True, True]
    world.feed(MutesRefused(AT, plain("mutes.yaml:1: no")))
    assert world.muted == [True, True]
    assert world.snapshot.mutes_reload is not None
    assert world.snapshot.mutes_reload.refused is not None
    world.feed(MutesLoaded(AT, Mutes()))
    assert world.muted == [False, False]
    assert world.snapshot.mutes_reload is not None
    assert world.snapshot.mutes_reload.refused is None
    assert world.snapshot.muted_total == {"cuda_oom": 1}, "what was muted when it was counted stays so"


def test_a_mute_ends_by_itself() -> None:
    world = World(Mutes((Mute(rule="oom", until=AT + timedelta(seconds=10)),))).tell(b"out of memory")
    assert world.feed(Tick(AT + timedelta(seconds=9))).muted == [True]
    assert world.feed(Tick(AT + timedelta(seconds=10))).muted == [False]
    assert world.snapshot.standing["cuda_oom"] == 1


# -- other rules -----------------------------------------------------------------------------------------------------------


def loaded(*rules: Rule) -> RulesLoaded:
    ready = RuleSet(rules)
    return RulesLoaded(AT, ready, Matcher(ready))


def test_new_rules_hold_from_the_next_record_and_what_is_open_keeps_its_own() -> None:
    world = World()
    world.feed(LogChunk(AT, "a.log", b"out of memory\n"))
    world.feed(loaded(Rule("nan", "nan_output", WORDS, "critical", WORDS, (rb"not a number",))))
    world.feed(LogChunk(AT, "a.log", b"Tried 7 MiB\nout of memory\nNaN\nnot a number\n"))
    world.feed(LogRestarted(AT, "a.log"))
    oom, nan = world.snapshot.incidents.values()
    assert (oom.rule, oom.facts, oom.count) == (OOM, {"tried_bytes": 7 << 20}, 1)
    assert (nan.rule.severity, nan.text) == ("critical", "not a number")
    assert world.snapshot.rules is world.engine.rules
    world.feed(LogChunk(AT, "a.log", b"...\n...\nall well\n"))
    assert world.snapshot.incidents[oom.id].state == "cleared"


def test_many_changes_of_the_rules_are_lived_through() -> None:
    world = World().tell(b"out of memory")
    for _change in range(10):
        world.feed(loaded(NAN))
    world.tell(b"all well, and NaN")
    assert [one.rule.id for one in world.snapshot.incidents.values()] == ["oom", "nan"]
    assert len(world.engine.matcher.matchers) == 4  # type: ignore[attr-defined]


def test_a_refused_change_leaves_everything_and_says_why() -> None:
    world = World().feed(loaded(OOM)).feed(RulesRefused(AT + timedelta(seconds=1), plain("a.yaml:3: no")))
    reload = world.snapshot.rules_reload
    assert reload is not None
    assert reload.refused == plain("a.yaml:3: no")
    assert reload.succeeded_at == AT
    world.tell(b"out of memory")
    assert len(world.snapshot.incidents) == 1


def test_quarantine_begins_anew_with_new_rules() -> None:
    world = World()
    world.engine.matcher.quarantined.add("oom")
    assert world.feed(Tick(AT)).snapshot.quarantined == {"oom"}
    assert world.feed(loaded(OOM)).snapshot.quarantined == frozenset()


def test_a_rules_time_is_measured_where_there_is_a_clock_and_goes_on_with_new_rules() -> None:
    world = World().tell(b"out of memory")
    assert world.engine.matcher.stopwatch.seconds == {}
    world.engine.matcher.stopwatch.clock = count().__next__
    world.tell(b"out of memory, again")
    before = world.engine.matcher.stopwatch.seconds["oom"]
    assert before >= 1
    world.feed(loaded(OOM)).tell(b"out of memory")
    assert world.engine.matcher.stopwatch.seconds["oom"] > before


def test_the_incident_says_that_it_is_muted() -> None:
    engine = Engine(RULES, mutes=Mutes((Mute(rule="oom", note="known"),)))
    events = [*engine.feed(LogChunk(AT, "a.log", b"out of memory\n")), *engine.end(AT)]
    (told,) = {event.incident.mute for event in events if isinstance(event, IncidentChanged)}
    assert told is not None
    assert told.note == "known"
