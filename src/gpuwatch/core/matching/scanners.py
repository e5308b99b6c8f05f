"""What looks for probes in a stretch of log: hyperscan for all in one pass, RE2 in one pass a piece, or Python for each in turn.

Each finds every line that a probe is found on, at least once; the slower ones tell other offsets on it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from gpuwatch.core.matching.scan import Hit

if TYPE_CHECKING:
    from gpuwatch.core.matching.probes import Probe

_Written = tuple[bytes, int]
"""An expression and its flags."""

_RE2_PIECE_BYTES = 16 * 1024
_SHORT = b"\xfe\xfe"
"""Two bytes that no text holds. Beside so short a literal hyperscan looks at every place, not at each second or fourth, and for
hundreds of literals it is faster so: by 5 % on a calm log, 2.5 times where no literal is shorter than five bytes (measured)."""
_NOBODY = (1 << 31) - 1
"""Who asks for them."""
_MANY = 64
"""Expressions; fewer are looked for in another way."""


class AllAtOnce:
    """Looks for all probes in one pass of hyperscan, which leaves other threads running meanwhile."""

    def __init__(self, probes: Sequence[Probe] = ()) -> None:
        import hyperscan  # noqa: PLC0415 - loaded when a log is read, not at start-up

        self._hyperscan: Any = hyperscan
        self._scratches = threading.local()
        seen = {n: probe for n, probe in enumerate(probes) if probe.literals or probe.expression is not None}
        try:
            self._database = self._compiled({n: self._written(probe) for n, probe in seen.items()})
        except hyperscan.HyperscanError:
            seen = {n: sound for n, probe in seen.items() if (sound := self._sound(probe)) is not None}
            self._database = self._compiled({n: self._written(probe) for n, probe in seen.items()})
        self.blind: frozenset[int] = frozenset(range(len(probes))) - seen.keys()

    @classmethod
    def loaded(cls, dumped: bytes) -> Self:
        """One that looks for what the dumped one did. Raises ValueError where this is no dump, or not of this library."""
        made = cls()
        blind, found, database = dumped.partition(b"\n")
        if not found:
            raise ValueError("no dump")
        made.blind = frozenset(map(int, blind.split()))
        if database:
            try:
                made._database = made._hyperscan.loadb(database, made._hyperscan.HS_MODE_BLOCK)
            except made._hyperscan.HyperscanError as error:
                raise ValueError(str(error)) from error
        return made

    def dump(self) -> bytes | None:
        """See `Nominator`."""
        database = b"" if self._database is None else bytes(self._hyperscan.dumpb(self._database))
        return b" ".join(b"%d" % place for place in sorted(self.blind)) + b"\n" + database

    def hits(self, data: bytes) -> list[Hit]:
        """See `Nominator`."""
        found: list[Hit] = []
        if self._database is not None:

            def note(number: int, _begin: int, end: int, _flags: int, _context: object) -> None:
                if number != _NOBODY:
                    found.append((end - 1, number))

            self._database.scan(data, match_event_handler=note, scratch=self._scratch())
            found.sort()
        return found

    def _written(self, probe: Probe) -> list[_Written]:
        if probe.by_literals:
            flags = self._hyperscan.HS_FLAG_CASELESS if probe.folds else 0
            return [(_escaped(literal), flags) for literal in sorted(probe.literals)]
        return [(probe.expression or b"", self._hyperscan.HS_FLAG_PREFILTER)]

    def _sound(self, probe: Probe) -> Probe | None:
        """The probe as far as the library takes it; None where it takes nothing, as of a pattern that can match nothing."""
        for tried in (probe, replace(probe, expression=None)):
            with contextlib.suppress(self._hyperscan.HyperscanError):
                if tried.literals or tried.expression is not None:
                    self._compiled({0: self._written(tried)})
                    return tried
        return None

    def _compiled(self, wanted: Mapping[int, Sequence[_Written]]) -> Any:
        if not wanted:
            return None
        asked = [(expression, number, flags) for number, written in wanted.items() for expression, flags in written]
        if len(asked) > _MANY:
            asked.append((_escaped(_SHORT), _NOBODY, self._hyperscan.HS_FLAG_SINGLEMATCH))
        expressions, numbers, flags = zip(*asked, strict=True)
        database = self._hyperscan.Database(mode=self._hyperscan.HS_MODE_BLOCK)
        database.compile(expressions=list(expressions), ids=list(numbers), flags=list(flags))
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
