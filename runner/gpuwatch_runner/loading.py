"""What a job is run with: its device, set up, and its network there, with the weights of a checkpoint or random ones."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import torch

from gpuwatch.texts import text
from gpuwatch_runner import device as devices
from gpuwatch_runner import weights
from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.command import Job
from gpuwatch_runner.ddcolor import Variant
from gpuwatch_runner.events import narrate
from gpuwatch_runner.sizes import require_indexable


@dataclass(frozen=True, slots=True)
class Loaded:
    """The network, ready to run."""

    colorizer: Colorizer
    variant: Variant
    state: weights.State
    """Its weights, to build it in fp32 too; empty where nobody compares."""
    seconds: float


def device_for(job: Job) -> torch.device:
    """The device that is asked for, set up.

    Raises UsageError where there is none such, or where the network cannot index so much on it.
    """
    device = devices.choose(job.device)
    if device.type == "cuda":
        require_indexable(job.size_px, job.batch, job.rewrite)
    if job.tf32 is not None:
        devices.choose_tf32(on=job.tf32)
    return device


def load(job: Job, device: torch.device) -> Loaded:
    """The network on its device. Its weights are kept beside it only where fp32 is to be compared with.

    Raises UsageError where the checkpoint cannot be read or holds another network.
    """
    started = perf_counter()
    state, variant = _state_of(job)
    network = weights.build(dict(state), variant, job.rewrite)
    colorizer = Colorizer(network, device, size_px=job.size_px, dtype=job.dtype, channels_last=job.channels_last)
    if job.compiled:
        colorizer.compile()
    return Loaded(colorizer, variant, state if job.compare_fp32 else {}, perf_counter() - started)


def _state_of(job: Job) -> tuple[weights.State, Variant]:
    if job.checkpoint is not None:
        return weights.read_checkpoint(job.checkpoint, job.variant)
    variant = job.variant or "tiny"
    narrate(text("No checkpoint: the weights are random, so the colours mean nothing; times and memory do"))
    return weights.random_state(variant), variant
