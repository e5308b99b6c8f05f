"""Decides which rules match a record.

Where a rule may match is found over a whole stretch of log first; only there does its pattern run, under a time limit. A rule
that overruns it is set aside and reported, so that one bad pattern never holds up the log.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from gpuwatch.core.matching.alike import LONGEST_BYTES, remember, without_numbers
from gpuwatch.core.matching.compiled import Compiled, Kept, Patterns, Ready, Stopwatch
from gpuwatch.core.matching.nominate import Nominator, nominator_of
from gpuwatch.core.matching.scan import CountNewlines, Hit, Scan, count_newlines
from gpuwatch.core.rules import Rule, RuleSet, convert_fact
from gpuwatch.core.wrapping import PACKED, clean, is_dressed, unpacked

if TYPE_CHECKING:
    from gpuwatch.core.matching.probes import Probe

PATTERN_TIMEOUT_SECONDS = 0.25
_STRIKES = 3
_PACKED_PROBE = 0
"""The place of the probe that finds lines which docker wrapped."""
_NEWLINE = re.compile(b"\n")
_MOST_CANDIDATES = 512
_MOST_DECIDED = 1024
_Span = tuple[str, int, int, int, int]
"""A fact's name, where its words begin and end, and where the match does."""
Dump = tuple[bytes | None, dict[bytes, Kept]]
"""What is kept of a rule set made ready: what the nominator dumped, and the patterns."""


@dataclass(eq=False, frozen=True, slots=True)
class Candidates:
    """Rules that may speak of a record, each with those of its patterns that may match."""

    rules: tuple[tuple[Compiled, tuple[bytes, ...]], ...]
    alike: bool
    """Whether all that is asked of a record is the same for one that differs in its digits alone."""
    marked: bool
    """Whether a probe was found that stands for no rule's pattern: the line is to be read whatever the rules say."""


@dataclass(slots=True)
class Matcher:
    """A rule set made ready. `quarantined` names the rules that were set aside for taking too long."""

    rules: RuleSet
    dumped: InitVar[Dump | None] = None
    """What `dump` gave for the same rules before: a quicker start."""
    quarantined: set[str] = field(default_factory=set)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    _order: Mapping[str, int] = field(init=False)
    _compiled: dict[str, Compiled] = field(init=False)
    _owners: dict[int, tuple[Compiled, bytes]] = field(init=False)
    """By a probe's place the pattern that it stands for; of the others the line is to be read whatever the rules say."""
    _always: dict[Compiled, list[bytes]] = field(init=False)
    _nominator: Nominator = field(init=False)
    skips: bool = field(init=False)
    """Whether a line that no probe is found on can be left out unread."""
    _candidates: dict[frozenset[int], Candidates] = field(default_factory=dict)
    """By probes that were found on one line."""
    _decided: dict[tuple[Candidates, bytes], tuple[Rule, ...]] = field(default_factory=dict)
    """By a record's text, without numbers where that tells the same: the rules that match."""
    _spans: dict[tuple[Compiled, bytes], tuple[_Span, ...]] = field(default_factory=dict)
    """The same for where a rule's facts stand."""
    _facts_text: bytes = b""
    _facts: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)
    """By rule, the facts of the text that was asked about last: who places a failure asks twice."""
    _strikes: int = 0
    """How often any pattern overran the limit."""

    def __post_init__(self, dumped: Dump | None) -> None:
        probes, kept = dumped or (None, {})
        self._order = {rule.id: number for number, rule in enumerate(self.rules)}
        ready = Patterns(kept)
        self._compiled = {rule.id: Compiled(rule, ready) for rule in self.rules}
        self._owners = {}
        patterns: list[bytes] = []
        for rule in self.rules:
            for pattern in rule.match:
                patterns.append(pattern)
                self._owners[_PACKED_PROBE + len(patterns)] = self._compiled[rule.id], pattern
            if rule.clear_match is not None:
                patterns.append(rule.clear_match)
        self._nominator = nominator_of(lambda: _probes(patterns), probes)
        self.skips = not self._nominator.blind
        self._always = {}
        for place in sorted(self._nominator.blind):
            if (owner := self._owners.get(place)) is not None:
                self._always.setdefault(owner[0], []).append(owner[1])

    def dump(self) -> Dump:
        """What makes the next `Matcher` of these rules quicker to make and to use, on this machine."""
        asked = {
            pattern
            for rule in self.rules
            for pattern in (*rule.match, *rule.unless, *rule.facts, *filter(None, (rule.clear_match,)))
        }
        return self._nominator.dump(), Patterns().keep(sorted(asked))

    def scan(self, data: bytes, begin: int, end: int, count: CountNewlines = count_newlines) -> Scan:
        """Find where in whole lines a rule may match, a failure begins, or a condition may be over. Thread-safe.

        The lines are those from `begin` to `end`; what else stands in `data` is left alone.
        """
        newlines = count(data, begin, end)
        if not is_dressed(data):
            hits = self._nominator.hits(data)
            if end < len(data) or begin:
                hits = [hit for hit in hits if begin <= hit[0] < end]
            if all(number != _PACKED_PROBE for _, number in hits):
                return Scan(data, begin, end, newlines, hits, escaped=False, count=count)
        lines = data[begin:end]
        cleaned = clean(unpacked(lines))
        hits = [(begin + at, number) for at, number in _moved(self._nominator.hits(cleaned), cleaned, lines)]
        return Scan(data, begin, end, newlines, hits, escaped=True, count=count)

    def candidates(self, hits: Iterable[Hit]) -> Candidates:
        """The rules that these hits on one line nominate, and those that have to be tried everywhere."""
        places = frozenset([place for _, place in hits])
        candidates = self._candidates.get(places)
        if candidates is None:
            candidates = self._nominated(places)
            remember(self._candidates, places, candidates, _MOST_CANDIDATES)
        return candidates

    def matching(self, candidates: Candidates, text: bytes) -> Sequence[Rule]:
        """The candidates that match the record, vetoed and overridden ones left out, in the rule set's order."""
        if not candidates.rules:
            return ()
        key = candidates, without_numbers(text) if candidates.alike else text
        found = self._decided.get(key)
        if found is None:
            strikes = self._strikes
            found = self._deciding(candidates, text)
            if len(text) <= LONGEST_BYTES and strikes == self._strikes:
                remember(self._decided, key, found, _MOST_DECIDED)
        return found

    def matches(self, texts: Sequence[bytes]) -> dict[int, Sequence[Rule]]:
        """For each record of a batch that any rule matches: its place, and its rules, vetoed and overridden ones left out."""
        starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
        nominated: dict[int, list[Hit]] = {}
        for hit in self._nominator.hits(b"\n".join(texts)):
            nominated.setdefault(bisect_right(starts, hit[0]) - 1, []).append(hit)
        matched: dict[int, Sequence[Rule]] = {}
        for place in sorted(nominated) if not self._always else range(len(texts)):
            found = self.matching(self.candidates(nominated.get(place, ())), texts[place])
            if found:
                matched[place] = found
        return matched

    def facts(self, rule: Rule, text: bytes, *, across: int | None = None) -> list[tuple[str, Any]]:
        """The facts that the rule's patterns find in one record; a name may come more than once.

        With `across` only those whose words stand on both sides of that place.
        """
        if text is not self._facts_text:
            self._facts_text, self._facts = text, {}
        known = self._facts.get(rule.id) if across is None else None
        if known is None:
            known = self._facts_found(rule, text, across)
            if across is None:
                self._facts[rule.id] = known
        return known

    def _facts_found(self, rule: Rule, text: bytes, across: int | None) -> list[tuple[str, Any]]:
        facts: list[tuple[str, Any]] = []
        for name, begin, end, first, last in self._spans_of(self._compiled[rule.id], text):
            if across is None or first < across < last:
                value = convert_fact(name, text[begin:end])
                if value is not None:
                    facts.append((name, value))
        return facts

    def clears(self, rule_id: str, text: bytes) -> bool:
        """Whether the record says that what this rule found is over."""
        compiled = self._compiled.get(rule_id)
        clear = None if compiled is None else compiled.rule.clear_match
        return compiled is not None and clear is not None and self._any_found(compiled, (clear,), text, text.lower())

    def _nominated(self, places: Iterable[int]) -> Candidates:
        """The candidates whose probes these are."""
        nominated: dict[Compiled, set[bytes]] = {}
        owners = [self._owners.get(place) for place in places]
        for owner in owners:
            if owner is not None:
                nominated.setdefault(owner[0], set()).add(owner[1])
        for compiled, patterns in self._always.items():
            nominated.setdefault(compiled, set()).update(patterns)
        asked = (
            compiled.pattern(pattern)
            for compiled, patterns in nominated.items()
            for pattern in (*patterns, *compiled.rule.unless)
        )
        alike = all(ready.alike for ready in asked)
        rules = tuple((compiled, tuple(patterns)) for compiled, patterns in nominated.items())
        return Candidates(rules, alike, None in owners)

    def _deciding(self, candidates: Candidates, text: bytes) -> tuple[Rule, ...]:
        lowered = text.lower()
        found = [
            compiled.rule
            for compiled, patterns in candidates.rules
            if self._any_found(compiled, patterns, text, lowered)
            and not self._any_found(compiled, compiled.rule.unless, text, lowered)
        ]
        if len(found) > 1:
            found = [rule for rule in found if not any(other.beats(rule) for other in found)]
            found.sort(key=lambda rule: self._order[rule.id])
        return tuple(found)

    def _any_found(self, compiled: Compiled, patterns: Iterable[bytes], text: bytes, lowered: bytes) -> bool:
        for pattern in patterns:
            ready = compiled.pattern(pattern)
            if ready.may_match(text, lowered) and next(self._finditer(compiled, ready, text), None) is not None:
                return True
        return False

    def _spans_of(self, compiled: Compiled, text: bytes) -> tuple[_Span, ...]:
        """Where the rule's facts stand in the record."""
        lowered = text.lower()
        worth = [ready for ready in compiled.facts if ready.may_match(text, lowered)]
        if not worth:
            return ()
        key = compiled, without_numbers(text) if compiled.facts_alike else text
        spans = self._spans.get(key)
        if spans is None:
            strikes = self._strikes
            spans = tuple(
                (name, *found.span(name), *found.span())
                for ready in worth
                for found in self._finditer(compiled, ready, text)
                for name in ready.pattern.groupindex
                if found.start(name) >= 0
            )
            if len(text) <= LONGEST_BYTES and strikes == self._strikes:
                remember(self._spans, key, spans, _MOST_DECIDED)
        return spans

    def _finditer(self, compiled: Compiled, ready: Ready, text: bytes) -> Iterator[Any]:
        if compiled.rule.id in self.quarantined:
            return
        found = ready.pattern.finditer(text, timeout=PATTERN_TIMEOUT_SECONDS, concurrent=True)
        try:
            if self.stopwatch.clock is None:
                yield from found
            else:
                yield from self.stopwatch.timed(compiled.rule.id, found, self.stopwatch.clock)
        except TimeoutError:
            self._strikes += 1
            compiled.strikes += 1
            if compiled.strikes >= _STRIKES:
                self.quarantined.add(compiled.rule.id)
                self._decided.clear()
                self._spans.clear()


def _probes(patterns: Iterable[bytes]) -> list[Probe]:
    """What to look for: lines that docker wrapped, what stands for the patterns, and what begins a failure."""
    # What decides that is loaded only where it is not ready yet, in the rules' cache.
    from gpuwatch.core.blocks import RESTART, marks_of_beginnings  # noqa: PLC0415
    from gpuwatch.core.matching.probes import Probe, probe_of  # noqa: PLC0415

    packed, *marks = (Probe(frozenset({mark}), folds=False) for mark in (PACKED, *sorted(marks_of_beginnings())))
    marks.append(Probe(frozenset({RESTART[0]}), RESTART[1], folds=False))
    return [packed, *map(probe_of, patterns), *marks]


def _moved(hits: Sequence[Hit], cleaned: bytes, lines: bytes) -> list[Hit]:
    """Hits in lines without escape sequences -> the begins of the same lines as they were printed."""
    if not hits:
        return []
    begins = [0, *(found.end() for found in _NEWLINE.finditer(lines))]
    moved, counted, line = [], 0, 0
    for offset, number in hits:
        line += cleaned.count(b"\n", counted, offset)
        counted = offset
        moved.append((begins[line], number))
    return moved
