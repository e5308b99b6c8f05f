"""A trace through the allocator: what is allocated and reserved in a later pass, and the smallest budget that works."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gpuwatch.core.memory.allocator import CachingAllocator
from gpuwatch.core.memory.pool import MIB, Block, OutOfMemory, Settings
from gpuwatch.core.memory.trace import Trace

PASSES = 2
"""The first pass finds an empty allocator, the second what the first left; later ones are like the second."""
FINEST_BYTES = 2 * MIB
FINEST_RATIO = 0.0025
"""A budget is sought to the coarser of the two: segments are multiples of the first, and the rest is calibration."""
PRODUCTS = frozenset({"addmm", "bmm", "mm", "baddbmm", "addmv", "mv", "dot", "_addmm_activation"})
"""Operators at the first of which cuBLAS takes its workspace."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a pass is given."""

    height_px: int
    width_px: int
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Simulated:
    """What torch's counters would say of the last pass."""

    live_bytes: int
    """What tensors and the workspace ask for at the peak."""
    workspace_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    peak_birth: int
    """The allocation at which most was alive."""


@dataclass(frozen=True, slots=True)
class Failure(Exception):  # noqa: N818 - it is what happened, not a mistake
    """Where a simulated pass ran out of memory."""

    birth: int
    """The allocation's number in the trace; -1 while the network was being loaded."""
    out: OutOfMemory


def simulate(
    trace: Trace, size: Size, settings: Settings, workspace_bytes: int, limit_bytes: int | None = None
) -> Simulated:
    """Load the network and run passes under a limit. Raises Failure where it does not fit."""
    allocator = CachingAllocator(settings, limit_bytes)
    number = -1
    sized = trace.at(size.height_px, size.width_px, size.batch)
    workspace_at = workspace_birth(trace) if workspace_bytes else None
    malloc, free = allocator.malloc, allocator.free
    try:
        for count in trace.resident_bytes:
            malloc(count)
        for index in range(PASSES):
            allocator.reset_peaks()
            held: dict[int, Block] = {}
            for event in trace.events:
                if event >= 0:
                    number = event
                    held[event] = malloc(sized.birth_bytes[event])
                    if event == workspace_at and index == 0:
                        malloc(workspace_bytes)
                else:
                    free(held.pop(-event - 1))
    except OutOfMemory as out:
        raise Failure(number, out) from None
    workspace_bytes = 0 if workspace_at is None else workspace_bytes
    return Simulated(
        sized.peak_bytes + workspace_bytes,
        workspace_bytes,
        allocator.peak_allocated_bytes,
        allocator.peak_reserved_bytes,
        sized.peak_birth,
    )


@lru_cache(maxsize=512)
def without_limit(trace: Trace, size: Size, settings: Settings, workspace_bytes: int) -> Simulated:
    """`simulate` on a card that is large enough; remembered, because questions come again."""
    return simulate(trace, size, settings, workspace_bytes)


@lru_cache(maxsize=4096)
def live_bytes(trace: Trace, size: Size, workspace_bytes: int) -> int:
    """What is alive at a pass's peak: no budget below it works."""
    return trace.at(size.height_px, size.width_px, size.batch).peak_bytes + (
        workspace_bytes if workspace_birth(trace) is not None else 0
    )


@dataclass(slots=True, eq=False)
class Seeking:
    """The least that torch must be allowed for passes to work, between bounds that are halved as far as a question needs.

    Supposes that what works with a budget works with a larger one, which fragmentation breaks by a few MiB. Which budgets are
    tried does not depend on the questions, so that the answers do not depend on their order.
    """

    trace: Trace
    size: Size
    settings: Settings
    workspace_bytes: int
    finest_bytes: int
    bounds: tuple[int, int]
    """The largest budget that is known to fail, and the smallest that is known to work. Set as one, for threads ask too."""

    def narrow(self) -> bool:
        """Halve what lies between the bounds; False where that is as small as it is sought to."""
        fails, enough = self.bounds
        if enough - fails <= self.finest_bytes:
            return False
        budget = (enough + fails) // 2
        works = True
        try:
            simulate(self.trace, self.size, self.settings, self.workspace_bytes, budget)
        except Failure:
            works = False
        self.bounds = (fails, budget) if works else (budget, enough)
        return True


@lru_cache(maxsize=1024)
def seeking(trace: Trace, size: Size, settings: Settings, workspace_bytes: int) -> Seeking:
    """How far the smallest budget was sought; remembered, because questions come again."""
    free = without_limit(trace, size, settings, workspace_bytes)
    finest = max(FINEST_BYTES, round(FINEST_RATIO * free.reserved_bytes))
    return Seeking(trace, size, settings, workspace_bytes, finest, (free.live_bytes - 1, free.reserved_bytes))


def smallest_budget(trace: Trace, size: Size, settings: Settings, workspace_bytes: int) -> int:
    """The least that torch must be allowed for passes to work, exact to `FINEST_*`."""
    sought = seeking(trace, size, settings, workspace_bytes)
    while sought.narrow():
        pass
    return sought.bounds[1]


def is_enough(trace: Trace, size: Size, settings: Settings, workspace_bytes: int, limit_bytes: float) -> bool:
    """Whether a limit is at least the smallest budget, at the cost of as few simulations as that takes."""
    if limit_bytes < live_bytes(trace, size, workspace_bytes):
        return False
    sought = seeking(trace, size, settings, workspace_bytes)
    while sought.bounds[0] < limit_bytes < sought.bounds[1] and sought.narrow():
        pass
    return limit_bytes >= sought.bounds[1]


@lru_cache(maxsize=64)
def workspace_birth(trace: Trace) -> int | None:
    """The allocation at which cuBLAS first multiplies; None where it never does."""
    for birth, kind in enumerate(trace.births):
        if trace.kinds[kind][0] in PRODUCTS:
            return birth
    return None
