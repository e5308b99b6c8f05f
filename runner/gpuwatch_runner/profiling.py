"""A trace of one image from file to file: what ran when, on which device, and what memory did meanwhile.

The passes here are extra, after the measured ones: a profiler slows what it watches, so its passes are in no number of
the report, and without it nothing of this module is imported.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from gpuwatch_runner.colorize import Colorizer

STAGES = ("decode", "lab", "encoder", "pixel_decoder", "colour_decoder", "refine", "encode")
"""Names of the spans in a trace. `lab` comes twice: lightness before the network, joining after it."""


def write_trace(colorizer: Colorizer, path: Path, folder: Path) -> Path:
    """Colorize the photo at `path` three times (unwatched, to warm the profiler, recorded) and write the trace.

    Gives the trace's path in `folder`: JSON in Chrome's trace event format, for Perfetto or TensorBoard. Shapes and
    stacks are left out; a recorded pass takes a few MB with them out, and tens with them in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = colorizer.network
    name = f"ddcolor-{network.variant}-{colorizer.size_px}-{colorizer.dtype}-{network.rewrite}"
    trace = folder / f"{name}.{time.time_ns()}.pt.trace.json"
    partial = trace.with_name(f".{trace.name}.part")

    def keep(profiler: profile) -> None:
        try:
            profiler.export_chrome_trace(str(partial))
            partial.replace(trace)
        finally:
            partial.unlink(missing_ok=True)

    activities = [ProfilerActivity.CPU]
    if colorizer.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    marks = colorizer.mark, network.mark
    colorizer.mark = network.mark = record_function
    try:
        with profile(
            activities=activities,
            schedule=schedule(wait=1, warmup=1, active=1, repeat=1),
            on_trace_ready=keep,
            record_shapes=False,
            profile_memory=True,
            with_stack=False,
        ) as profiler:
            for _ in range(3):
                prepared = colorizer.prepare(path)
                colours, _ = colorizer.infer([prepared.grey])
                colorizer.finish(prepared, colours[0])
                if colorizer.device.type == "cuda":
                    torch.cuda.synchronize(colorizer.device)
                profiler.step()
    finally:
        colorizer.mark, network.mark = marks
    return trace
