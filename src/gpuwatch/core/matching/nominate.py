"""Which records hold which literals: the prefilter, over a whole batch of records at once.

With hyperscan (Vectorscan) all literals are looked for in one pass; without it each is looked for in turn, which is slower
and gives the same answer. Letters are compared without case, ASCII only.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Protocol


class Nominator(Protocol):
    """Finds literals in a batch of records."""

    def nominate(self, texts: Sequence[bytes]) -> dict[int, set[int]]:
        """For each record that holds any: its place in the batch, and the places of the literals it holds."""
        ...

    def nominate_lines(self, lines: bytes) -> dict[int, set[int]]:
        """For each line that holds any: its number, counted from 0, and the places of the literals it holds."""
        ...


def nominator_of(literals: Sequence[bytes]) -> Nominator:
    """The fastest prefilter that this machine has for these lower-case literals."""
    try:
        import hyperscan  # noqa: F401, PLC0415 - only asked whether it is there
    except ImportError:
        return OneByOne(literals)
    return AllAtOnce(literals)


class OneByOne:
    """Looks for each literal in turn: needs nothing but Python."""

    def __init__(self, literals: Sequence[bytes]) -> None:
        self._literals = tuple(literals)

    def nominate(self, texts: Sequence[bytes]) -> dict[int, set[int]]:
        """See `Nominator`."""
        batch = b"\n".join(texts).lower()
        return placed(texts, _finds(batch, self._literals))

    def nominate_lines(self, lines: bytes) -> dict[int, set[int]]:
        """See `Nominator`."""
        return by_line(lines, list(_finds(lines.lower(), self._literals)))


class AllAtOnce:
    """Looks for all literals in one pass of hyperscan."""

    def __init__(self, literals: Sequence[bytes]) -> None:
        import hyperscan  # noqa: PLC0415 - loaded when a log is read, not at start-up

        self._database = None
        if literals:
            self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
            self._database.compile(
                expressions=[re.escape(literal) for literal in literals],
                ids=list(range(len(literals))),
                flags=[hyperscan.HS_FLAG_CASELESS] * len(literals),
            )

    def nominate(self, texts: Sequence[bytes]) -> dict[int, set[int]]:
        """See `Nominator`."""
        return placed(texts, self._hits(b"\n".join(texts)))

    def nominate_lines(self, lines: bytes) -> dict[int, set[int]]:
        """See `Nominator`."""
        return by_line(lines, self._hits(lines))

    def _hits(self, data: bytes) -> list[tuple[int, int]]:
        hits: list[tuple[int, int]] = []

        def found(literal: int, _begin: int, end: int, _flags: int, _context: object) -> None:
            hits.append((end - 1, literal))

        if self._database is not None:
            self._database.scan(data, match_event_handler=found)
        return hits


def placed(texts: Sequence[bytes], hits: Iterable[tuple[int, int]]) -> dict[int, set[int]]:
    """Give hits, each an offset into the joined batch and a literal, to the records they are in."""
    starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
    nominated: dict[int, set[int]] = {}
    for offset, literal in hits:
        nominated.setdefault(bisect_right(starts, offset) - 1, set()).add(literal)
    return nominated


def by_line(lines: bytes, hits: list[tuple[int, int]]) -> dict[int, set[int]]:
    """Give hits, each an offset and a literal, to the lines they are in, in order."""
    nominated: dict[int, set[int]] = {}
    counted = line = 0
    for offset, literal in sorted(hits):
        line += lines.count(b"\n", counted, offset)
        counted = offset
        nominated.setdefault(line, set()).add(literal)
    return nominated


def _finds(batch: bytes, literals: Sequence[bytes]) -> Iterable[tuple[int, int]]:
    find: Callable[[bytes, int], int] = batch.find
    for number, literal in enumerate(literals):
        offset = find(literal, 0)
        while offset >= 0:
            yield offset, number
            end_of_record = find(b"\n", offset)
            if end_of_record < 0:
                break
            offset = find(literal, end_of_record)
