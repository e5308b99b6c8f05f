"""How far predictions of a traced workload were off on this machine: what its jobs held, over what was predicted for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpuwatch.core.learned.jobs import SizedNode
from gpuwatch.core.learned.runs import Learned
from gpuwatch.core.workload import WorkloadProfile, predict

MOST_SIZES = 12
"""Of the newest runs: each size costs a simulation."""


@dataclass(frozen=True, slots=True)
class Offset:
    """Measured over predicted, both of the whole process."""

    runs: int
    low_ratio: float
    high_ratio: float


def offset_of(
    learned: Learned, profile: WorkloadProfile, variant: str, dtype: str = "fp32", rewrite: str = "none"
) -> Offset | None:
    """How far off the predictions of one network in one form were; None where none of its jobs was measured by itself.

    Only jobs whose process the driver told apart from others on the card count.
    """
    runs = sorted(
        (run for known in learned.every() for run in known.runs if run.bound == "exactly" and run.alone),
        key=lambda run: run.at,
        reverse=True,
    )
    predicted: dict[int, float] = {}
    ratios = []
    for run in runs:
        side_px = _side_of(run.ran.sized, profile, (variant, dtype, rewrite))
        if (
            side_px is None
            or not profile.valid_px(side_px)
            or (len(predicted) >= MOST_SIZES and side_px not in predicted)
        ):
            continue
        if side_px not in predicted:
            need = predict(profile, variant, side_px, dtype, rewrite=rewrite, seek_budget=False)
            predicted[side_px] = need.process_bytes.mid
        ratios.append(run.peak_bytes / predicted[side_px])
    return Offset(len(ratios), min(ratios), max(ratios)) if ratios else None


def _side_of(sized: SizedNode, profile: WorkloadProfile, form: tuple[str, str, str]) -> int | None:
    """The size at which the node ran the network in that form; None where it ran another."""
    if sized.type not in profile.node_types:
        return None
    own = profile.with_inputs(_plain(sized.settings))
    variant = profile.variant_of(sized.settings.get(profile.checkpoint_input))
    side = sized.sizes.get(profile.size_input)
    return round(side) if side is not None and (variant, own.dtype, own.rewrite) == form else None


def _plain(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as the node's inputs have them: forms stand with their input's name."""
    return {name: value.removeprefix(f"{name}=") for name, value in settings.items()}
