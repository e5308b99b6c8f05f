"""What a job needs: profiles of workloads as data, and the closed forms that turn a size into bytes.

The numbers stand in rules/workloads/*.yaml with their source. They are computed (traced on a CPU), not measured on a GPU,
and a prediction made from them says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, Literal

from gpuwatch.core.diagnosis import Fits
from gpuwatch.texts import Text

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Band:
    """A quantity that is known only within bounds."""

    low: float
    mid: float
    high: float

    def scaled(self, factor: float) -> Band:
        """The band times a number."""
        return Band(self.low * factor, self.mid * factor, self.high * factor)

    def plus(self, other: Band) -> Band:
        """The sum of two bands, low to low and high to high."""
        return Band(self.low + other.low, self.mid + other.mid, self.high + other.high)


@dataclass(frozen=True, slots=True)
class MemoryCurve:
    """Peak of live bytes at batch 1 without gradients: fixed + per_px * side^2."""

    fixed_bytes: float
    per_px_bytes: float

    def live_bytes(self, side_px: int) -> int:
        """Peak of live bytes for a square of that side."""
        return round(self.fixed_bytes + self.per_px_bytes * side_px * side_px)


@dataclass(frozen=True, slots=True)
class Variant:
    """One network of a workload: which checkpoints are it, and its curve for each dtype."""

    name: str
    checkpoints: tuple[str, ...]
    curves: Mapping[str, MemoryCurve]


@dataclass(frozen=True, slots=True)
class WorkloadProfile:
    """A kind of job: how to recognise its node, which input is its size, what it needs."""

    id: str
    title: str
    node_types: tuple[str, ...]
    packs: tuple[str, ...]
    """Folders in custom_nodes whose frames in a traceback mean this workload; the first node type is then the failed one."""
    size_input: str
    checkpoint_input: str
    min_px: int
    max_px: int
    step_px: int
    default_px: int
    smallest_traced_px: int
    """Below it the curves are not claimed to hold."""
    largest_working_px: int
    peak_per_px_bytes: int
    """What the operation at the peak asks for, per pixel of side^2, in fp32."""
    workspace_bytes: int
    reserved_ratio: Band
    """Reserved over allocated with PyTorch's native allocator."""
    context_bytes: Band
    """What the process holds on the card outside PyTorch."""
    variants: Mapping[str, Variant]
    source: Text
    """Where the numbers come from."""

    def variant_of(self, checkpoint: str | None) -> str | None:
        """The variant that a checkpoint's file name means; None where the name is not known."""
        if checkpoint is None:
            return None
        name = checkpoint.replace("\\", "/").rpartition("/")[2]
        return next((v.name for v in self.variants.values() if name in v.checkpoints), None)

    def valid_px(self, side_px: int) -> bool:
        """Whether the network accepts the size at all."""
        return side_px % self.step_px == 0 and self.min_px <= side_px <= min(self.max_px, self.largest_working_px)

    def sizes_px(self) -> range:
        """The sizes that the curves answer for and the node accepts, ascending."""
        return range(self.smallest_traced_px, min(self.max_px, self.largest_working_px) + 1, self.step_px)


@dataclass(frozen=True, slots=True)
class Need:
    """What a job will need."""

    variant: str
    side_px: int
    dtype: str
    live_bytes: int
    allocated_bytes: int
    reserved_bytes: Band
    process_bytes: Band


def predict(
    profile: WorkloadProfile, variant: str, side_px: int, dtype: str = "fp32", context_bytes: float | None = None
) -> Need:
    """Predict a job's need from the profile's closed form. Raises KeyError for an unknown variant or dtype.

    `context_bytes` is what the process holds outside PyTorch, where that was told; otherwise the profile's band stands for it.
    """
    live = profile.variants[variant].curves[dtype].live_bytes(side_px)
    allocated = live + profile.workspace_bytes
    reserved = profile.reserved_ratio.scaled(allocated)
    context = profile.context_bytes if context_bytes is None else Band(context_bytes, context_bytes, context_bytes)
    return Need(variant, side_px, dtype, live, allocated, reserved, reserved.plus(context))


def fits(need: Need, room_bytes: float) -> Fits:
    """Whether PyTorch's share of the need fits into the room that is left for it."""
    if need.reserved_bytes.high <= room_bytes:
        return "yes"
    return "no" if need.reserved_bytes.low > room_bytes else "uncertain"


def largest_fitting_px(
    profile: WorkloadProfile, variant: str, room_bytes: float, below_px: int | None = None
) -> int | None:
    """The largest size that surely fits, smaller than `below_px` where that is given; None where not even the smallest does."""
    for side in reversed(profile.sizes_px()):
        if below_px is not None and side >= below_px:
            continue
        if fits(predict(profile, variant, side), room_bytes) == "yes":
            return side
    return None


@dataclass(frozen=True, slots=True)
class JobShape:
    """Which job it was: what of it is known, and how that is known."""

    profile: WorkloadProfile
    variant: str | None = None
    side_px: int | None = None
    known_from: Literal["inputs", "numbers", "nothing"] = "nothing"


def shape_from_inputs(profile: WorkloadProfile, inputs: Mapping[str, Any]) -> JobShape | None:
    """The job's shape from the failed node's own inputs; None where they do not name its size."""
    side = inputs.get(profile.size_input)
    if isinstance(side, bool) or not isinstance(side, int):
        return None
    checkpoint = inputs.get(profile.checkpoint_input)
    return JobShape(profile, profile.variant_of(checkpoint if isinstance(checkpoint, str) else None), side, "inputs")


def shape_from_numbers(
    profile: WorkloadProfile, tried_bytes: int | None, allocated_bytes: int | None
) -> JobShape | None:
    """Turn an out-of-memory line round: the size whose peak operation asks for `tried`, the variant that then holds `allocated`.

    Holds where the network died at its peak, for fp32. Messages round to 1 % of a GiB, the allocator to 2 MiB; a size counts
    only if it is a multiple of the step, and only if the held bytes agree with one variant or were not told.
    """
    if not tried_bytes:
        return None
    slack = max(2 * MIB, 0.005 * (1 << 30) if tried_bytes >= 1 << 30 else 0.005 * MIB)
    lowest = isqrt(max(int((tried_bytes - slack) / profile.peak_per_px_bytes), 0))
    highest = isqrt(int((tried_bytes + slack) / profile.peak_per_px_bytes)) + 1
    sides = [side for side in profile.sizes_px() if lowest <= side <= highest]
    if len(sides) != 1:
        return None
    side = sides[0]
    if allocated_bytes is None:
        return JobShape(profile, None, side, "numbers")
    for variant in profile.variants.values():
        held = variant.curves["fp32"].live_bytes(side) - profile.peak_per_px_bytes * side * side
        if abs(held - allocated_bytes) <= 0.02 * held + 48 * MIB:
            return JobShape(profile, variant.name, side, "numbers")
    return None


@dataclass(frozen=True)
class Workloads:
    """The profiles that are known."""

    profiles: tuple[WorkloadProfile, ...] = field(default=())

    def find(self, node_type: str | None, pack: str | None) -> WorkloadProfile | None:
        """The workload that a node type or a custom_nodes folder means."""
        for profile in self.profiles:
            if (node_type in profile.node_types) if node_type else (pack in profile.packs):
                return profile
        return None
