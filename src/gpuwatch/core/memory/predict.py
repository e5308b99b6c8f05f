"""What a job will hold on a card: live bytes from the trace, the allocator's part by simulation, the rest by calibration.

Everything here is computed; how well it holds on GPUs is told in docs/memory.md. A band's low and high end are bounds that
the need is meant to keep, not a spread of repeated runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from gpuwatch.core.diagnosis import Fits
from gpuwatch.core.memory.band import Band
from gpuwatch.core.memory.calibration import Calibration, pick
from gpuwatch.core.memory.pool import MIB, Settings
from gpuwatch.core.memory.simulate import Size, is_enough, live_bytes, smallest_budget, without_limit
from gpuwatch.core.memory.trace import Trace

Allocator = Literal["native", "expandable", "async"]
ALLOCATORS: tuple[Allocator, ...] = ("native", "expandable", "async")
DRIVER_POOL_BYTES = 32 * MIB
"""cudaMallocAsync's pool grows in steps of about this."""
DRIVER_POOL_BUDGET = Band(1.0, 1.02, 1.06)
"""What cudaMallocAsync needs over the live bytes. Supposed: the driver's pool is closed, and nothing here simulates it."""


class Traces(Protocol):
    """The shipped traces of a workload, read when they are asked for."""

    def find(self, variant: str, dtype: str, rewrite: str, *, grad: bool, many: bool) -> Trace | None:
        """The trace of that name; None where none is shipped."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a job will need."""

    variant: str
    side_px: int
    """The height."""
    dtype: str
    live_bytes: int
    """Peak of live tensors, the library's workspace included."""
    allocated_bytes: int
    """What torch's max_memory_allocated says of a later pass."""
    reserved_bytes: Band
    process_bytes: Band
    """Reserved, and the CUDA context."""
    budget_bytes: Band
    """The least that torch must be allowed."""
    context_bytes: Band
    weights_bytes: int
    workspace_bytes: int
    peak_step: str
    """Where in the network most is alive: place and operator."""
    flop: int
    width_px: int
    batch: int = 1
    rewrite: str = "none"

    @property
    def least_bytes(self) -> Band:
        """The least that the card must have for the whole process."""
        return self.budget_bytes.plus(self.context_bytes)

    def on_card(self, room_bytes: float | None) -> Need:
        """The need where torch can have `room_bytes`: it then gives idle segments back instead of taking more."""
        if room_bytes is None or self.budget_bytes.high > room_bytes or self.reserved_bytes.high <= room_bytes:
            return self
        reserved = self.reserved_bytes.capped(room_bytes)
        return replace(self, reserved_bytes=reserved, process_bytes=reserved.plus(self.context_bytes))


def need_of(
    trace: Trace,
    size: Size,
    calibrations: Sequence[Calibration],
    *,
    allocator: Allocator = "native",
    arch: str | None = None,
    context_bytes: Band | None = None,
    seek_budget: bool = True,
) -> Need:
    """What a pass at a size needs. `context_bytes` stands for the calibration's where the card's own is told.

    Without `seek_budget`, which takes most of the time, the budget is only known to be at most what is reserved.
    """
    constants = pick(calibrations, arch, allocator)
    workspace = round(constants.workspace_bytes.mid)
    settings = Settings(expandable=allocator == "expandable")
    found = without_limit(trace, size, settings, workspace)
    live = found.live_bytes
    if allocator == "async":
        allocated, reserved, budget = live, _pooled(live), DRIVER_POOL_BUDGET.scaled(live)
    else:
        allocated, reserved = found.allocated_bytes, Band.exactly(found.reserved_bytes)
        least = smallest_budget(trace, size, settings, workspace) if seek_budget else found.reserved_bytes
        budget = constants.budget_ratio.scaled(least)
    # The workspace is in what was simulated at its middle; the rest of its band comes on top.
    beyond = Band(
        constants.workspace_bytes.low - workspace, constants.workspace_bytes.mid - workspace,
        constants.workspace_bytes.high - workspace,
    )  # fmt: skip
    reserved = reserved.times(constants.reserved_ratio).plus(beyond).raised(allocated)
    context = constants.context_bytes if context_bytes is None else context_bytes
    name = trace.name
    return Need(
        name["variant"],
        size.height_px,
        name["dtype"],
        live,
        allocated,
        reserved,
        reserved.plus(context),
        budget.plus(beyond).raised(live),
        context,
        trace.weights_bytes,
        found.workspace_bytes,
        trace.step(found.peak_birth),
        trace.flop_at(size.height_px, size.width_px, size.batch),
        size.width_px,
        size.batch,
        name["rewrite"],
    )


def hardly_fits(
    trace: Trace,
    size: Size,
    calibrations: Sequence[Calibration],
    room_bytes: float,
    *,
    allocator: Allocator = "native",
    arch: str | None = None,
) -> bool:
    """Whether `fits` is not going to say yes: few simulations instead of the many that a need takes."""
    constants = pick(calibrations, arch, allocator)
    if allocator == "async":
        return live_bytes(trace, size, 0) > room_bytes
    workspace = constants.workspace_bytes
    budget = (room_bytes - workspace.high + workspace.mid) / constants.budget_ratio.high
    return not is_enough(trace, size, Settings(expandable=allocator == "expandable"), round(workspace.mid), budget)


def _pooled(live_bytes: int) -> Band:
    """What cudaMallocAsync's pool reserves, approximately."""
    low = -(-live_bytes // DRIVER_POOL_BYTES) * DRIVER_POOL_BYTES
    return Band(low, low + DRIVER_POOL_BYTES, low * 1.05 + 2 * DRIVER_POOL_BYTES)


def fits(need: Need, room_bytes: float) -> Fits:
    """Whether the job works where torch can have `room_bytes`."""
    if need.budget_bytes.high <= room_bytes:
        return "yes"
    return "no" if need.budget_bytes.low > room_bytes else "uncertain"


def fits_card(need: Need, total_bytes: float, used_bytes: float = 0) -> Fits:
    """Whether the whole process fits on a card of which others hold `used_bytes`."""
    least = need.least_bytes
    if least.high <= total_bytes - used_bytes:
        return "yes"
    return "no" if least.low > total_bytes - used_bytes else "uncertain"
