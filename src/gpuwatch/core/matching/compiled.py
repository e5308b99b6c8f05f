"""A rule's patterns made ready when they are first tried, and how long they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.core.matching.alike import takes_digits_alike
from gpuwatch.core.rules import Rule

_MOST_LITERALS = 8
"""To look for more takes longer than to try the pattern."""


@dataclass(slots=True)
class Ready:
    """One pattern, compiled when it is first tried: most are ruled out by what every match must hold."""

    source: bytes
    literals: tuple[bytes, ...]
    """One of them stands in every match; none where none is known. In lower case where letters may be in either."""
    folds: bool
    alike: bool
    """Whether it takes every digit where it takes one."""
    _pattern: Any = None

    @property
    def pattern(self) -> Any:
        """The compiled one. Raises `regex.error`, which the rulebook has ruled out before."""
        if self._pattern is None:
            import regex  # noqa: PLC0415 - where no line may match, none is compiled

            self._pattern = regex.compile(self.source)
        return self._pattern

    def may_match(self, text: bytes, lowered: bytes) -> bool:
        """Whether a literal stands in the text, or in it in lower case: to look for it is quicker than to try the pattern."""
        if self.folds:
            text = lowered
        for literal in self.literals:  # a loop, for a generator costs more than what it does here
            if literal in text:
                return True
        return not self.literals


@dataclass(eq=False, slots=True)
class Compiled:
    """A rule whose patterns are made ready when they are first asked for: of five hundred, a log meets a few."""

    rule: Rule
    strikes: int = 0
    _made: dict[bytes, Ready] = field(default_factory=dict)
    _facts: tuple[Ready, ...] | None = None
    _facts_alike: bool | None = None

    def pattern(self, source: bytes) -> Ready:
        """One of the rule's patterns."""
        made = self._made.get(source)
        if made is None:
            from gpuwatch.core.matching.literals import folds_case, required_literals  # noqa: PLC0415 - as in Ready

            folds = folds_case(source)
            literals = required_literals(source)
            kept = [literal.lower() if folds else literal for literal in literals if len(literals) <= _MOST_LITERALS]
            made = self._made[source] = Ready(source, tuple(kept), folds, takes_digits_alike(source))
        return made

    @property
    def facts(self) -> tuple[Ready, ...]:
        """The patterns that take facts."""
        if self._facts is None:
            self._facts = tuple(self.pattern(source) for source in self.rule.facts)
        return self._facts

    @property
    def facts_alike(self) -> bool:
        """Whether they stand at the same places in a line that differs in its digits alone."""
        if self._facts_alike is None:
            self._facts_alike = all(ready.alike for ready in self.facts)
        return self._facts_alike


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
