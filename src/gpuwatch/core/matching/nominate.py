"""Where in a stretch of log a pattern may match: the prefilter, over many records at once.

A probe stands for a pattern: wherever the pattern matches, the probe is found on the same line. With hyperscan (Vectorscan) all
probes are looked for in one pass; with RE2 in one pass a piece; without either, literals are looked for in turn. The slower
ones nominate other lines too, or fewer false ones; which rules match is the same, because the rule's own pattern decides.
"""

from __future__ import annotations

import contextlib
import json
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Protocol

from gpuwatch.core.matching.fragments import fragments_of
from gpuwatch.core.matching.healthy import COMMON, RARE, rarity
from gpuwatch.core.matching.literals import folds_case, required_literals
from gpuwatch.core.matching.scan import Hit
from gpuwatch.core.matching.superset import superset_of

_Written = tuple[bytes, int]
"""An expression and its flags."""

_RE2_PIECE_BYTES = 16 * 1024
_SPACED_BYTES = 2048
"""So far apart lines must stand, on average, for looking at each of them to take less time than looking once, closely."""
_DENSE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Probe:
    """What to look for in a pattern's place; with neither, the pattern has to be tried everywhere."""

    literals: frozenset[bytes]
    """One of them stands in every match. Empty where none could be derived."""
    expression: bytes | None = None
    """A plain pattern that matches wherever the pattern does."""
    folds: bool = True
    """Whether the literals' letters may stand there in the other case."""

    @property
    def by_literals(self) -> bool:
        """Whether the literals are the better thing to look for."""
        return bool(self.literals) and (self.expression is None or self.rarity == RARE)

    @property
    def rarity(self) -> int:
        """Of the commonest literal."""
        return min(map(rarity, self.literals), default=COMMON)


def probe_of(pattern: bytes) -> Probe:
    """The probe that stands for a pattern."""
    return Probe(required_literals(pattern), superset_of(pattern), folds_case(pattern))


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
    """Looks for all probes in one pass of hyperscan, which leaves other threads running meanwhile.

    In two steps where little is found: lines that hold a fragment of a probe, and in those the probes.
    """

    def __init__(self, make_probes: Callable[[], Sequence[Probe]], dumped: bytes | None = None) -> None:
        import hyperscan  # noqa: PLC0415 - loaded when a log is read, not at start-up

        self._hyperscan: Any = hyperscan
        self._scratches = threading.local()
        self._coarse: Any = None
        self._fine: Any = None
        self._dense_bytes = 0
        """How much is read before the coarse step is tried again."""
        self.blind: frozenset[int]
        if dumped is not None:
            self._load(dumped)
            return
        probes = make_probes()
        seen = {n: probe for n, probe in enumerate(probes) if probe.literals or probe.expression is not None}
        try:
            self._fine = self._compiled({n: self._written(probe) for n, probe in seen.items()})
        except hyperscan.HyperscanError:
            seen = {n: sound for n, probe in seen.items() if (sound := self._sound(probe)) is not None}
            self._fine = self._compiled({n: self._written(probe) for n, probe in seen.items()})
        self._coarse = self._compiled({0: self._coarsened(seen.values())})
        self.blind = frozenset(range(len(probes))) - seen.keys()

    def hits(self, data: bytes) -> list[Hit]:
        """See `Nominator`."""
        if self._fine is None:
            return []
        if self._dense_bytes > 0:
            self._dense_bytes -= len(data)
            return self._found(self._fine, data)
        begins, lines = _lines_at(data, self._found(self._coarse, data))
        if len(lines) > 8 and len(lines) * _SPACED_BYTES > len(data):
            self._dense_bytes = _DENSE_BYTES
            return self._found(self._fine, data)
        if not lines:
            return []
        starts = list(accumulate(map(len, lines), initial=0))
        found = []
        for offset, number in self._found(self._fine, b"".join(lines)):
            line = bisect_right(starts, offset) - 1
            found.append((begins[line] + offset - starts[line], number))
        return found

    def dump(self) -> bytes | None:
        """See `Nominator`."""
        parts = [json.dumps(sorted(self.blind)).encode()]
        parts += [self._hyperscan.dumpb(one) for one in (self._fine, self._coarse) if one is not None]
        return b"".join(len(part).to_bytes(8, "little") + part for part in parts)

    def _load(self, dumped: bytes) -> None:
        parts = []
        while dumped:
            end = 8 + int.from_bytes(dumped[:8], "little")
            parts.append(dumped[8:end])
            dumped = dumped[end:]
        blind, *databases = parts
        self.blind = frozenset(json.loads(blind))
        if databases:
            try:
                self._fine, self._coarse = (
                    self._hyperscan.loadb(one, self._hyperscan.HS_MODE_BLOCK) for one in databases
                )
            except self._hyperscan.HyperscanError as error:
                raise ValueError(str(error)) from error

    def _found(self, database: Any, data: bytes) -> list[Hit]:
        found: list[Hit] = []

        def note(number: int, _begin: int, end: int, _flags: int, _context: object) -> None:
            found.append((end - 1, number))

        database.scan(data, match_event_handler=note, scratch=self._scratch(database))
        found.sort()
        return found

    def _written(self, probe: Probe) -> list[_Written]:
        if probe.by_literals:
            flags = self._hyperscan.HS_FLAG_CASELESS if probe.folds else 0
            return [(_escaped(literal), flags) for literal in sorted(probe.literals)]
        return [(probe.expression or b"", self._hyperscan.HS_FLAG_PREFILTER)]

    def _coarsened(self, probes: Iterable[Probe]) -> list[_Written]:
        """What stands on every line that one of the probes is found on."""
        literals: set[bytes] = set()
        written: list[_Written] = []
        for probe in probes:
            if probe.by_literals or (probe.literals and probe.rarity > COMMON):
                literals |= probe.literals
            else:
                written += self._written(probe)  # expressions cost the coarse step much of its speed
        fragments = sorted(fragments_of(literals))
        return written + [(_escaped(fragment), self._hyperscan.HS_FLAG_CASELESS) for fragment in fragments]

    def _sound(self, probe: Probe) -> Probe | None:
        """The probe as far as the library takes it; None where it takes nothing, as of a pattern that can match nothing."""
        for tried in (probe, replace(probe, expression=None)):
            with contextlib.suppress(self._hyperscan.HyperscanError):
                if tried.literals or tried.expression is not None:
                    self._compiled({0: self._written(tried)})
                    return tried
        return None

    def _compiled(self, wanted: Mapping[int, Sequence[_Written]]) -> Any:
        if not any(wanted.values()):
            return None
        database = self._hyperscan.Database(mode=self._hyperscan.HS_MODE_BLOCK)
        database.compile(
            expressions=[expression for written in wanted.values() for expression, _ in written],
            ids=[number for number, written in wanted.items() for _ in written],
            flags=[flags for written in wanted.values() for _, flags in written],
        )
        return database

    def _scratch(self, database: Any) -> Any:
        """Room to work in: one a database and thread, for the library refuses to share it."""
        if not hasattr(self._scratches, "mine"):
            self._scratches.mine = {}
        mine: dict[int, Any] = self._scratches.mine
        scratch = mine.get(id(database))
        if scratch is None:
            scratch = mine[id(database)] = self._hyperscan.Scratch(database)
        return scratch


def _lines_at(data: bytes, hits: Iterable[Hit]) -> tuple[list[int], list[bytes]]:
    """The whole lines that these hits are on, and where each begins."""
    begins, lines, end = [], [], 0
    for offset, _ in hits:
        if offset >= end:
            begin = data.rfind(b"\n", end, offset) + 1 or end
            end = data.find(b"\n", offset) + 1 or len(data)
            begins.append(begin)
            lines.append(data[begin:end])
    return begins, lines


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
        return [begin + _escaped(literal) + b")" for literal in sorted(probe.literals)]
    return [probe.expression]


def _escaped(literal: bytes) -> bytes:
    return b"".join(b"\\x%02x" % code for code in literal)


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
