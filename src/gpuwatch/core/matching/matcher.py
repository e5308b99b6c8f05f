"""Decides which rules match a record.

Where a rule may match is found over a whole stretch of log first; only there does its pattern run, under a time limit. A rule
that overruns it is set aside and reported, so that one bad pattern never holds up the log.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from itertools import accumulate
from typing import Any

import regex

from gpuwatch.core.blocks import RESTART, marks_of_beginnings
from gpuwatch.core.matching.literals import folds_case, required_literals
from gpuwatch.core.matching.nominate import Nominator, nominator_of
from gpuwatch.core.matching.probes import Probe, probe_of
from gpuwatch.core.matching.scan import CountNewlines, Hit, Scan, count_newlines
from gpuwatch.core.records import PACKED, clean, unpacked
from gpuwatch.core.rules import Rule, RuleSet, convert_fact

PATTERN_TIMEOUT_SECONDS = 0.25
_STRIKES = 3
_PACKED_PROBE = 0
"""The place of the probe that finds lines which docker wrapped."""
_NEWLINE = re.compile(b"\n")


_Ready = tuple[Any, tuple[bytes, ...]]
"""A compiled pattern, and literals one of which stands in every match; none where none is known."""


@dataclass(eq=False, slots=True)
class Compiled:
    """A rule whose patterns are compiled when they are first tried: of five hundred, a log meets a few."""

    rule: Rule
    strikes: int = 0
    _made: dict[bytes, _Ready] = field(default_factory=dict)
    _facts: tuple[_Ready, ...] | None = None

    def pattern(self, source: bytes) -> _Ready:
        """One of the rule's patterns. Raises `regex.error`, which the rulebook has ruled out before."""
        made = self._made.get(source)
        if made is None:
            literals = () if folds_case(source) else tuple(required_literals(source))
            made = self._made[source] = regex.compile(source), literals
        return made

    @property
    def facts(self) -> tuple[_Ready, ...]:
        """The patterns that take facts."""
        if self._facts is None:
            self._facts = tuple(self.pattern(source) for source in self.rule.facts)
        return self._facts


@dataclass(slots=True)
class Stopwatch:
    """How long rules' patterns took. The clock is whoever's who wants to know; without one nothing is measured."""

    clock: Callable[[], float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """By rule, those that were tried, in the order in which they first were."""

    def timed(self, rule_id: str, found: Iterator[Any], clock: Callable[[], float]) -> Iterator[Any]:
        """The matches; the searches between them are timed, also one that raises."""
        while True:
            started = clock()
            try:
                match = next(found, None)
            finally:
                self.seconds[rule_id] = self.seconds.get(rule_id, 0.0) + clock() - started
            if match is None:
                return
            yield match


Candidates = Mapping[Compiled, Collection[bytes]]
"""Rules that may speak of a record, each with those of its patterns that may match."""


@dataclass(slots=True)
class Matcher:
    """A rule set made ready. `quarantined` names the rules that were set aside for taking too long."""

    rules: RuleSet
    dumped: InitVar[bytes | None] = None
    """What `dump` gave for the same rules before: a quicker start."""
    quarantined: set[str] = field(default_factory=set)
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    _order: Mapping[str, int] = field(init=False)
    _compiled: dict[str, Compiled] = field(init=False)
    _owners: tuple[tuple[Compiled, bytes] | None, ...] = field(init=False)
    """For each probe the pattern that it stands for; None where its line is to be read whatever the rules say."""
    _always: dict[Compiled, list[bytes]] = field(init=False)
    _nominator: Nominator = field(init=False)
    skips: bool = field(init=False)
    """Whether a line that no probe is found on can be left out unread."""

    def __post_init__(self, dumped: bytes | None) -> None:
        self._order = {rule.id: number for number, rule in enumerate(self.rules)}
        self._compiled = {rule.id: Compiled(rule) for rule in self.rules}
        marks = [Probe(frozenset({mark}), folds=False) for mark in (PACKED, *sorted(marks_of_beginnings()))]
        marks.append(Probe(frozenset({RESTART[0]}), RESTART[1], folds=False))
        owners: list[tuple[Compiled, bytes] | None] = [None] * len(marks)
        patterns: list[bytes] = []
        for rule in self.rules:
            patterns += rule.match
            owners += [(self._compiled[rule.id], pattern) for pattern in rule.match]
            if rule.clear_match is not None:
                patterns.append(rule.clear_match)
                owners.append(None)
        self._owners = tuple(owners)
        self._nominator = nominator_of(lambda: [*marks, *map(probe_of, patterns)], dumped)
        self.skips = not self._nominator.blind
        self._always = {}
        for place in sorted(self._nominator.blind):
            if (owner := owners[place]) is not None:
                self._always.setdefault(owner[0], []).append(owner[1])

    def dump(self) -> bytes | None:
        """What makes the next `Matcher` of these rules quicker to make, on this machine; None where nothing does."""
        return self._nominator.dump()

    def scan(self, lines: bytes, count: CountNewlines = count_newlines) -> Scan:
        """Find in whole lines where a rule may match, a failure begins, or a condition may be over. Thread-safe."""
        newlines = count(lines, 0, len(lines))
        if b"\x1b" not in lines:
            hits = self._nominator.hits(lines)
            if all(number != _PACKED_PROBE for _, number in hits):
                return Scan(lines, newlines, hits, escaped=False, count=count)
        cleaned = clean(unpacked(lines))
        return Scan(lines, newlines, _moved(self._nominator.hits(cleaned), cleaned, lines), escaped=True, count=count)

    def candidates(self, hits: Iterable[Hit]) -> dict[Compiled, set[bytes]]:
        """The rules that these hits nominate."""
        candidates: dict[Compiled, set[bytes]] = {}
        for _, number in hits:
            if (owner := self._owners[number]) is not None:
                candidates.setdefault(owner[0], set()).add(owner[1])
        return candidates

    def matching(self, candidates: Candidates, text: bytes) -> list[Rule]:
        """The candidates that match the record, vetoed and overridden ones left out, in the rule set's order."""
        found = [compiled.rule for compiled, patterns in candidates.items() if self._decides(compiled, patterns, text)]
        if len(found) > 1:
            found = [rule for rule in found if not any(other.beats(rule) for other in found)]
            found.sort(key=lambda rule: self._order[rule.id])
        return found

    def matches(self, texts: Sequence[bytes]) -> dict[int, list[Rule]]:
        """For each record of a batch that any rule matches: its place, and its rules, vetoed and overridden ones left out."""
        starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
        nominated: dict[int, list[Hit]] = {}
        for hit in self._nominator.hits(b"\n".join(texts)):
            nominated.setdefault(bisect_right(starts, hit[0]) - 1, []).append(hit)
        matched: dict[int, list[Rule]] = {}
        for place in sorted(nominated) if not self._always else range(len(texts)):
            candidates = self.candidates(nominated.get(place, ()))
            for compiled, patterns in self._always.items():
                candidates.setdefault(compiled, set()).update(patterns)
            found = self.matching(candidates, texts[place])
            if found:
                matched[place] = found
        return matched

    def facts(self, rule: Rule, text: bytes, *, across: int | None = None) -> list[tuple[str, Any]]:
        """The facts that the rule's patterns find in one record; a name may come more than once.

        With `across` only those whose words stand on both sides of that place.
        """
        compiled = self._compiled[rule.id]
        facts: list[tuple[str, Any]] = []
        for ready in compiled.facts:
            if not _may_match(ready, text):
                continue
            for found in self._finditer(compiled, ready, text):
                if across is not None and not found.start() < across < found.end():
                    continue
                for name, raw in found.groupdict().items():
                    value = None if raw is None else convert_fact(name, raw)
                    if value is not None:
                        facts.append((name, value))
        return facts

    def clears(self, rule_id: str, text: bytes) -> bool:
        """Whether the record says that what this rule found is over."""
        compiled = self._compiled.get(rule_id)
        clear = None if compiled is None else compiled.rule.clear_match
        return compiled is not None and clear is not None and self._search(compiled, clear, text)

    def _decides(self, compiled: Compiled, patterns: Iterable[bytes], text: bytes) -> bool:
        return any(self._search(compiled, pattern, text) for pattern in patterns) and not any(
            self._search(compiled, pattern, text) for pattern in compiled.rule.unless
        )

    def _search(self, compiled: Compiled, pattern: bytes, text: bytes) -> bool:
        ready = compiled.pattern(pattern)
        return _may_match(ready, text) and next(self._finditer(compiled, ready, text), None) is not None

    def _finditer(self, compiled: Compiled, ready: _Ready, text: bytes) -> Iterator[Any]:
        if compiled.rule.id in self.quarantined:
            return
        found = ready[0].finditer(text, timeout=PATTERN_TIMEOUT_SECONDS, concurrent=True)
        try:
            if self.stopwatch.clock is None:
                yield from found
            else:
                yield from self.stopwatch.timed(compiled.rule.id, found, self.stopwatch.clock)
        except TimeoutError:
            compiled.strikes += 1
            if compiled.strikes >= _STRIKES:
                self.quarantined.add(compiled.rule.id)


def _may_match(ready: _Ready, text: bytes) -> bool:
    """Whether a literal that the pattern requires stands in the text: to look for it is quicker than to try the pattern."""
    literals = ready[1]
    for literal in literals:  # a loop, for a generator costs more than what it does here
        if literal in text:
            return True
    return not literals


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
