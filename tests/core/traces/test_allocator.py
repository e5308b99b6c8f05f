"""What an allocator's snapshot tells, from constructed snapshots."""

from __future__ import annotations

from typing import Any

from gpuwatch.core.traces.allocator import DeviceMemory, device_memories
from gpuwatch.core.traces.snapshot import Actions, Snapshot, block_of, segment_of
from tests.snapshots import MIB, Allocator

WEIGHTS = ("load", "/app/weights.py", 12)
PAD = ("forward", "/app/network.py", 40)
BLUR = ("forward", "/app/network.py", 41)


def taken_in(value: dict[str, Any]) -> Snapshot:
    snapshot = Snapshot()

    def stack(details: dict[str, Any]) -> int:
        return snapshot.stacks.stack(tuple(snapshot.stacks.frame(frame) for frame in details.get("frames", ())))

    for trace in value["device_traces"]:
        actions = Actions()
        for entry in trace:
            assert actions.add(entry, stack(entry))
        snapshot.actions.append(actions)
    for segment in value["segments"]:
        blocks = [block_of(block, stack(block)) for block in segment["blocks"]]
        made = segment_of(segment, [block for block in blocks if block is not None])
        assert made is not None
        snapshot.segments.append(made)
    return snapshot


def story_of(allocator: Allocator, *, keep: int | None = None) -> DeviceMemory:
    (story,) = device_memories(taken_in(allocator.snapshot(keep=keep)))
    return story


def a_run() -> Allocator:
    """Weights of 30 MiB stay; padding and blurring overlap at the peak; one allocation is refused."""
    allocator = Allocator()
    weights, pad, blur = (allocator.frames(place) for place in (WEIGHTS, PAD, BLUR))
    for _ in range(3):
        allocator.alloc(10 * MIB, weights)
    padded = allocator.alloc(15 * MIB - 100, pad)
    blurred = allocator.alloc(5 * MIB, blur)
    allocator.refuse(64 * MIB, 7 * MIB, blur)
    allocator.free(padded)
    allocator.free(blurred)
    allocator.alloc(3 * MIB, blur)
    return allocator


def test_the_peak_its_holders_and_the_refusal() -> None:
    story = story_of(a_run())
    assert story.peak_bytes == 50 * MIB - 100
    assert story.peak_rounded_bytes == 50 * MIB
    assert story.earlier_bytes == 0
    assert [(held.size_bytes, held.count, held.stack[0].line, held.recorded) for held in story.holders] == [
        (30 * MIB, 3, 12, True),
        (15 * MIB - 100, 1, 40, True),
        (5 * MIB, 1, 41, True),
    ]
    (refusal,) = story.refusals
    assert (refusal.asked_bytes, refusal.device_free_bytes, refusal.allocated_bytes) == (
        64 * MIB, 7 * MIB, 50 * MIB - 100,
    )  # fmt: skip
    assert refusal.reserved_bytes == story.reserved_at_peak_bytes == story.most_reserved_bytes == 60 * MIB
    assert refusal.stack[0].function == "forward"
    assert story.peak_seconds is not None
    assert story.peak_seconds > 0
    assert max(story.timeline_bytes) == story.peak_bytes
    assert 0 not in story.timeline_bytes[story.timeline_bytes.index(10 * MIB) :]


def test_what_is_left_is_told_as_fragments() -> None:
    fragments = story_of(a_run()).fragments
    assert (fragments.segments, fragments.reserved_bytes, fragments.allocated_bytes) == (3, 60 * MIB, 33 * MIB)
    assert fragments.free_bytes == 27 * MIB == fragments.inactive_split_bytes + fragments.releasable_bytes
    assert fragments.releasable_bytes == 20 * MIB
    assert 0 < fragments.largest_free_bytes <= 20 * MIB


def test_a_record_that_lost_its_beginning_gives_the_same_peak() -> None:
    whole = a_run()
    entries = len(whole.trace)
    for lost in range(1, 9):  # up to and with the first alloc after the weights, and then some
        cut = story_of(whole, keep=entries - lost)
        assert cut.peak_bytes == 50 * MIB - 100, lost
        assert cut.most_reserved_bytes == 60 * MIB
    story = story_of(whole, keep=entries - 5)
    assert story.earlier_bytes == 30 * MIB
    # the weights are still there at the end, and their blocks tell who took them
    assert (story.holders[0].size_bytes, story.holders[0].recorded, story.holders[0].stack[0].line) == (
        30 * MIB, False, 12,
    )  # fmt: skip


def test_a_snapshot_without_a_record_tells_the_end() -> None:
    story = story_of(a_run(), keep=-1000)
    assert (story.actions, story.peak_bytes, story.peak_seconds, story.timeline_bytes) == (0, None, None, ())
    assert sum(held.size_bytes for held in story.holders) == 33 * MIB


def test_devices_are_told_apart_and_empty_ones_left_out() -> None:
    value = a_run().snapshot()
    other = Allocator()
    other.alloc(MIB, other.frames(PAD))
    second = other.snapshot()
    for segment in second["segments"]:
        segment["device"] = 2
    value["segments"] = value["segments"] + second["segments"]
    value["device_traces"] += [[], second["device_traces"][0]]
    first, last = device_memories(taken_in(value))
    assert (first.device, last.device) == (0, 2)
    assert (first.peak_bytes, last.peak_bytes) == (50 * MIB - 100, MIB)


def test_actions_that_make_no_sense_are_refused() -> None:
    actions = Actions()
    good = {"action": "alloc", "addr": 1, "size": 2, "time_us": 3}
    assert actions.add(good, 0)
    for wrong in ({"size": -1}, {"size": "big"}, {"addr": 1 << 80}, {"addr": None}, {"action": 7}):
        assert not actions.add(good | wrong, 0)
    assert actions.add(good | {"action": "snapshot"}, 0)  # says nothing of memory
    assert len(actions) == 1
