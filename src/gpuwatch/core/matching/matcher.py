"""Decides which rules match a record.

The literals that rules require are looked for in a whole batch of records first; only where they stand does a rule's pattern
run, under a time limit. A rule that overruns it is set aside and reported, so that one bad pattern never holds up the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import regex

from gpuwatch.core.blocks import marks_of_shape
from gpuwatch.core.matching.literals import required_literals
from gpuwatch.core.matching.nominate import Nominator, nominator_of
from gpuwatch.core.records import clean
from gpuwatch.core.rules import Rule, RuleSet, convert_fact

PATTERN_TIMEOUT_SECONDS = 0.25
_STRIKES = 3


@dataclass(slots=True)
class Compiled:
    """A rule with its patterns compiled."""

    rule: Rule
    match: tuple[Any, ...]
    unless: tuple[Any, ...]
    facts: tuple[Any, ...]
    clear: Any | None
    strikes: int = 0


@dataclass(slots=True)
class Matcher:
    """A rule set made ready. `quarantined` names the rules that were set aside for taking too long."""

    rules: RuleSet
    quarantined: set[str] = field(default_factory=set)
    _order: Mapping[str, int] = field(init=False)
    _compiled: dict[str, Compiled] = field(init=False)
    _by_literal: tuple[tuple[Compiled, ...], ...] = field(init=False)
    _always: tuple[Compiled, ...] = field(init=False)
    _nominator: Nominator = field(init=False)

    def __post_init__(self) -> None:
        self._order = {rule.id: number for number, rule in enumerate(self.rules)}
        by_literal: dict[bytes, list[Compiled]] = {}
        always: list[Compiled] = []
        self._compiled = {}
        for rule in self.rules:
            compiled = compile_rule(rule)
            self._compiled[rule.id] = compiled
            sets = [required_literals(pattern) for pattern in rule.match]
            if all(sets):
                for literal in frozenset().union(*sets):
                    by_literal.setdefault(literal, []).append(compiled)
            else:
                always.append(compiled)
        for literal in marks_of_shape():
            by_literal.setdefault(literal, [])
        self._by_literal = tuple(tuple(compiled) for compiled in by_literal.values())
        self._always = tuple(always)
        self._nominator = nominator_of(tuple(by_literal))

    @property
    def skips(self) -> bool:
        """Whether a line that holds none of the literals can be left out unread."""
        return not self._always

    def telling_lines(self, lines: bytes) -> dict[int, list[Compiled]]:
        """The lines, counted from 0, that a rule may speak of or that shape the log, and the rules that may speak of each."""
        nominated = self._nominator.nominate_lines(clean(lines))
        return {
            line: list({c.rule.id: c for literal in literals for c in self._by_literal[literal]}.values())
            for line, literals in nominated.items()
        }

    def matching(self, candidates: Iterable[Compiled], text: bytes) -> list[Rule]:
        """The candidates that match the record, vetoed and overridden ones left out, in the rule set's order."""
        found = [c.rule for c in candidates if self._decides(c, text)]
        if len(found) > 1:
            found = [rule for rule in found if not any(other.beats(rule) for other in found)]
            found.sort(key=lambda rule: self._order[rule.id])
        return found

    def matches(self, texts: Sequence[bytes]) -> dict[int, list[Rule]]:
        """For each record of a batch that any rule matches: its place, and its rules, vetoed and overridden ones left out."""
        nominated = self._nominator.nominate(texts)
        matched: dict[int, list[Rule]] = {}
        for place in sorted(nominated) if self.skips else range(len(texts)):
            candidates = {c.rule.id: c for c in self._always}
            for literal in nominated.get(place, ()):
                candidates.update((c.rule.id, c) for c in self._by_literal[literal])
            found = self.matching(candidates.values(), texts[place])
            if found:
                matched[place] = found
        return matched

    def facts(self, rule: Rule, text: bytes) -> Iterator[tuple[str, Any]]:
        """The facts that the rule's patterns find in one record; a name may come more than once."""
        compiled = self._compiled[rule.id]
        for pattern in compiled.facts:
            for found in self._finditer(compiled, pattern, text):
                for name, raw in found.groupdict().items():
                    value = None if raw is None else convert_fact(name, raw)
                    if value is not None:
                        yield name, value

    def clears(self, rule_id: str, text: bytes) -> bool:
        """Whether the record says that what this rule found is over."""
        compiled = self._compiled.get(rule_id)
        return compiled is not None and compiled.clear is not None and self._search(compiled, compiled.clear, text)

    def _decides(self, compiled: Compiled, text: bytes) -> bool:
        return any(self._search(compiled, pattern, text) for pattern in compiled.match) and not any(
            self._search(compiled, pattern, text) for pattern in compiled.unless
        )

    def _search(self, compiled: Compiled, pattern: Any, text: bytes) -> bool:
        return next(self._finditer(compiled, pattern, text), None) is not None

    def _finditer(self, compiled: Compiled, pattern: Any, text: bytes) -> Iterator[Any]:
        if compiled.rule.id in self.quarantined:
            return
        try:
            yield from pattern.finditer(text, timeout=PATTERN_TIMEOUT_SECONDS, concurrent=True)
        except TimeoutError:
            compiled.strikes += 1
            if compiled.strikes >= _STRIKES:
                self.quarantined.add(compiled.rule.id)


def compile_rule(rule: Rule) -> Compiled:
    """Compile a rule's patterns. Raises `regex.error`, which the rulebook has ruled out before."""
    return Compiled(
        rule,
        match=compile_all(rule.match),
        unless=compile_all(rule.unless),
        facts=compile_all(rule.facts),
        clear=regex.compile(rule.clear_match) if rule.clear_match else None,
    )


def compile_all(patterns: Iterable[bytes]) -> tuple[Any, ...]:
    """Compile bytes patterns with the `regex` module."""
    return tuple(regex.compile(pattern) for pattern in patterns)
