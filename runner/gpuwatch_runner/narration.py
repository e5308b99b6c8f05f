"""What a run says to a person on stderr, besides the events that a program reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from gpuwatch.texts import plain, text
from gpuwatch_runner.command import Job
from gpuwatch_runner.events import narrate
from gpuwatch_runner.finding import Found

REASONS = {
    "input_changed": text("the photo has changed"),
    "output_missing": text("the output is not there any more, or is not the one that was written"),
    "settings": text("the settings are others now"),
    "degraded": text("memory had run out, and they were done at a smaller size"),
    "failed": text("they failed the last time"),
    "forced": plain("--force"),
}
"""Why photos are done again, by the manifest's word for it."""


def found(images: Found) -> None:
    """What was passed over on the way."""
    if images.outputs:
        narrate(text("Passed over {count} files whose names say that they are outputs", count=images.outputs))


def begun(job: Job, device: torch.device, skipped: int, redone: Mapping[str, int]) -> None:
    """What will come of nothing, what is slow, and what of the work is done or to be done again, by reason."""
    if job.out is None:
        narrate(text("Nothing is written: add --out DIR to keep the colorized photos"))
    if device.type == "cpu" and job.dtype == "amp16":
        narrate(text("amp16 on the CPU is slower than fp32; it is meant for CUDA"))
    if skipped:
        narrate(
            text(
                "{count} photos are done already, unchanged and with these settings: skipped (--force does them again)",
                count=skipped,
            )
        )
    for reason, count in sorted(redone.items()):
        narrate(text("{count} photos are done again: {reason}", count=count, reason=REASONS[reason]))


def only_first_frame(path: Path, frames: int) -> None:
    """A photo that moves stays still."""
    narrate(text("{path} has {count} frames; the first is taken", path=path, count=frames))


def stopped(dealt: int, images: int) -> None:
    """How far it came."""
    narrate(
        text(
            "Stopped after {count} of {images} photos. They are whole, and the same command goes on from there.",
            count=dealt,
            images=images,
        )
    )
