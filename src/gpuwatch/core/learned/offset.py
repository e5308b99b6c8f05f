"""How far predictions of a traced workload were off on this machine: what its jobs held, over what was predicted for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpuwatch.core.learned.jobs import Ran, SizedNode
from gpuwatch.core.learned.runs import Learned
from gpuwatch.core.memory.band import Band
from gpuwatch.core.workload import WorkloadProfile, predict

MOST_SIZES = 12
"""Of the newest runs: each size costs a simulation."""


@dataclass(frozen=True, slots=True)
class Offset:
    """Measured over predicted, both of the whole process."""

    runs: int
    low_ratio: float
    high_ratio: float


def predicted_for(ran: Ran, profile: WorkloadProfile) -> Band | None:
    """What a traced workload's process was predicted to hold for a job; None where its size or network is not told."""
    form = _form_of(ran.sized, profile)
    if form is None or not profile.valid_px(form[0]):
        return None
    side_px, variant, dtype, rewrite = form
    try:
        return predict(profile, variant, side_px, dtype, rewrite=rewrite, seek_budget=False).process_bytes
    except KeyError:
        return None


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
    predicted: dict[int, float | None] = {}
    ratios = []
    for run in runs:
        form = _form_of(run.ran.sized, profile)
        if form is None or form[1:] != (variant, dtype, rewrite):
            continue
        if form[0] not in predicted and len(predicted) < MOST_SIZES:
            band = predicted_for(run.ran, profile)
            predicted[form[0]] = band.mid if band is not None else None
        if (expected := predicted.get(form[0])) is not None:
            ratios.append(run.peak_bytes / expected)
    return Offset(len(ratios), min(ratios), max(ratios)) if ratios else None


def _form_of(sized: SizedNode, profile: WorkloadProfile) -> tuple[int, str, str, str] | None:
    """Size, network, precision and rewrite that the node ran; None where it is another's, or does not tell."""
    variant = profile.variant_of(sized.settings.get(profile.checkpoint_input))
    side = sized.sizes.get(profile.size_input)
    if sized.type not in profile.node_types or variant is None or side is None:
        return None
    own = profile.with_inputs(_plain(sized.settings))
    return round(side), variant, own.dtype, own.rewrite


def _plain(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings as the node's inputs have them: forms stand with their input's name."""
    return {name: value.removeprefix(f"{name}=") for name, value in settings.items()}
