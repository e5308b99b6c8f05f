"""Memory while a trace was taken: its instants as columns, the peak, and what was held then.

PyTorch writes an instant "[memory]" for each block it takes or gives back. On the CPU its totals begin at 0 where the
profiler began; on CUDA they are the allocator's own.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

TIMELINE_BUCKETS = 60


@dataclass(slots=True)
class MemoryLane:
    """The instants of one device, as they came."""

    times: array[int] = field(default_factory=lambda: array("q"))
    """Nanoseconds on the trace's clock."""
    changes: array[int] = field(default_factory=lambda: array("q"))
    """Bytes taken, or given back where negative."""
    totals: array[int] = field(default_factory=lambda: array("q"))
    addresses: array[int] = field(default_factory=lambda: array("q"))
    lanes: array[int] = field(default_factory=lambda: array("i"))
    """The thread it happened on."""
    ordered: bool = True
    most_reserved: int = 0

    def add(self, time: int, change: int, *, total: int, reserved: int, address: int, lane: int) -> None:
        """Take an instant in."""
        if self.ordered and self.times and time < self.times[-1]:
            self.ordered = False
        self.times.append(time)
        self.changes.append(change)
        self.totals.append(total)
        self.addresses.append(address)
        self.lanes.append(lane)
        self.most_reserved = max(self.most_reserved, reserved)

    def order(self) -> list[int] | range:
        """The instants' places by their times."""
        count = len(self.times)
        return range(count) if self.ordered else sorted(range(count), key=self.times.__getitem__)


@dataclass(frozen=True, slots=True)
class Holder:
    """A block that is held at the peak."""

    size_bytes: int
    time: int
    """When it was taken."""
    lane: int


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """A device's memory over the trace."""

    device: str
    instants: int
    peak_bytes: int
    peak_time: int
    begin_bytes: int
    end_bytes: int
    most_reserved_bytes: int
    timeline_bytes: tuple[int, ...]
    """The most in each part of the time."""
    begin_time: int
    end_time: int
    holders: tuple[Holder, ...]
    """Blocks taken since the record began and held at the peak, the largest first."""
    earlier_bytes: int
    """What of the peak was there before the record began, as far as the totals tell it."""


def memory_peak(device: str, lane: MemoryLane, *, most_holders: int = 10_000) -> MemoryPeak:
    """Find the peak, and what was held then."""
    order = lane.order()
    first, last = order[0], order[-1]
    begin_time, end_time = lane.times[first], lane.times[last]
    peak_place = max(range(len(order)), key=lambda place: lane.totals[order[place]])
    peak = order[peak_place]
    live: dict[int, int] = {}
    for index in _until(order, peak_place):
        if lane.changes[index] > 0:
            live[lane.addresses[index]] = index
        else:
            live.pop(lane.addresses[index], None)
    held = sorted(live.values(), key=lambda index: -lane.changes[index])
    timeline = [0] * TIMELINE_BUCKETS
    width = max(end_time - begin_time, 1)
    level, filled = lane.totals[first], 0
    for index in order:
        bucket = min((lane.times[index] - begin_time) * TIMELINE_BUCKETS // width, TIMELINE_BUCKETS - 1)
        while filled < bucket:  # what was held when nothing happened
            filled += 1
            timeline[filled] = level
        level = lane.totals[index]
        timeline[bucket] = max(timeline[bucket], level)
    return MemoryPeak(
        device=device,
        instants=len(order),
        peak_bytes=lane.totals[peak],
        peak_time=lane.times[peak],
        begin_bytes=lane.totals[first] - lane.changes[first],
        end_bytes=lane.totals[last],
        most_reserved_bytes=lane.most_reserved,
        timeline_bytes=tuple(timeline),
        begin_time=begin_time,
        end_time=end_time,
        holders=tuple(Holder(lane.changes[i], lane.times[i], lane.lanes[i]) for i in held[:most_holders]),
        earlier_bytes=max(lane.totals[peak] - sum(lane.changes[i] for i in held), 0),
    )


def _until(order: list[int] | range, place: int) -> Iterator[int]:
    for at in range(place + 1):
        yield order[at]
