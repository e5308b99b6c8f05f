"""Spans by the million: compact columns, put in order, nested, and united.

A trace of a gigabyte holds some four million spans. Each takes 20 bytes here, whatever its event carried.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

OTHERS = "…"
"""Stands for the names that there was no room for."""
_BLOCK = 1 << 16
"""Spans sorted at a time: what sorting needs beside the columns stays small."""


_DEEPEST = 10_000
"""Spans in one another; what is deeper counts as if it held nothing."""


@dataclass(slots=True)
class Names:
    """Names as small numbers, each with the kind of span it is for. What is beyond the limits shares a number by its kind."""

    most: int = 100_000
    longest_characters: int = 2_000
    kinds: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    _numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    def number(self, kind: str, name: str) -> int:
        """The number of a name of a kind."""
        number = self._numbers.get((kind, name))
        if number is None:
            kept = OTHERS if len(self.names) >= self.most else name[: self.longest_characters]
            number = self._numbers.get((kind, kept))
            if number is None:
                number = self._numbers[kind, kept] = len(self.names)
                self.kinds.append(kind)
                self.names.append(kept)
        return number


@dataclass(slots=True)
class Lane:
    """The spans of one thread or one stream, as they came."""

    starts: array[int] = field(default_factory=lambda: array("q"))
    """Nanoseconds on the trace's clock."""
    lengths: array[int] = field(default_factory=lambda: array("q"))
    """Nanoseconds."""
    names: array[int] = field(default_factory=lambda: array("i"))
    ordered: bool = True
    """Each span starts after the one before it, or with it and is not longer."""

    def add(self, start: int, length: int, name: int = 0) -> None:
        """Take a span in."""
        if self.ordered and self.starts:
            last = self.starts[-1]
            self.ordered = start > last or (start == last and length <= self.lengths[-1])
        self.starts.append(start)
        self.lengths.append(length)
        self.names.append(name)

    def order(self) -> Iterable[int]:
        """The spans' places by their starts; of those that start together the longest first, because it holds the others."""
        if self.ordered:
            return range(len(self.starts))
        starts, lengths = self.starts, self.lengths

        def place(index: int) -> tuple[int, int]:
            return starts[index], -lengths[index]

        blocks = [
            array("q", sorted(range(begin, min(begin + _BLOCK, len(starts))), key=place))
            for begin in range(0, len(starts), _BLOCK)
        ]
        return heapq.merge(*blocks, key=place)


@dataclass(slots=True)
class Totals:
    """What the spans of each name come to."""

    counts: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    """Nanoseconds, what runs within them included."""
    owns: list[int] = field(default_factory=list)
    """Nanoseconds in no span within them."""
    longest: list[int] = field(default_factory=list)

    def grow(self, count: int) -> None:
        """Make room for so many names."""
        for column in (self.counts, self.lengths, self.owns, self.longest):
            column.extend([0] * (count - len(column)))


def nest(lane: Lane, names: Names, totals: Totals, outermost: Lane, kind: str) -> None:
    """Add a lane's spans to the totals, and those of a kind that are in no other of that kind to `outermost`.

    A span that reaches over its parent's end counts there as far as it is inside.
    """
    totals.grow(len(names.names))
    counts, lengths, owns, longest = totals.counts, totals.lengths, totals.owns, totals.longest
    counted = [each == kind for each in names.kinds]
    ends: list[int] = []
    around: list[int] = []
    depth = 0
    for index in lane.order():
        start, length, name = lane.starts[index], lane.lengths[index], lane.names[index]
        while ends and ends[-1] <= start:
            ends.pop()
            depth -= counted[around.pop()]
        if ends:
            owns[around[-1]] -= min(length, ends[-1] - start)
        counts[name] += 1
        lengths[name] += length
        owns[name] += length
        longest[name] = max(longest[name], length)
        if len(ends) >= _DEEPEST:
            continue
        if counted[name]:
            if not depth:
                outermost.add(start, length)
            depth += 1
        ends.append(start + length)
        around.append(name)


def around(lane: Lane, times: Iterable[int]) -> Iterator[list[int]]:
    """For each of the times, which ascend, the names of the spans open then, the outermost first."""
    order = iter(lane.order())
    coming = next(order, None)
    open_spans: list[tuple[int, int]] = []  # end, name
    for time in times:
        while coming is not None and lane.starts[coming] <= time:
            start = lane.starts[coming]
            while open_spans and open_spans[-1][0] <= start:
                open_spans.pop()
            open_spans.append((start + lane.lengths[coming], lane.names[coming]))
            coming = next(order, None)
        while open_spans and open_spans[-1][0] < time:
            open_spans.pop()
        yield [name for _end, name in open_spans]


@dataclass(slots=True)
class Busy:
    """When something ran, whatever it was: overlapping spans count once."""

    nanoseconds: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """The longest pauses: start and length."""


def united(lane: Lane, begin: int, end: int, *, most_gaps: int = 5) -> Busy:
    """What of the window `begin` to `end` the spans cover, and the longest pauses in it."""
    found: list[tuple[int, int]] = []
    covered_to, total = begin, 0

    def pause(start: int, length: int) -> None:
        if length > 0:
            keep = (length, -start)  # of pauses as long as each other the first
            heapq.heappush(found, keep) if len(found) < most_gaps else heapq.heappushpop(found, keep)

    for index in lane.order():
        start, stop = lane.starts[index], min(lane.starts[index] + lane.lengths[index], end)
        if stop <= covered_to or start >= end:
            continue
        pause(covered_to, start - covered_to)
        total += stop - max(start, covered_to)
        covered_to = stop
    pause(covered_to, end - covered_to)
    return Busy(total, [(-start, length) for length, start in sorted(found, reverse=True)])
