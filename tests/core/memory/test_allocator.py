"""The allocator's model: small histories worked out by hand from its published rules, and laws that hold for any."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.core.memory.allocator import CachingAllocator
from gpuwatch.core.memory.pool import BLOCK_BYTES, KIB, MIB, Block, OutOfMemory, Settings, segment_bytes

EXPANDABLE = Settings(expandable=True)


def counts(allocator: CachingAllocator) -> tuple[float, float]:
    return allocator.allocated_bytes / MIB, allocator.reserved_bytes / MIB


def test_small_blocks_share_a_segment_of_two_mib() -> None:
    allocator = CachingAllocator()
    allocator.malloc(100)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (512, 2 * MIB)
    allocator.malloc(MIB)
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (512 + MIB, 2 * MIB)
    allocator.malloc(MIB)  # 512 bytes less than a MiB are left
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (512 + 2 * MIB, 4 * MIB)


def test_a_large_block_is_split_only_where_more_than_a_mib_would_remain() -> None:
    allocator = CachingAllocator()
    allocator.malloc(MIB + 1)  # rounded to 1,049,088 bytes: the large pool, a segment of 20 MiB
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (1_049_088, 20 * MIB)
    allocator.malloc(19_398_656)  # 18.5 MiB; 0.4995 MiB would remain
    assert (allocator.allocated_bytes, allocator.reserved_bytes) == (20 * MIB, 20 * MIB)


@pytest.mark.parametrize(
    ("asked", "held", "reserved"),
    [
        (10 * MIB, 10, 10), (10 * MIB - 1, 10, 10), (10 * MIB - 512, 10 - 512 / MIB, 20), (11 * MIB, 12, 12),
        (10 * MIB + 1, 10 + 512 / MIB, 12), (12 * MIB + 1, 12 + 512 / MIB, 14), (12 * MIB - 512, 12, 12), (0, 512 / MIB, 2),
        (3 * MIB, 3, 20), (1 << 30, 1024, 1024),
    ],
)  # fmt: skip
def test_a_first_request_makes_a_segment_of_its_class(asked: int, held: float, reserved: int) -> None:
    allocator = CachingAllocator()
    allocator.malloc(asked)
    # 12 MiB + 512 bytes in 14 MiB leave 2 MiB - 512 bytes, which is more than a MiB and is split off.
    assert counts(allocator) == (pytest.approx(held), reserved)


def test_the_smallest_block_that_is_large_enough_is_taken() -> None:
    allocator = CachingAllocator()
    blocks = [allocator.malloc(size * MIB) for size in (16, 12, 14)]
    for block in blocks:
        allocator.free(block)
    assert allocator.malloc(11 * MIB) is blocks[1]
    assert allocator.reserved_bytes == 42 * MIB


def test_idle_neighbours_become_one_block_again() -> None:
    allocator = CachingAllocator()
    first, second, third = (allocator.malloc(size * MIB) for size in (4, 6, 8))
    for block in (first, third, second):
        allocator.free(block)
    assert counts(allocator) == (0, 20)
    allocator.malloc(20 * MIB)
    assert counts(allocator) == (20, 20)


def test_at_the_limit_idle_segments_go_back_and_the_request_is_tried_again() -> None:
    allocator = CachingAllocator(limit_bytes=40 * MIB)
    allocator.free(allocator.malloc(20 * MIB))
    allocator.malloc(24 * MIB)
    assert (counts(allocator), allocator.retries) == ((24, 24), 1)


def test_what_finds_no_room_even_then_fails_with_the_numbers_of_the_message() -> None:
    allocator = CachingAllocator(limit_bytes=40 * MIB)
    allocator.malloc(2 * MIB)
    with pytest.raises(OutOfMemory) as failed:
        allocator.malloc(22 * MIB - 1)
    out = failed.value
    assert (out.tried_bytes, out.allocated_bytes, out.reserved_bytes, out.free_bytes) == (
        22 * MIB, 2 * MIB, 20 * MIB, 20 * MIB,
    )  # fmt: skip
    allocator.malloc(18 * MIB)
    assert counts(allocator) == (20, 20)


def test_a_segment_with_one_block_in_use_cannot_go_back() -> None:
    allocator = CachingAllocator()
    kept, idle = allocator.malloc(2 * MIB), allocator.malloc(17 * MIB)
    allocator.free(idle)
    allocator.empty_cache()
    assert counts(allocator) == (2, 20)
    allocator.free(kept)
    allocator.empty_cache()
    assert counts(allocator) == (0, 0)


def test_an_expandable_segment_grows_by_pages_of_twenty_mib() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    blocks = [allocator.malloc(25 * MIB)]
    assert counts(allocator) == (25, 40)
    blocks.append(allocator.malloc(14 * MIB))
    assert counts(allocator) == (39, 40)
    blocks.append(allocator.malloc(30 * MIB))  # one MiB is left, 29 more are two pages
    assert (counts(allocator), allocator.segments) == ((69, 80), 1)
    allocator.malloc(512)
    assert allocator.reserved_bytes == 82 * MIB
    for block in blocks:
        allocator.free(block)
    allocator.empty_cache()
    assert allocator.reserved_bytes == 2 * MIB


def test_an_expandable_segment_gives_back_the_whole_pages_of_its_middle() -> None:
    allocator = CachingAllocator(EXPANDABLE)
    first, middle, last = (allocator.malloc(size * MIB) for size in (5, 50, 5))
    allocator.free(middle)
    allocator.empty_cache()
    assert counts(allocator) == (10, 40)  # of 60: the page from 20 to 40 goes, 5 to 20 and 40 to 55 stay
    allocator.malloc(70 * MIB)  # nowhere between: four pages behind the last block
    assert first.address < last.address
    assert counts(allocator) == (80, 120)


def test_an_expandable_segment_at_its_limit_moves_pages_where_they_are_wanted() -> None:
    allocator = CachingAllocator(EXPANDABLE, limit_bytes=100 * MIB)
    allocator.free(allocator.malloc(60 * MIB))
    allocator.malloc(90 * MIB)
    assert counts(allocator) == (90, 100)
    with pytest.raises(OutOfMemory):
        allocator.malloc(20 * MIB)


def test_blocks_beyond_the_split_limit_are_kept_for_large_requests() -> None:
    allocator = CachingAllocator(Settings(max_split_bytes=64 * MIB))
    large = allocator.malloc(100 * MIB)
    allocator.free(large)
    allocator.malloc(30 * MIB)
    assert counts(allocator) == (30, 130)
    assert allocator.malloc(90 * MIB) is large
    assert counts(allocator) == (130, 130)  # not split
    with_limit = CachingAllocator(Settings(max_split_bytes=64 * MIB), limit_bytes=160 * MIB)
    with_limit.free(with_limit.malloc(100 * MIB))
    with_limit.malloc(70 * MIB)
    assert counts(with_limit) == (70, 70)


def test_garbage_is_collected_above_the_threshold() -> None:
    allocator = CachingAllocator(Settings(garbage_collection_ratio=0.5), limit_bytes=200 * MIB)
    old = allocator.malloc(60 * MIB)
    allocator.free(old)
    young = allocator.malloc(61 * MIB)
    allocator.free(young)
    allocator.malloc(64 * MIB)  # 122 MiB are reserved, 100 is the threshold
    assert allocator.reserved_bytes == 126 * MIB
    assert allocator.retries == 0


def test_sizes_are_rounded_to_steps_between_powers_of_two() -> None:
    allocator = CachingAllocator(Settings(power2_divisions=4))
    assert [allocator.rounded(size) for size in (1200, 5000, 5120, 4096, 7169)] == [1536, 5120, 5120, 4096, 8192]
    assert CachingAllocator().rounded(5000) == 5120


def test_streams_do_not_share_blocks() -> None:
    allocator = CachingAllocator()
    allocator.free(allocator.malloc(12 * MIB, stream=1))
    allocator.malloc(12 * MIB, stream=2)
    assert allocator.reserved_bytes == 24 * MIB


def test_a_block_is_freed_once() -> None:
    allocator = CachingAllocator()
    block = allocator.malloc(1)
    allocator.free(block)
    with pytest.raises(ValueError, match="not in use"):
        allocator.free(block)


SIZES = st.one_of(
    st.integers(0, 4 * KIB), st.integers(MIB - KIB, 3 * MIB), st.integers(9 * MIB, 11 * MIB), st.integers(0, 200 * MIB)
)
STEPS = st.lists(st.tuples(st.booleans(), SIZES, st.integers(0, 1 << 30)), max_size=80)
KINDS = st.sampled_from(
    [
        Settings(),
        EXPANDABLE,
        Settings(max_split_bytes=40 * MIB),
        Settings(garbage_collection_ratio=0.6),
        Settings(power2_divisions=8),
    ]
)


def run(steps: list[tuple[bool, int, int]], kind: Settings, limit: int | None) -> tuple[CachingAllocator, list[Block]]:
    allocator, held = CachingAllocator(kind, limit), []
    for takes, size, which in steps:
        if takes or not held:
            try:
                held.append(allocator.malloc(size))
            except OutOfMemory as refused:
                out = refused
            else:
                out = None
            if out is not None:
                assert limit is not None
                assert out.tried_bytes == segment_bytes(allocator.rounded(size))
                assert out.reserved_bytes <= limit
        else:
            allocator.free(held.pop(which % len(held)))
        check(allocator, held, limit)
    return allocator, held


def check(allocator: CachingAllocator, held: list[Block], limit: int | None) -> None:
    blocks = list(allocator.blocks())
    in_use = {id(block) for block in blocks if block.in_use}
    # Those of a segment that is wholly in use hang on no idle block.
    lone = [block for block in held if id(block) not in in_use]
    every = sorted([*blocks, *lone], key=lambda block: block.address)
    for block, following in pairwise(every):
        assert block.address + block.size <= following.address
    assert sum(block.size for block in held) == allocator.allocated_bytes
    mapped = sum(block.size for block in every if block.mapped)
    assert mapped <= allocator.reserved_bytes
    for block in every:
        following = block.after
        if following is not None:
            assert following.before is block
            assert block.address + block.size == following.address
            assert block.in_use or following.in_use or block.mapped != following.mapped
        assert block.size >= BLOCK_BYTES
    assert allocator.requested_bytes <= allocator.allocated_bytes <= allocator.reserved_bytes
    assert allocator.allocated_bytes <= allocator.peak_allocated_bytes <= allocator.peak_reserved_bytes
    if limit is not None:
        assert allocator.peak_reserved_bytes <= limit


@settings(max_examples=60, deadline=None)
@given(STEPS, KINDS, st.sampled_from([None, 64 * MIB, 300 * MIB]))
def test_blocks_never_overlap_and_the_sums_agree(
    steps: list[tuple[bool, int, int]], kind: Settings, limit: int | None
) -> None:
    allocator, held = run(steps, kind, limit)
    again, _ = run(steps, kind, limit)
    assert (again.peak_allocated_bytes, again.peak_reserved_bytes, again.retries) == (
        allocator.peak_allocated_bytes, allocator.peak_reserved_bytes, allocator.retries,
    )  # fmt: skip
    for block in held:
        allocator.free(block)
    assert allocator.allocated_bytes == allocator.requested_bytes == 0
    allocator.empty_cache()
    assert allocator.reserved_bytes == 0
