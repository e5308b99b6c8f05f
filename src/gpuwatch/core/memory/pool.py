"""What the caching allocator deals in: its settings, blocks, the pools that idle ones wait in, the sizes of segments by class.

The constants are PyTorch's (c10/cuda/CUDACachingAllocator).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

KIB, MIB = 1 << 10, 1 << 20
BLOCK_BYTES = 512
"""Sizes are rounded up to a multiple of this."""
SMALL_BYTES = MIB
"""Up to here a block comes from the small pool; a large block is split only where more than this would remain."""
SMALL_SEGMENT_BYTES = 2 * MIB
LARGE_SEGMENT_BYTES = 20 * MIB
OWN_SEGMENT_BYTES = 10 * MIB
"""From here a large block that finds no room gets a segment of its own size."""
ROUND_SEGMENT_BYTES = 2 * MIB


@dataclass(frozen=True, slots=True)
class Settings:
    """What PYTORCH_ALLOC_CONF says, as far as it changes where blocks go."""

    expandable: bool = False
    max_split_bytes: int | None = None
    """Blocks from here on are neither split nor given to smaller requests."""
    garbage_collection_ratio: float = 0.0
    """Share of the limit above which idle segments are given back before new ones are asked for."""
    power2_divisions: int = 0
    """Round sizes up to this many steps between powers of two; 0: do not."""


USUAL = Settings()
"""Where nobody set anything."""


@dataclass(frozen=True, slots=True)
class OutOfMemory(Exception):  # noqa: N818 - it is what happened, not a mistake
    """A request that found no room, with the numbers that torch would print."""

    tried_bytes: int
    """What was asked of the driver: the request, rounded up as a segment."""
    allocated_bytes: int
    reserved_bytes: int
    limit_bytes: int

    @property
    def free_bytes(self) -> int:
        """What was left below the limit."""
        return self.limit_bytes - self.reserved_bytes


@dataclass(slots=True, eq=False)
class Block:
    """A piece of a segment, in use or idle, between its neighbours there."""

    address: int
    size: int
    pool: Pool
    stream: int = 0
    in_use: bool = False
    before: Block | None = None
    after: Block | None = None
    segment: Expandable | None = None
    """The expandable segment it is in; None for an ordinary one."""
    mapped: bool = True
    """Backed by memory; a piece of an expandable segment's address space need not be."""
    age_base: int = 0
    requested: int = 0


@dataclass(slots=True, eq=False)
class Pool:
    """Idle blocks of one kind, by stream, size and address."""

    small: bool
    idle: list[tuple[int, int, int]] = field(default_factory=list)
    at: dict[int, Block] = field(default_factory=dict)
    unmapped: list[tuple[int, int, int]] = field(default_factory=list)
    unmapped_at: dict[int, Block] = field(default_factory=dict)
    searches: int = 0

    def put(self, block: Block) -> None:
        """Take an idle block in."""
        block.age_base = self.searches
        self.at[block.address] = block
        insort(self.idle, (block.stream, block.size, block.address))

    def drop(self, block: Block) -> None:
        """Let an idle block go."""
        del self.at[block.address]
        del self.idle[bisect_left(self.idle, (block.stream, block.size, block.address))]

    def put_unmapped(self, block: Block) -> None:
        """Take a piece of address space in."""
        self.unmapped_at[block.address] = block
        insort(self.unmapped, (block.stream, block.size, block.address))

    def drop_unmapped(self, block: Block) -> None:
        """Let a piece of address space go."""
        del self.unmapped_at[block.address]
        del self.unmapped[bisect_left(self.unmapped, (block.stream, block.size, block.address))]


@dataclass(slots=True, eq=False)
class Expandable:
    """A range of addresses that memory is put behind page by page."""

    base: int
    page: int


def segment_bytes(size: int) -> int:
    """What is asked of the driver for a block of a rounded size that found no room."""
    if size <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size < OWN_SEGMENT_BYTES:
        return LARGE_SEGMENT_BYTES
    return -(-size // ROUND_SEGMENT_BYTES) * ROUND_SEGMENT_BYTES
