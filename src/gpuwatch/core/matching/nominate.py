"""Where in a stretch of log a pattern may match: the prefilter, over many records at once.

A probe stands for a pattern: wherever the pattern matches, the probe is found on the same line. With hyperscan (Vectorscan) all
probes are looked for in one pass; with RE2 in one pass a piece; without either, literals are looked for in turn. The slower
ones nominate other lines too, or fewer false ones; which rules match is the same, because the rule's own pattern decides.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gpuwatch.core.matching.literals import folds_case, is_telling, required_literals
from gpuwatch.core.matching.scan import Hit
from gpuwatch.core.matching.superset import superset_of

_Written = tuple[bytes, int]
"""An expression and its flags."""

_RE2_PIECE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Probe:
    """What to look for in a pattern's place; with neither, the pattern has to be tried everywhere."""

    literals: frozenset[bytes]
    """One of them stands in every match. Empty where none could be derived."""
    expression: bytes | None = None
    """A plain pattern that matches wherever the pattern does."""
    folds: bool = True
    """Whether the literals' letters may stand there in the other case."""
    telling: bool = False
    """Whether the literals are rare enough to be looked for in the expression's place, which is quicker."""

    @property
    def by_literals(self) -> bool:
        """Whether the literals are the better thing to look for."""
        return bool(self.literals) and (self.telling or self.expression is None)


def probe_of(pattern: bytes) -> Probe:
    """The probe that stands for a pattern."""
    literals = required_literals(pattern)
    return Probe(literals, superset_of(pattern), folds_case(pattern), all(map(is_telling, literals)))


class Nominator(Protocol):
    """Finds probes in a stretch of log."""

    @property
    def blind(self) -> frozenset[int]:
        """The probes that it cannot look for."""
        ...

    def hits(self, data: bytes) -> list[Hit]:
        """Every line that a probe is found on, at least once each, by rising offset."""
        ...

    def dump(self) -> bytes | None:
        """What makes the next start quicker: give it to `nominator_of` for the same probes. None where nothing does."""
        ...


def nominator_of(make_probes: Callable[[], Sequence[Probe]], dumped: bytes | None = None) -> Nominator:
    """The fastest prefilter that this machine has. `dumped` is trusted: it must be what `dump` gave for these very probes.

    Raises ValueError where `dumped` is not of this machine's library after all.
    """
    for make in (lambda: AllAtOnce(make_probes, dumped), lambda: PieceByPiece(make_probes())):
        try:
            return make()
        except ImportError:
            continue
    return OneByOne(make_probes())


class AllAtOnce:
    """Looks for all probes in one pass of hyperscan, which leaves other threads running meanwhile."""

    def __init__(self, make_probes: Callable[[], Sequence[Probe]], dumped: bytes | None = None) -> None:
        import hyperscan  # noqa: PLC0415 - loaded when a log is read, not at start-up

        self._hyperscan: Any = hyperscan
        self._scratches = threading.local()
        self._database: Any = None
        self.blind: frozenset[int]
        if dumped is not None:
            blind, _, database = dumped.partition(b"\n")
            self.blind = frozenset(json.loads(blind))
            try:
                self._database = hyperscan.loadb(database, hyperscan.HS_MODE_BLOCK) if database else None
            except hyperscan.HyperscanError as error:
                raise ValueError(str(error)) from error
            return
        probes = make_probes()
        self.blind = frozenset(n for n, probe in enumerate(probes) if not probe.literals and probe.expression is None)
        if len(self.blind) == len(probes):
            return
        wanted = [(n, self._written(probe)) for n, probe in enumerate(probes) if n not in self.blind]
        try:
            self._database = self._compiled(wanted)
        except hyperscan.HyperscanError:
            wanted = [(n, self._sound(probe)) for n, probe in enumerate(probes)]
            self.blind = frozenset(n for n, written in wanted if not written)
            self._database = self._compiled(wanted) if len(self.blind) < len(probes) else None

    def hits(self, data: bytes) -> list[Hit]:
        """See `Nominator`."""
        found: list[Hit] = []
        if self._database is not None:

            def note(number: int, _begin: int, end: int, _flags: int, _context: object) -> None:
                found.append((end - 1, number))

            self._database.scan(data, match_event_handler=note, scratch=self._scratch())
            found.sort()
        return found

    def dump(self) -> bytes | None:
        """See `Nominator`."""
        database = b"" if self._database is None else bytes(self._hyperscan.dumpb(self._database))
        return json.dumps(sorted(self.blind)).encode() + b"\n" + database

    def _written(self, probe: Probe) -> list[_Written]:
        if probe.by_literals or probe.expression is None:
            flags = self._hyperscan.HS_FLAG_CASELESS if probe.folds else 0
            return [(b"".join(map(_escaped, each)), flags) for each in sorted(probe.literals)]
        return [(probe.expression, self._hyperscan.HS_FLAG_PREFILTER)]

    def _sound(self, probe: Probe) -> list[_Written]:
        """What the library takes for this probe; nothing where it takes nothing, as of a pattern that can match nothing."""
        for tried in (probe, replace(probe, expression=None)):
            written = self._written(tried)
            try:
                self._compiled([(0, written)])
            except self._hyperscan.HyperscanError:
                continue
            return written
        return []

    def _compiled(self, wanted: Sequence[tuple[int, Sequence[_Written]]]) -> Any:
        database = self._hyperscan.Database(mode=self._hyperscan.HS_MODE_BLOCK)
        database.compile(
            expressions=[expression for _, written in wanted for expression, _ in written],
            ids=[number for number, written in wanted for _ in written],
            flags=[flags for _, written in wanted for _, flags in written],
        )
        return database

    def _scratch(self) -> Any:
        """Room to work in: one a thread, for the library refuses to share it."""
        scratch = getattr(self._scratches, "mine", None)
        if scratch is None:
            scratch = self._scratches.mine = self._hyperscan.Scratch(self._database)
        return scratch


class PieceByPiece:
    """Looks for all probes with RE2, which tells what a piece holds and not where: where it holds any, line by line."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        import re2  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - an alternative to hyperscan

        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.log_errors = False
        self._set: Any = re2.Set.SearchSet(options)
        self._probes: list[int] = []
        blind = set()
        for number, probe in enumerate(probes):
            expressions = _for_re2(probe)
            try:
                for expression in expressions:
                    self._set.Add(expression)
                    self._probes.append(number)
            except re2.error:
                blind.add(number)
            if not expressions:
                blind.add(number)
        self.blind = frozenset(blind)
        if self._probes:
            self._set.Compile()

    def hits(self, data: bytes) -> list[Hit]:
        """See `Nominator`."""
        found: list[Hit] = []
        if self._probes:
            for begin, end in _pieces(data, _RE2_PIECE_BYTES):
                piece = data[begin:end]
                if self._set.Match(piece):
                    for offset, line_end in _pieces(piece, 1):
                        numbers = {self._probes[place] for place in self._set.Match(piece[offset:line_end]) or ()}
                        found += ((begin + offset, number) for number in sorted(numbers))
        return found

    def dump(self) -> bytes | None:
        """See `Nominator`."""
        return None


class OneByOne:
    """Looks for each literal in turn: needs nothing but Python."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self.blind = frozenset(number for number, probe in enumerate(probes) if not probe.literals)
        by_literal: dict[bytes, list[int]] = {}
        for number, probe in enumerate(probes):
            for literal in probe.literals:
                by_literal.setdefault(literal.lower(), []).append(number)
        self._by_literal = by_literal

    def hits(self, data: bytes) -> list[Hit]:
        """See `Nominator`."""
        folded = data.lower()
        return sorted(
            (offset, number)
            for literal, numbers in self._by_literal.items()
            for offset in _lines_with(folded, literal)
            for number in numbers
        )

    def dump(self) -> bytes | None:
        """See `Nominator`."""
        return None


def _for_re2(probe: Probe) -> list[bytes]:
    if probe.by_literals or probe.expression is None:
        begin = b"(?i:" if probe.folds else b"(?:"
        return [begin + b"".join(map(_escaped, literal)) + b")" for literal in sorted(probe.literals)]
    return [probe.expression]


def _escaped(code: int) -> bytes:
    return b"\\x%02x" % code


def _pieces(data: bytes, least_bytes: int) -> Iterator[tuple[int, int]]:
    """Stretches of whole lines, each of at least so many bytes: where they begin, and where they end."""
    begin = 0
    while begin < len(data):
        end = data.find(b"\n", begin + least_bytes - 1) + 1 or len(data)
        yield begin, end
        begin = end


def _lines_with(folded: bytes, literal: bytes) -> Iterator[int]:
    find: Callable[[bytes, int], int] = folded.find
    offset = find(literal, 0)
    while offset >= 0:
        yield offset
        end_of_line = find(b"\n", offset)
        if end_of_line < 0:
            return
        offset = find(literal, end_of_line)
