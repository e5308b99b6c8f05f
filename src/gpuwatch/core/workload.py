"""What a job needs: profiles of workloads as data, and the questions that a diagnosis and the commands ask of them.

The numbers come from traces and from constants with their source (core/memory); a prediction made from them says so.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import isqrt
from typing import Any, Literal

from gpuwatch.core.memory.band import Band
from gpuwatch.core.memory.calibration import Calibration, pick
from gpuwatch.core.memory.pool import MIB
from gpuwatch.core.memory.predict import Allocator, Need, Traces, fits, hardly_fits, need_of
from gpuwatch.core.memory.simulate import Size, live_bytes
from gpuwatch.texts import Text, text

__all__ = [
    "MIB", "Band", "Claim", "FormInput", "JobShape", "Need", "Variant", "WorkloadProfile", "fits",
    "largest_fitting_px", "predict", "shape_from_inputs",
]  # fmt: skip
_MOST_REMEMBERED = 512
INDEX_LIMIT = (1 << 31) - 1
MOST_BATCH = 4096
TOKEN_PX = 16
VISUAL = "visual"
"""The unit of tokens: the 16x16 patches that cover the images of a pass."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One network of a workload: which checkpoints are it."""

    name: str
    checkpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FormInput:
    """An input of a node that says in which form the network runs: its precision, or its rewrite."""

    name: str
    default: str
    """The input's own default, as the node has it."""
    values: Mapping[str, tuple[str, ...]]
    """By the input's value, the form; where the node picks one of several itself, the one that it tries first stands first."""

    def of(self, inputs: Mapping[str, Any]) -> tuple[str, ...]:
        """The forms that a node's inputs mean; those of the default where it is not among them."""
        value = inputs.get(self.name)
        return self.values.get(value if isinstance(value, str) else self.default) or self.values[self.default]

    def value_for(self, form: str) -> str | None:
        """What to set the input to for just that form."""
        return next((value for value, forms in self.values.items() if forms == (form,)), None)


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadProfile:
    """A kind of job: how to recognise its node, which input is its size, what it needs.

    Equal to itself alone, so that what was predicted for it can be remembered.
    """

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
    variants: Mapping[str, Variant]
    source: Text
    """Where the numbers come from."""
    traces: Traces
    calibrations: Sequence[Calibration]
    same_dtype: Mapping[str, str] = field(default_factory=dict)
    """Dtypes that take what another takes, byte for byte."""
    indexed_per_px: int = 0
    """Values per pixel of the tensor that a 32-bit index must reach; 0 where nothing is indexed so."""
    indexed_rewrites: tuple[str, ...] = ()
    """Rewrites that make this tensor."""
    places: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Source files of the network in a traceback, and the parts of the network that each is."""
    dtype_input: FormInput | None = None
    """The node's input for its precision; None where it has none."""
    rewrite_input: FormInput | None = None
    dtype: str = "fp32"
    """What the node runs in, as far as its inputs are known."""
    rewrite: str = "none"

    def with_inputs(self, inputs: Mapping[str, Any]) -> WorkloadProfile:
        """The profile of a node whose inputs are known: in the precision and with the rewrite that they ask for."""
        dtype = self.dtype_input.of(inputs)[0] if self.dtype_input else self.dtype
        rewrite = self.rewrite_input.of(inputs)[0] if self.rewrite_input else self.rewrite
        return self if (dtype, rewrite) == (self.dtype, self.rewrite) else replace(self, dtype=dtype, rewrite=rewrite)

    def variant_of(self, checkpoint: str | None) -> str | None:
        """The variant that a checkpoint's file name means; None where the name is not known."""
        if checkpoint is None:
            return None
        name = checkpoint.replace("\\", "/").rpartition("/")[2]
        return next((v.name for v in self.variants.values() if name in v.checkpoints), None)

    def tokens_per_image(self, sizes: Mapping[str, Any]) -> int | None:
        """Visual tokens of a pass over one photo, which the node scales to a square; None where no input names the side.

        What the node would not take is no side: it comes from a server's word.
        """
        side = sizes.get(self.size_input)
        if isinstance(side, bool) or not isinstance(side, int | float) or not 1 <= side <= self.max_px or side % 1:
            return None
        return tokens_of(int(side), int(side))

    def valid_px(self, side_px: int) -> bool:
        """Whether the network accepts the side of a square at all."""
        return self.invalid(Size(side_px, side_px)) is None

    def invalid(self, size: Size, rewrite: str | None = None) -> Text | None:
        """Why the network cannot run at a size, whatever the memory; None where it can."""
        rewrite = self.rewrite if rewrite is None else rewrite
        for side in (size.height_px, size.width_px):
            if side % self.step_px or side < self.min_px:
                below = max(side // self.step_px * self.step_px, self.min_px)
                return text(
                    "{side_px} is no multiple of {step_px}: the network stops with an error about tensor sizes, "
                    "not about memory; use {below_px} or {above_px}.",
                    side_px=side, step_px=self.step_px, below_px=below, above_px=below + self.step_px,
                ) if side > self.min_px else text(
                    "{side_px} is too small: the network takes multiples of {step_px} from {least_px} up.",
                    side_px=side, step_px=self.step_px, least_px=self.min_px,
                )  # fmt: skip
            if side > self.max_px:
                return text(
                    "{side_px} is above {most_px}, the most that the node takes and that was verified.",
                    side_px=side, most_px=self.max_px,
                )  # fmt: skip
        if size.batch < 1:
            return text("a batch holds at least one image, not {batch}.", batch=size.batch)
        if size.batch > MOST_BATCH:
            return text(
                "a batch of {batch} images is beyond what is predicted; the most is {most}.",
                batch=size.batch,
                most=MOST_BATCH,
            )
        values = self.indexed_per_px * size.batch * size.height_px * size.width_px
        if rewrite in self.indexed_rewrites and values > INDEX_LIMIT:
            return text(
                "a tensor of {values} values is beyond CUDA's 32-bit indices at this size: the network stops with a "
                "RuntimeError, whatever the card's memory.",
                values=f"{values:,}",
            )
        return None

    def sizes_px(self, rewrite: str | None = None) -> range:
        """The sides of squares that the network and the node accept, ascending: those that `invalid` says nothing of."""
        rewrite = self.rewrite if rewrite is None else rewrite
        most = self.max_px
        if rewrite in self.indexed_rewrites and self.indexed_per_px:
            most = min(most, isqrt(INDEX_LIMIT // self.indexed_per_px))
        return range(-(-self.min_px // self.step_px) * self.step_px, most + 1, self.step_px)

    @property
    def context_bytes(self) -> Band:
        """What a process holds outside PyTorch on a card of which nothing is known."""
        return pick(self.calibrations, None, "native").context_bytes


@lru_cache(maxsize=_MOST_REMEMBERED)
def predict(
    profile: WorkloadProfile,
    variant: str,
    side_px: int,
    dtype: str | None = None,
    context_bytes: float | None = None,
    *,
    width_px: int | None = None,
    batch: int = 1,
    rewrite: str | None = None,
    grad: bool = False,
    arch: str | None = None,
    allocator: Allocator = "native",
    room_bytes: float | None = None,
    seek_budget: bool = True,
) -> Need:
    """Predict a job's need. Raises KeyError where no trace of such a job is shipped, or none can be of that size.

    `context_bytes` is what the process holds outside PyTorch, where that was told; otherwise the calibration stands for it.
    `room_bytes` is what PyTorch can have on the card; where that is tight, it gives idle segments back. Precision and rewrite
    are the profile's where they are not given.
    """
    dtype = profile.dtype if dtype is None else dtype
    rewrite = profile.rewrite if rewrite is None else rewrite
    trace = profile.traces.find(
        variant, profile.same_dtype.get(dtype, dtype), rewrite, grad=grad, many=batch > 1
    )  # fmt: skip
    sides = (side_px, side_px if width_px is None else width_px)
    if trace is None or any(side < trace.stride_px or side % trace.stride_px for side in sides):
        raise KeyError(f"{profile.id} {variant} {dtype} {rewrite} {side_px}")
    need = need_of(
        trace,
        Size(*sides, batch),
        profile.calibrations,
        allocator=allocator,
        arch=arch,
        context_bytes=None if context_bytes is None else Band.exactly(context_bytes),
        seek_budget=seek_budget,
    )
    return replace(need, dtype=dtype).on_card(room_bytes)


@lru_cache(maxsize=_MOST_REMEMBERED)
def largest_fitting_px(
    profile: WorkloadProfile,
    variant: str,
    room_bytes: float,
    below_px: int | None = None,
    *,
    dtype: str | None = None,
    rewrite: str | None = None,
    allocator: Allocator = "native",
    arch: str | None = None,
) -> int | None:
    """The largest size that surely fits, smaller than `below_px` where that is given; None where not even the smallest does."""
    dtype = profile.dtype if dtype is None else dtype
    rewrite = profile.rewrite if rewrite is None else rewrite
    trace = profile.traces.find(variant, profile.same_dtype.get(dtype, dtype), rewrite, grad=False, many=False)
    if trace is None:
        return None
    sides = profile.sizes_px(rewrite)
    if below_px is not None:
        sides = sides[: bisect_left(sides, below_px)]
    # Nothing fits into less than what is alive, which grows with the size; so the simulation, whose answers need not, is
    # asked only from there down.
    possible = bisect_right(sides, room_bytes, key=lambda side: live_bytes(trace, Size(side, side), 0))
    for side in reversed(sides[:possible]):
        if hardly_fits(trace, Size(side, side), profile.calibrations, room_bytes, allocator=allocator, arch=arch):
            continue
        need = predict(profile, variant, side, dtype, rewrite=rewrite, allocator=allocator, arch=arch)
        if fits(need, room_bytes) == "yes":
            return side
    return None


def tokens_of(height_px: int, width_px: int, batch: int = 1) -> int:
    """Visual tokens of a pass: the 16x16 patches that cover its images."""
    return -(-height_px // TOKEN_PX) * -(-width_px // TOKEN_PX) * batch


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


@dataclass(frozen=True, slots=True)
class Claim:
    """A workload of which only words are known: what was published and not measured here."""

    id: str
    title: str
    node_types: tuple[str, ...]
    packs: tuple[str, ...]
    inputs: Mapping[str, Text]
    """What its need depends on, each with how."""
    claims: tuple[Text, ...]
    """What was published, each with where."""
    references: tuple[str, ...]
