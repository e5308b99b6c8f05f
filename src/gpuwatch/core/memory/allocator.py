"""A model of PyTorch's native caching allocator for one GPU: which segments a history of allocations makes, and when it fails.

Follows the allocator's published behaviour (c10/cuda/CUDACachingAllocator): rounding, a pool for small and one for large
blocks, best fit, splitting, joining, expandable segments, garbage collection, and at a limit: give idle segments back, try
again, fail. Left out: CUDA graphs' private pools, callbacks, waiting for other streams (a freed block is free at once), rounding
steps that differ by size, and a max_non_split_rounding_mb other than 20.
Addresses are made up, ascending; they decide only between blocks of the same size.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gpuwatch.core.memory.pool import (
    BLOCK_BYTES,
    LARGE_SEGMENT_BYTES,
    SMALL_BYTES,
    SMALL_SEGMENT_BYTES,
    USUAL,
    Block,
    Expandable,
    OutOfMemory,
    Pool,
    Settings,
    segment_bytes,
)

_ADDRESS_SPACE_BYTES = 1 << 44
_FIRST_ADDRESS = 1 << 40


class CachingAllocator:
    """The allocator of one GPU. `malloc` gives a block, `free` takes it back; the counts are torch's own."""

    def __init__(self, settings: Settings = USUAL, limit_bytes: int | None = None) -> None:
        self.settings = settings
        self.limit_bytes = limit_bytes
        """Most that may be reserved, by torch's own fraction or by what the card has left; None: no limit."""
        self.allocated_bytes = self.reserved_bytes = self.requested_bytes = 0
        self.peak_allocated_bytes = self.peak_reserved_bytes = 0
        self.retries = 0
        self.segments = 0
        self._small, self._large = Pool(small=True), Pool(small=False)
        self._next_address = _FIRST_ADDRESS
        self._split_limit = settings.max_split_bytes or (1 << 62)

    # -- what torch's users see ------------------------------------------------------------------------------------------

    def malloc(self, size_bytes: int, stream: int = 0) -> Block:
        """Allocate. Raises OutOfMemory where idle segments given back do not make room either."""
        size = self.rounded(size_bytes)
        pool = self._small if size <= SMALL_BYTES else self._large
        block = self._best_fit(pool, size, stream)
        if block is None:
            block = self._new_block(pool, size, stream)
        remaining = block.size - size
        if (
            remaining >= BLOCK_BYTES
            if pool.small or self.settings.expandable
            else size < self._split_limit and remaining > SMALL_BYTES
        ):
            rest = Block(block.address + size, remaining, pool, stream, before=block, after=block.after)
            rest.segment = block.segment
            if rest.after is not None:
                rest.after.before = rest
            block.after, block.size = rest, size
            pool.put(rest)
        block.in_use = True
        block.requested = size_bytes
        self.requested_bytes += size_bytes
        self.allocated_bytes += block.size
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block

    def free(self, block: Block) -> None:
        """Give a block back to its pool, joined with idle neighbours."""
        if not block.in_use:
            raise ValueError("the block is not in use")
        block.in_use = False
        self.allocated_bytes -= block.size
        self.requested_bytes -= block.requested
        self._join(block, block.before)
        self._join(block, block.after)
        block.pool.put(block)

    def empty_cache(self) -> None:
        """Give idle segments back to the driver."""
        for pool in (self._large, self._small):
            expandable = []
            for _stream, _size, address in tuple(pool.idle):
                block = pool.at[address]
                if block.segment is not None:
                    expandable.append(block)
                elif block.before is None and block.after is None:
                    self._release(block)
            for block in expandable:
                self._unmap(block)

    def reset_peaks(self) -> None:
        """Count peaks from now."""
        self.peak_allocated_bytes, self.peak_reserved_bytes = self.allocated_bytes, self.reserved_bytes

    def rounded(self, size_bytes: int) -> int:
        """The size of block that a request gets."""
        if size_bytes < BLOCK_BYTES:
            return BLOCK_BYTES
        divisions = self.settings.power2_divisions
        if divisions > 1 and size_bytes > BLOCK_BYTES * divisions:
            return _up_to_division(size_bytes, divisions)
        return (size_bytes + BLOCK_BYTES - 1) & -BLOCK_BYTES

    def blocks(self) -> Iterator[Block]:
        """Every block, in use, idle or unmapped, by address: reachable from the idle and from those in use alike."""
        seen: dict[int, Block] = {}
        roots = [*self._small.at.values(), *self._large.at.values()]
        roots += [*self._small.unmapped_at.values(), *self._large.unmapped_at.values()]
        for root in roots:
            block: Block | None = root
            while block is not None and block.before is not None and block.address not in seen:
                block = block.before
            while block is not None and block.address not in seen:
                seen[block.address] = block
                block = block.after
        return iter([seen[address] for address in sorted(seen)])

    # -- finding room ----------------------------------------------------------------------------------------------------

    def _best_fit(self, pool: Pool, size: int, stream: int) -> Block | None:
        pool.searches += 1
        place = bisect_left(pool.idle, (stream, size, 0))
        if place == len(pool.idle) or pool.idle[place][0] != stream:
            return None
        block = pool.at[pool.idle[place][2]]
        if block.segment is not None:
            # A block that could grow counts with what it could grow to: take a tighter one before it.
            while place + 1 < len(pool.idle) and pool.idle[place + 1][0] == stream:
                following = pool.at[pool.idle[place + 1][2]]
                if _growable(following) >= _growable(block):
                    break
                place, block = place + 1, following
        if size < self._split_limit <= block.size:
            return None
        if size >= self._split_limit and block.size >= size + LARGE_SEGMENT_BYTES:
            return None
        pool.drop(block)
        return block

    def _new_block(self, pool: Pool, size: int, stream: int) -> Block:
        segment_size = segment_bytes(size)
        limit = self.limit_bytes
        if limit is not None and self.settings.garbage_collection_ratio > 0:
            self._collect_garbage(round(self.settings.garbage_collection_ratio * limit))
        block = self._segment(pool, size, segment_size, stream)
        if block is None and self.settings.max_split_bytes and self._release_oversized(pool, size, stream):
            block = self._segment(pool, size, segment_size, stream)
        if block is None:
            self.empty_cache()
            self.retries += 1
            block = self._segment(pool, size, segment_size, stream)
        if block is None:
            raise OutOfMemory(segment_size, self.allocated_bytes, self.reserved_bytes, limit or 0)
        return block

    def _segment(self, pool: Pool, size: int, segment_size: int, stream: int) -> Block | None:
        if self.settings.expandable:
            return self._grow(pool, size, stream)
        if not self._reserve(segment_size):
            return None
        self.segments += 1
        block = Block(self._next_address, segment_size, pool, stream)
        self._next_address += segment_size
        return block

    def _reserve(self, size: int) -> bool:
        if self.limit_bytes is not None and self.reserved_bytes + size > self.limit_bytes:
            return False
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return True

    def _release(self, block: Block) -> None:
        self.reserved_bytes -= block.size
        self.segments -= 1
        block.pool.drop(block)

    def _release_oversized(self, pool: Pool, size: int, stream: int) -> bool:
        wanted = max(size, self._split_limit)
        place = bisect_left(pool.idle, (stream, wanted, 0))
        if place < len(pool.idle) and pool.idle[place][0] == stream:
            self._release(pool.at[pool.idle[place][2]])
            return True
        released = 0
        while place > 0 and released < wanted:
            place -= 1
            of_stream, block_size, address = pool.idle[place]
            if of_stream != stream or block_size < self._split_limit:
                break
            released += block_size
            self._release(pool.at[address])
        return released >= wanted

    def _collect_garbage(self, threshold: int) -> None:
        pool = self._large
        wanted = self.reserved_bytes - threshold
        whole = [b for b in pool.at.values() if b.segment is None and b.before is None and b.after is None]
        while wanted > 0 and whole:
            mean_age = sum(pool.searches - block.age_base for block in whole) / len(whole)
            old = [block for block in whole if pool.searches - block.age_base >= mean_age]
            for block in old:
                wanted -= block.size
                self._release(block)
            whole = [block for block in whole if block not in old]

    # -- joining and splitting -------------------------------------------------------------------------------------------

    @staticmethod
    def _join(block: Block, other: Block | None) -> None:
        """Join an idle neighbour into `block`, which is in no pool."""
        if other is None or other.in_use or other.mapped != block.mapped:
            return
        if other.mapped:
            other.pool.drop(other)
        else:
            other.pool.drop_unmapped(other)
        if block.before is other:
            block.address, block.before = other.address, other.before
            if block.before is not None:
                block.before.after = block
        else:
            block.after = other.after
            if block.after is not None:
                block.after.before = block
        block.size += other.size

    # -- expandable segments ---------------------------------------------------------------------------------------------

    def _grow(self, pool: Pool, size: int, stream: int) -> Block | None:
        block = self._growable_block(pool, size, stream)
        if not block.mapped and not self._map(block, min(block.size, size)):
            return None
        while block.size < size:
            following = block.after
            if following is None or not self._map(following, min(size - block.size, following.size)):
                return None
            block = following
        pool.drop(block)
        return block

    def _growable_block(self, pool: Pool, size: int, stream: int) -> Block:
        for of_stream, _size, address in pool.unmapped:
            if of_stream != stream:
                continue
            start = pool.unmapped_at[address]
            if start.before is not None and not start.before.in_use:
                start = start.before
            room, block = 0, start
            while True:
                room += block.size
                if room >= size:
                    return start
                if block.after is None or block.after.in_use:
                    break
                block = block.after
        segment = Expandable(self._next_address, SMALL_SEGMENT_BYTES if pool.small else LARGE_SEGMENT_BYTES)
        self._next_address += _ADDRESS_SPACE_BYTES
        self.segments += 1
        whole = Block(segment.base, _ADDRESS_SPACE_BYTES, pool, stream, segment=segment, mapped=False)
        pool.put_unmapped(whole)
        return whole

    def _map(self, block: Block, size: int) -> bool:
        """Put memory behind the begin of a piece of address space, in whole pages; the block that results is idle."""
        segment = block.segment
        assert segment is not None  # noqa: S101 - only expandable segments have unmapped pieces
        mapped = -(-size // segment.page) * segment.page
        if not self._reserve(mapped):
            return False
        block.pool.drop_unmapped(block)
        block.mapped = True
        if mapped < block.size:
            rest = Block(block.address + mapped, block.size - mapped, block.pool, block.stream)
            rest.segment, rest.mapped, rest.before, rest.after = segment, False, block, block.after
            if rest.after is not None:
                rest.after.before = rest
            block.after, block.size = rest, mapped
            block.pool.put_unmapped(rest)
        self._join(block, block.before)
        self._join(block, block.after)
        block.pool.put(block)
        return True

    def _unmap(self, block: Block) -> None:
        """Take the memory from behind the whole pages of an idle block."""
        segment = block.segment
        assert segment is not None  # noqa: S101 - asked for these alone
        page, offset = segment.page, block.address - segment.base
        first = -(-offset // page) * page
        last = (offset + block.size) // page * page
        if first >= last:
            return
        block.pool.drop(block)
        for address, size, is_before in (
            (block.address, first - offset, True),
            (segment.base + last, offset + block.size - last, False),
        ):
            if size == 0:
                continue
            rest = Block(address, size, block.pool, block.stream, segment=segment)
            if is_before:
                rest.before, rest.after = block.before, block
                if rest.before is not None:
                    rest.before.after = rest
                block.before = rest
            else:
                rest.before, rest.after = block, block.after
                if rest.after is not None:
                    rest.after.before = rest
                block.after = rest
            block.pool.put(rest)
        block.address, block.size, block.mapped = segment.base + first, last - first, False
        self.reserved_bytes -= block.size
        self._join(block, block.before)
        self._join(block, block.after)
        if block.before is None and block.after is None:
            self.segments -= 1
        else:
            block.pool.put_unmapped(block)


def _growable(block: Block) -> int:
    following = block.after
    return block.size + (following.size if following is not None and not following.mapped else 0)


def _up_to_division(size: int, divisions: int) -> int:
    """Up to the next of so many equal steps between two powers of two."""
    floor = 1 << (size.bit_length() - 1)
    step = floor >> (divisions.bit_length() - 1)
    if step == 0:
        return floor << 1
    return -(-size // step) * step
