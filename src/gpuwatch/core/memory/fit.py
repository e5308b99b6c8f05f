"""What fits a card: for each network, precision and rewrite the largest size that surely does, the best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpuwatch.core.memory.calibration import pick
from gpuwatch.core.memory.predict import Allocator, Need
from gpuwatch.core.workload import WorkloadProfile, largest_fitting_px, predict
from gpuwatch.texts import Text, text

GIB = 1 << 30
DTYPES = ("fp32", "amp16", "fp16", "bf16")
REWRITES = ("none", "tail", "fold")
LISTED = (("fp32", "none"), ("fp32", "tail"), ("fp32", "fold"), ("fp16", "fold"))
"""Precision and rewrite where neither is asked for: half precision is worth it only where memory is short."""
CARDS_GIB = (4, 6, 8, 10, 12, 16, 24)
LEFT_RATIO = {"low": 0.5, "middle": 0.25, "high": 0.0}
"""The share of the card that a profile leaves to other models."""
SMALLEST_GOOD_PX = 512
"""The networks were trained at 256 and 512; a larger network below that is no gain."""

Needs = Literal["widget", "node", "runner"]


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run on a card."""

    need: Need
    needs: Needs
    """What it takes: a widget of the stock node, gpuwatch's own node, or the runner."""
    note: Text
    process_bytes: float
    """The high end of what the process holds on this card: where there is little, PyTorch gives idle segments back."""
    headroom_bytes: float
    """What is left of the card beside that."""


@dataclass(frozen=True, slots=True)
class Row:
    """A card and a profile: the best with the stock node, and the best with an exact rewrite."""

    card_bytes: int
    profile: str
    left_bytes: int
    """What the profile leaves to others."""
    stock: Choice | None
    exact: Choice | None


def choices(
    profile: WorkloadProfile,
    total_bytes: int,
    used_bytes: int = 0,
    *,
    variants: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    rewrites: Sequence[str] = (),
    arch: str | None = None,
    allocator: Allocator = "native",
) -> list[Choice]:
    """The largest size that surely fits in every form, the best first: full precision before half, then the larger network,
    then the larger size, so that an exact rewrite stands before a smaller size.
    """
    found: list[Choice] = []
    context = pick(profile.calibrations, arch, allocator).context_bytes.high
    room = total_bytes - used_bytes - context
    forms = [(d, r) for d in dtypes or DTYPES for r in rewrites or REWRITES] if dtypes or rewrites else LISTED
    for variant in variants or tuple(profile.variants):
        for dtype, rewrite in forms:
            side = largest_fitting_px(
                profile, variant, room, dtype=dtype, rewrite=rewrite, allocator=allocator, arch=arch
            )
            if side is None:
                continue
            need = predict(
                profile, variant, side, dtype, rewrite=rewrite, allocator=allocator, arch=arch, seek_budget=False
            )
            held = min(need.reserved_bytes.high, room) + context
            found.append(
                Choice(need, _needs(dtype, rewrite), _note(dtype, rewrite), held, total_bytes - used_bytes - held)
            )
    order = list(profile.variants)
    return sorted(
        found,
        key=lambda choice: (
            choice.need.dtype != "fp32",
            order.index(choice.need.variant),
            -choice.need.side_px,
            REWRITES.index(choice.need.rewrite),
        ),
    )


def rows(
    profile: WorkloadProfile, cards_bytes: Sequence[int], *, arch: str | None = None, allocator: Allocator = "native"
) -> list[Row]:
    """For each card a low, a middle and a high profile, in full precision."""
    table = []
    for card in cards_bytes:
        for name, ratio in LEFT_RATIO.items():
            left = round(card * ratio)

            def best(rewrite: str, card: int = card, left: int = left) -> Choice | None:
                best_yet: Choice | None = None
                for variant in profile.variants:
                    found = choices(
                        profile, card, left, variants=(variant,), dtypes=("fp32",), rewrites=(rewrite,),
                        arch=arch, allocator=allocator,
                    )  # fmt: skip
                    if found and found[0].need.side_px >= SMALLEST_GOOD_PX:
                        return found[0]
                    if found and (best_yet is None or found[0].need.side_px > best_yet.need.side_px):
                        best_yet = found[0]
                return best_yet

            table.append(Row(card, name, left, best("none"), best("fold")))
    return table


def _needs(dtype: str, rewrite: str) -> Needs:
    if dtype == "fp32" and rewrite == "none":
        return "widget"
    return "runner" if dtype == "bf16" else "node"


def _note(dtype: str, rewrite: str) -> Text:
    if dtype != "fp32":
        return text("Half precision: colours differ slightly.")
    if rewrite == "tail":
        return text("The same colours, bit for bit.")
    if rewrite == "fold":
        return text("The same colours to 1e-5.")
    return text("As the stock node runs it; the size changes the colours, not the sharpness.")
