"""What an allocator snapshot tells: the peak and when, who held it, every refusal, and how torn the memory is at the end.

The record may have lost its beginning. What was there before is known all the same: blocks that are given back without having
been taken, and blocks at the end that nobody took. So the totals are absolute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from gpuwatch.core.traces.snapshot import (
    ALLOC,
    FREE_COMPLETED,
    FREE_REQUESTED,
    NO_STACK,
    OOM,
    SEGMENT_ALLOC,
    SEGMENT_FREE,
    SEGMENT_MAP,
    SEGMENT_UNMAP,
    Actions,
    Frame,
    Segment,
    Snapshot,
)

ROUNDED_BYTES = 512
"""The allocator gives multiples of it."""
TIMELINE_BUCKETS = 60
_LIVE = "active_allocated"
_IDLE = "inactive"


@dataclass(frozen=True, slots=True)
class Held:
    """Blocks that one stack holds at the peak."""

    size_bytes: int
    count: int
    stack: tuple[Frame, ...]
    """The innermost first; empty where none was recorded."""
    recorded: bool
    """False for blocks taken before the record begins."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An allocation that failed."""

    asked_bytes: int
    device_free_bytes: int | None
    """What the driver still had."""
    allocated_bytes: int
    """What was held then, as asked for."""
    reserved_bytes: int
    seconds: float | None
    """Since the record began."""
    stack: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Fragments:
    """The allocator's memory at the end."""

    segments: int
    reserved_bytes: int
    allocated_bytes: int
    """Blocks in use, as given: rounded up."""
    requested_bytes: int
    """Blocks in use, as asked for."""
    pending_bytes: int
    """Given back, but another stream may still use it."""
    free_bytes: int
    largest_free_bytes: int
    inactive_split_bytes: int
    """Free, but in segments that are also in use: empty_cache() cannot give it to the driver."""
    releasable_bytes: int
    """Segments that are wholly free."""


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """Segments of one kind and size."""

    kind: str
    size_bytes: int
    count: int
    allocated_bytes: int
    free_bytes: int
    largest_free_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One device's story."""

    device: int
    actions: int
    peak_bytes: int | None
    """The most that was held at once, as asked for; None where nothing was recorded."""
    peak_rounded_bytes: int | None
    """The same blocks, each rounded up to what the allocator gives."""
    peak_action: int | None
    peak_seconds: float | None
    """Since the record began."""
    reserved_at_peak_bytes: int | None
    most_reserved_bytes: int | None
    earlier_bytes: int
    """Held when the record begins."""
    holders: tuple[Held, ...]
    refusals: tuple[Refusal, ...]
    refusals_count: int
    fragments: Fragments
    segments: tuple[SegmentRow, ...]
    timeline_bytes: tuple[int, ...]
    """The most held in each part of the record, parted by actions."""


def device_memories(snapshot: Snapshot, *, most_refusals: int = 100) -> list[DeviceMemory]:
    """Tell each device's story; devices with neither actions nor segments are left out."""
    of_device: dict[int, list[Segment]] = {device: [] for device in range(len(snapshot.actions))}
    for segment in snapshot.segments:
        of_device.setdefault(segment.device, []).append(segment)
    stories = []
    for device, segments in sorted(of_device.items()):
        actions = snapshot.actions[device] if 0 <= device < len(snapshot.actions) else Actions()
        if segments or len(actions):
            stories.append(_story(snapshot, device, actions, segments, most_refusals))
    return stories


@dataclass(slots=True)
class _Level:
    """What is held and reserved after an action."""

    index: int
    held: int
    reserved: int


class _Replay:
    """The actions again, with what was there before them."""

    def __init__(self, actions: Actions, segments: list[Segment]) -> None:
        self.actions = actions
        self.earlier: dict[int, tuple[int, int]] = {}
        """Blocks there before: address to size and stack."""
        live: set[int] = set()
        known: set[int] = set()
        reserved_change = 0
        for index in range(len(actions)):
            action, address, size = actions.actions[index], actions.addresses[index], actions.sizes[index]
            if action == ALLOC:
                live.add(address)
                known.add(address)
            elif action in (FREE_REQUESTED, FREE_COMPLETED):
                if address in live:
                    live.discard(address)
                elif action == FREE_REQUESTED and address not in known:
                    self.earlier[address] = (size, NO_STACK)  # its stack is where it was given back
                    known.add(address)
            elif action in (SEGMENT_ALLOC, SEGMENT_MAP):
                reserved_change += size
            elif action in (SEGMENT_FREE, SEGMENT_UNMAP):
                reserved_change -= size
        for segment in segments:
            for block in segment.blocks:
                if block.state == _LIVE and block.address is not None and block.address not in live:
                    self.earlier.setdefault(block.address, (block.requested_bytes, block.stack))
        self.earlier_bytes = sum(size for size, _stack in self.earlier.values())
        self.earlier_reserved = max(sum(segment.total_bytes for segment in segments) - reserved_change, 0)

    def levels(self, live: dict[int, tuple[int, int]]) -> Iterator[_Level]:
        """Each action's outcome; `live` is kept up to date with size and stack by address."""
        live.update(self.earlier)
        held, reserved = self.earlier_bytes, self.earlier_reserved
        actions = self.actions
        level = _Level(0, 0, 0)
        for index in range(len(actions)):
            action, address, size = actions.actions[index], actions.addresses[index], actions.sizes[index]
            if action == ALLOC:
                if (before := live.get(address)) is not None:
                    held -= before[0]
                live[address] = (size, actions.stacks[index])
                held += size
            elif action in (FREE_REQUESTED, FREE_COMPLETED):
                if (gone := live.pop(address, None)) is not None:
                    held -= gone[0]
            elif action in (SEGMENT_ALLOC, SEGMENT_MAP):
                reserved += size
            elif action in (SEGMENT_FREE, SEGMENT_UNMAP):
                reserved -= size
            level.index, level.held, level.reserved = index, held, reserved
            yield level


def _story(
    snapshot: Snapshot, device: int, actions: Actions, segments: list[Segment], most_refusals: int
) -> DeviceMemory:
    replay = _Replay(actions, segments)
    peak, peak_at, reserved_at_peak, most_reserved = -1, 0, 0, 0
    timeline = [0] * TIMELINE_BUCKETS
    refusals: list[Refusal] = []
    refusals_count = 0
    for level in replay.levels({}):
        if level.held > peak:
            peak, peak_at, reserved_at_peak = level.held, level.index, level.reserved
        most_reserved = max(most_reserved, level.reserved)
        begin, end = (index * TIMELINE_BUCKETS // len(actions) for index in (level.index, level.index + 1))
        for bucket in range(begin, max(end, begin + 1)):  # several where there are fewer actions than parts
            timeline[bucket] = max(timeline[bucket], level.held)
        if actions.actions[level.index] == OOM:
            refusals_count += 1
            if len(refusals) < most_refusals:
                free = actions.addresses[level.index]
                refusals.append(
                    Refusal(
                        asked_bytes=actions.sizes[level.index],
                        device_free_bytes=free if free >= 0 else None,
                        allocated_bytes=level.held,
                        reserved_bytes=level.reserved,
                        seconds=_seconds(actions, level.index),
                        stack=tuple(snapshot.stacks.of(actions.stacks[level.index])),
                    )
                )
    known = len(actions) > 0
    live: dict[int, tuple[int, int]] = {}
    if known:
        for level in replay.levels(live):
            if level.index == peak_at:
                break
    return DeviceMemory(
        device=device,
        actions=len(actions),
        peak_bytes=peak if known else None,
        peak_rounded_bytes=sum(_rounded(size) for size, _stack in live.values()) if known else None,
        peak_action=peak_at if known else None,
        peak_seconds=_seconds(actions, peak_at) if known else None,
        reserved_at_peak_bytes=reserved_at_peak if known else None,
        most_reserved_bytes=most_reserved if known else None,
        earlier_bytes=replay.earlier_bytes,
        holders=_holders(snapshot, live if known else replay.earlier, replay.earlier),
        refusals=tuple(refusals),
        refusals_count=refusals_count,
        fragments=_fragments(segments),
        segments=_segment_rows(segments),
        timeline_bytes=tuple(timeline) if known else (),
    )


def _rounded(size: int) -> int:
    return -(-size // ROUNDED_BYTES) * ROUNDED_BYTES


def _seconds(actions: Actions, index: int) -> float | None:
    first = actions.times[0]
    return (actions.times[index] - first) / 1e6 if first else None


def _holders(
    snapshot: Snapshot, live: dict[int, tuple[int, int]], earlier: dict[int, tuple[int, int]]
) -> tuple[Held, ...]:
    sizes: Counter[tuple[int, bool]] = Counter()
    counts: Counter[tuple[int, bool]] = Counter()
    for address, block in live.items():
        size, stack = block
        recorded = earlier.get(address) is not block
        key = (stack, recorded)
        sizes[key] += size
        counts[key] += 1
    held = [
        Held(size, counts[stack, recorded], tuple(snapshot.stacks.of(stack)), recorded)
        for (stack, recorded), size in sizes.items()
    ]
    return tuple(sorted(held, key=lambda each: (-each.size_bytes, each.count)))


def _fragments(segments: list[Segment]) -> Fragments:
    reserved = allocated = requested = pending = free = largest = split = releasable = 0
    for segment in segments:
        reserved += segment.total_bytes
        idle = [block.size_bytes for block in segment.blocks if block.state == _IDLE]
        used = [block for block in segment.blocks if block.state == _LIVE]
        allocated += sum(block.size_bytes for block in used)
        requested += sum(block.requested_bytes for block in used)
        pending += sum(block.size_bytes for block in segment.blocks if block.state not in (_IDLE, _LIVE))
        free += sum(idle)
        largest = max([largest, *idle])
        if len(idle) == len(segment.blocks):
            releasable += segment.total_bytes
        else:
            split += sum(idle)
    return Fragments(
        segments=len(segments),
        reserved_bytes=reserved,
        allocated_bytes=allocated,
        requested_bytes=requested,
        pending_bytes=pending,
        free_bytes=free,
        largest_free_bytes=largest,
        inactive_split_bytes=split,
        releasable_bytes=releasable,
    )


def _segment_rows(segments: list[Segment]) -> tuple[SegmentRow, ...]:
    groups: dict[tuple[str, int], list[Segment]] = {}
    for segment in segments:
        groups.setdefault((segment.kind, segment.total_bytes), []).append(segment)
    rows = []
    for (kind, size), members in groups.items():
        told = _fragments(members)
        rows.append(
            SegmentRow(kind, size, len(members), told.allocated_bytes, told.free_bytes, told.largest_free_bytes)
        )
    return tuple(sorted(rows, key=lambda row: -row.size_bytes * row.count))
