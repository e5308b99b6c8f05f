"""A recorded history of a real allocator through the model: how far the model's segments are from the card's.

Events are those of torch's snapshot (`device_traces`) or of `make gpu`'s compact form, one mapping each. The model is given
only what programs asked for and gave back; what the real allocator then took from the driver is what it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuwatch.core.memory.allocator import CachingAllocator
from gpuwatch.core.memory.pool import Block, OutOfMemory, Settings

_TAKEN = frozenset({"segment_alloc", "segment_map"})
_GIVEN = frozenset({"segment_free", "segment_unmap"})


@dataclass(frozen=True, slots=True)
class Replay:
    """The model beside the record."""

    allocations: int
    unknown_frees: int
    """Of blocks from before the record began; the model never had them."""
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    recorded_peak_reserved_bytes: int
    recorded_ooms: int
    ooms: int
    """Requests that the model refused."""

    @property
    def error_ratio(self) -> float | None:
        """How far the model's peak of reserved bytes is from the record's; None where the record tells none."""
        if not self.recorded_peak_reserved_bytes:
            return None
        return self.peak_reserved_bytes / self.recorded_peak_reserved_bytes - 1


def replay(
    events: Iterable[Mapping[str, Any]], settings: Settings | None = None, limit_bytes: int | None = None
) -> Replay:
    """Run a history through the model. Events that are none are passed over."""
    allocator = CachingAllocator(settings or Settings(), limit_bytes)
    held: dict[int, Block] = {}
    refused: set[int] = set()
    recorded = recorded_peak = allocations = unknown = recorded_ooms = ooms = 0
    for event in events:
        action, address, size = event.get("action"), event.get("addr", event.get("address")), event.get("size")
        if action == "oom":
            recorded_ooms += 1
        if not isinstance(address, int) or not isinstance(size, int) or size < 0:
            continue
        if action == "alloc":
            allocations += 1
            try:
                held[address] = allocator.malloc(size, int(event.get("stream") or 0))
            except OutOfMemory:
                ooms += 1
                refused.add(address)
        elif action == "free_completed":
            block = held.pop(address, None)
            if block is not None:
                allocator.free(block)
            elif address in refused:
                refused.remove(address)
            else:
                unknown += 1
        elif action in _TAKEN:
            recorded += size
            recorded_peak = max(recorded_peak, recorded)
        elif action in _GIVEN:
            recorded -= size
    return Replay(
        allocations,
        unknown,
        allocator.peak_allocated_bytes,
        allocator.peak_reserved_bytes,
        recorded_peak,
        recorded_ooms,
        ooms,
    )


def expanded(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterable[Mapping[str, Any]]:
    """The compact form's rows as events: `bytes` there is `size` here."""
    names = ["size" if name == "bytes" else name for name in columns]
    return (dict(zip(names, row, strict=True)) for row in rows)
