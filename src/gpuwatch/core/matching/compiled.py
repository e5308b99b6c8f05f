"""A rule's patterns made ready when they are first tried, and how long they take."""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.core.rules import Rule

_MOST_LITERALS = 8
"""To look for more takes longer than to try the pattern."""

Kept = tuple[tuple[bytes, ...], bool, bool, bytes]
"""What is kept of a pattern for a later start: its literals, whether it folds, whether it takes digits alike, and the compiled one
as `regex` pickles it."""


@dataclass(slots=True)
class Ready:
    """One pattern, compiled when it is first tried: most are ruled out by what every match must hold."""

    source: bytes
    literals: tuple[bytes, ...]
    """One of them stands in every match; none where none is known. In lower case where letters may be in either."""
    folds: bool
    alike: bool
    """Whether it takes every digit where it takes one."""
    packed: bytes = b""
    """The compiled one as an earlier run kept it."""
    _pattern: Any = None

    @property
    def pattern(self) -> Any:
        """The compiled one. Raises `regex.error`, which the rulebook has ruled out before."""
        if self._pattern is None and self.packed:
            with contextlib.suppress(
                pickle.UnpicklingError, EOFError, ImportError, AttributeError, TypeError, ValueError
            ):
                self._pattern = _Unpacker(io.BytesIO(self.packed)).load()
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


class _Unpacker(pickle.Unpickler):
    """Reads back a compiled pattern and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What makes a pattern of its compiled form; anything else is refused."""
        if (module, name) == ("regex._regex", "compile"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


@dataclass(slots=True)
class Patterns:
    """Patterns made ready when they are first asked for: of a thousand, a log meets a few."""

    kept: Mapping[bytes, Kept] = field(default_factory=dict)
    """What `keep` gave before, of the same patterns."""
    _made: dict[bytes, Ready] = field(default_factory=dict)

    def ready(self, source: bytes) -> Ready:
        """A pattern."""
        made = self._made.get(source)
        if made is None:
            kept = self.kept.get(source)
            made = self._made[source] = _made_ready(source) if kept is None else Ready(source, *kept)
        return made

    def keep(self, sources: Iterable[bytes]) -> dict[bytes, Kept]:
        """What makes these patterns ready sooner the next time, where `regex` is the same."""
        every = map(self.ready, sources)
        return {
            ready.source: (ready.literals, ready.folds, ready.alike, pickle.dumps(ready.pattern)) for ready in every
        }


def _made_ready(source: bytes) -> Ready:
    # What decides that is loaded only where an earlier run has not kept it, in the rules' cache.
    from gpuwatch.core.matching.alike import takes_digits_alike  # noqa: PLC0415
    from gpuwatch.core.matching.literals import folds_case, required_literals  # noqa: PLC0415

    folds = folds_case(source)
    literals = required_literals(source)
    kept = [literal.lower() if folds else literal for literal in sorted(literals) if len(literals) <= _MOST_LITERALS]
    return Ready(source, tuple(kept), folds, takes_digits_alike(source))


@dataclass(eq=False, slots=True)
class Compiled:
    """A rule with its patterns."""

    rule: Rule
    patterns: Patterns
    strikes: int = 0
    _facts: tuple[Ready, ...] | None = None
    _facts_alike: bool | None = None

    def pattern(self, source: bytes) -> Ready:
        """One of the rule's patterns."""
        return self.patterns.ready(source)

    @property
    def facts(self) -> tuple[Ready, ...]:
        """The patterns that take facts."""
        if self._facts is None:
            self._facts = tuple(map(self.patterns.ready, self.rule.facts))
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
