"""A snapshot of PyTorch's CUDA allocator, in compact columns: what it did, and what its memory looks like at the end.

The form is that of `torch.cuda.memory._snapshot()`: segments with their blocks, and for each device what the allocator did, in
order, at most the last `max_entries` of it. Sizes of what it did are as asked for; those of blocks are as given, rounded up.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.core.traces.trace import whole

ALLOC, FREE_REQUESTED, FREE_COMPLETED, SEGMENT_ALLOC, SEGMENT_FREE, SEGMENT_MAP, SEGMENT_UNMAP, OOM, OTHER = range(9)
ACTIONS = {
    "alloc": ALLOC,
    "free_requested": FREE_REQUESTED,
    "free": FREE_REQUESTED,  # PyTorch 2.0
    "free_completed": FREE_COMPLETED,
    "segment_alloc": SEGMENT_ALLOC,
    "segment_free": SEGMENT_FREE,
    "segment_map": SEGMENT_MAP,
    "segment_unmap": SEGMENT_UNMAP,
    "oom": OOM,
}
NO_STACK = -1
MOST_EVENTS = 40_000_000
MOST_STACKS = 2_000_000
MOST_FRAMES = 500_000
MOST_FRAMES_IN_STACKS = 50_000_000
_MOST_SETTINGS, _LONGEST_NAME, _LONGEST_SETTING = 100, 100, 200


@dataclass(frozen=True, slots=True)
class Frame:
    """A place in a program."""

    function: str
    file: str
    line: int


@dataclass(slots=True)
class Stacks:
    """Call stacks, each once."""

    frames: list[Frame] = field(default_factory=list)
    stacks: list[tuple[int, ...]] = field(default_factory=list)
    """Places in `frames`, the innermost first."""
    lost: int = 0
    """Stacks that there was no room for."""
    _frame_places: dict[tuple[str, str, int], int] = field(default_factory=dict)
    _stack_places: dict[tuple[int, ...], int] = field(default_factory=dict)
    _frames_held: int = 0

    def frame(self, details: Mapping[str, Any]) -> int:
        """The place of a frame; that of an unknown one where there are too many."""
        function, file, line = details.get("name"), details.get("filename"), whole(details.get("line"))
        key = (
            function[:500] if type(function) is str else "?",
            file[:1000] if type(file) is str else "?",
            line or 0,
        )
        place = self._frame_places.get(key)
        if place is None:
            if len(self.frames) >= MOST_FRAMES:
                key = ("?", "?", 0)
                if (known := self._frame_places.get(key)) is not None:
                    return known
            place = self._frame_places[key] = len(self.frames)
            self.frames.append(Frame(*key))
        return place

    def stack(self, frames: tuple[int, ...]) -> int:
        """The place of a stack; NO_STACK for none, or where there are too many."""
        if not frames:
            return NO_STACK
        place = self._stack_places.get(frames)
        if place is None:
            if len(self.stacks) >= MOST_STACKS or self._frames_held + len(frames) > MOST_FRAMES_IN_STACKS:
                self.lost += 1
                return NO_STACK
            place = self._stack_places[frames] = len(self.stacks)
            self.stacks.append(frames)
            self._frames_held += len(frames)
        return place

    def of(self, place: int) -> list[Frame]:
        """The stack's frames, the innermost first."""
        return [self.frames[each] for each in self.stacks[place]] if place != NO_STACK else []


@dataclass(slots=True)
class Actions:
    """What the allocator did on one device, in order."""

    actions: array[int] = field(default_factory=lambda: array("b"))
    addresses: array[int] = field(default_factory=lambda: array("q"))
    """Of an OOM: the bytes that the driver still had free."""
    sizes: array[int] = field(default_factory=lambda: array("q"))
    times: array[int] = field(default_factory=lambda: array("q"))
    """Microseconds since the epoch; 0 where the snapshot does not tell."""
    stacks: array[int] = field(default_factory=lambda: array("i"))

    def __len__(self) -> int:
        return len(self.actions)

    def add(self, details: Mapping[str, Any], stack: int) -> bool:
        """Take an action in; False where it is none that can be."""
        name = details.get("action")
        action = ACTIONS.get(name, OTHER) if type(name) is str else OTHER
        address = whole(details.get("device_free" if action == OOM else "addr"))
        size = whole(details.get("size"))
        if action == OTHER:
            return type(name) is str
        if size is None or size < 0 or (address is None and action != OOM) or len(self.actions) >= MOST_EVENTS:
            return False
        self.actions.append(action)
        self.addresses.append(-1 if address is None else address)
        self.sizes.append(size)
        self.times.append(whole(details.get("time_us")) or 0)
        self.stacks.append(stack)
        return True

    def part(self, begin: int, end: int) -> Actions:
        """Some of them, as columns of their own."""
        return Actions(
            self.actions[begin:end],
            self.addresses[begin:end],
            self.sizes[begin:end],
            self.times[begin:end],
            self.stacks[begin:end],
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a segment."""

    size_bytes: int
    requested_bytes: int
    """What was asked for; the block is rounded up from it."""
    state: str
    """`active_allocated`, `active_pending_free` (also `active_awaiting_free`), `inactive`."""
    address: int | None
    stack: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Memory that the allocator has of the driver, in one piece."""

    device: int
    address: int
    total_bytes: int
    kind: str
    """`small` or `large`."""
    stream: int
    expandable: bool
    blocks: tuple[Block, ...]


@dataclass(slots=True)
class Snapshot:
    """What was kept of a snapshot."""

    segments: list[Segment] = field(default_factory=list)
    actions: list[Actions] = field(default_factory=list)
    """A device each."""
    stacks: Stacks = field(default_factory=Stacks)
    settings: dict[str, str] = field(default_factory=dict)
    """How the allocator was set up."""
    unusable: int = 0


def settings_of(told: Any) -> dict[str, str]:
    """How the allocator was set up, in words; nothing where that is not told."""
    named = list(told.items())[:_MOST_SETTINGS] if isinstance(told, dict) else []
    return {name[:_LONGEST_NAME]: _words_of(value) for name, value in named if isinstance(name, str)}


def _words_of(value: Any) -> str:
    """A setting as Python prints it, with what is plain in it: what is nested deeper may be larger in words than memory is."""
    shown: Any = value
    if isinstance(value, dict):
        shown = {name: inner for name, inner in list(value.items())[:_MOST_SETTINGS] if _is_plain(name, inner)}
    elif isinstance(value, list | tuple):
        shown = [inner for inner in value[:_MOST_SETTINGS] if _is_plain(inner)]
    elif not _is_plain(value):
        shown = "?"
    return str(shown)[:_LONGEST_SETTING]


def _is_plain(*values: Any) -> bool:
    return all(isinstance(value, str | int | float | None) for value in values)


def block_of(details: Mapping[str, Any], stack: int) -> Block | None:
    """A block from the snapshot's own words; None where it is none."""
    size, requested, state = whole(details.get("size")), whole(details.get("requested_size")), details.get("state")
    if size is None or size < 0 or type(state) is not str:
        return None
    return Block(size, size if requested is None else requested, state[:40], whole(details.get("address")), stack)


def segment_of(details: Mapping[str, Any], blocks: Sequence[Block]) -> Segment | None:
    """A segment from the snapshot's own words; None where it is none."""
    total, address, kind = (
        whole(details.get("total_size")),
        whole(details.get("address")) or 0,
        details.get("segment_type"),
    )
    if total is None or total < 0:
        return None
    placed: list[Block] = []
    at = address
    for block in blocks:  # before PyTorch 2.1 blocks had no address of their own
        placed.append(
            block
            if block.address is not None
            else Block(block.size_bytes, block.requested_bytes, block.state, at, block.stack)
        )
        at += block.size_bytes
    return Segment(
        device=whole(details.get("device")) or 0,
        address=address,
        total_bytes=total,
        kind=kind[:20] if type(kind) is str else "",
        stream=whole(details.get("stream")) or 0,
        expandable=details.get("is_expandable") is True,
        blocks=tuple(placed),
    )
