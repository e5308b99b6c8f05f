"""A trace of one photo from file to file: what ran when, on which device, and what memory did meanwhile.

The passes here are extra, after the measured ones: a profiler slows what it watches, so its passes are in no number of the
report but its own, which says by how much. Without --profile nothing of this module is imported.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.sampling import Sampler
from gpuwatch_runner.tracefile import finish_trace

STAGES = ("decode", "lab", "encoder", "pixel_decoder", "colour_decoder", "refine", "encode")
"""Names of the spans in a trace. `lab` comes twice: lightness before the network, joining after it."""
FEW_PASSES, MORE_PASSES = 1, 3
"""Recorded passes, where one takes long and where it does not."""
LONG_SECONDS = 1.0
MOST_MEMORY_EVENTS = 200_000
"""Of the CUDA allocator's history; DDColor's pass has some 3,000."""


@dataclass(frozen=True, slots=True)
class Profiled:
    """What profiling made, and what it cost."""

    trace: Path
    memory: Path | None
    """The CUDA allocator's snapshot; None on the CPU."""
    passes: int
    """Recorded ones."""
    plain_seconds: float
    """A pass right before them, the profiler not looking; the median of as many."""
    profiled_seconds: float
    """A recorded pass; the median."""
    samples: int
    """Of the process and the card, put into the trace."""
    write_seconds: float
    """Writing the trace."""

    def as_json(self) -> dict[str, Any]:
        """What the report says of it."""
        values = asdict(self)
        del values["trace"], values["memory"]
        return {**values, "overhead_ratio": self.profiled_seconds / self.plain_seconds - 1}

    @property
    def files(self) -> list[str]:
        """What was written."""
        return [str(path) for path in (self.trace, self.memory) if path is not None]


class _Marks:
    """Opens a span for each stage while the profiler looks, and notes when the recorded ones began."""

    def __init__(self) -> None:
        self.recorded = False
        self.began: list[tuple[str, int]] = []

    def __call__(self, stage: str) -> AbstractContextManager[Any]:
        if self.recorded:
            self.began.append((stage, time.time_ns()))
        return record_function(stage)


def profile_photo(colorizer: Colorizer, path: Path, folder: Path) -> Profiled:
    """Colorize the photo at `path` a few times, some of them recorded, and write the trace into `folder`.

    The trace is JSON in Chrome's trace event format, packed: Perfetto opens it, and TensorBoard's profiler finds it by its
    name. Shapes and stacks are left out; a recorded pass takes a few MB with them out, and tens with them in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = colorizer.network
    name = f"ddcolor-{network.variant}-{colorizer.size_px}-{colorizer.dtype}-{network.rewrite}"
    name = f"{name}.{time.time_ns()}"
    trace, raw = folder / f"{name}.pt.trace.json.gz", folder / f".{name}.pt.trace.json"
    activities = [ProfilerActivity.CPU]
    if colorizer.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)

    passes = FEW_PASSES if _pass(colorizer, path) > LONG_SECONDS else MORE_PASSES
    plain: list[float] = []
    recorded: list[float] = []
    try:
        with (
            _marked(colorizer) as marks,
            Sampler(colorizer.device) as sampler,
            profile(
                activities=activities,
                schedule=schedule(wait=passes, warmup=1, active=passes, repeat=1),
                on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(raw)),
                record_shapes=False,
                profile_memory=True,
                with_stack=False,
            ) as profiler,
        ):
            for _ in range(passes):  # the profiler waits: these are what the recorded ones are held to
                plain.append(_pass(colorizer, path))
                profiler.step()
            _pass(colorizer, path)
            for _ in range(passes):
                profiler.step()
                marks.recorded = True
                recorded.append(_pass(colorizer, path))
                marks.recorded = False
            ended = time.time_ns()
            started = perf_counter()
            profiler.step()  # the last one's end: the trace is written here
        begin = marks.began[0][1]
        inside = [each for each in sampler.samples if begin <= each.unix_ns <= ended]
        samples = finish_trace(raw, trace, inside, marks.began)
        write_seconds = perf_counter() - started
    finally:
        raw.unlink(missing_ok=True)
    return Profiled(
        trace=trace,
        memory=memory_snapshot(colorizer, path, folder / f"{name}.memory.pickle"),
        passes=passes,
        plain_seconds=median(plain),
        profiled_seconds=median(recorded),
        samples=samples,
        write_seconds=write_seconds,
    )


def memory_snapshot(colorizer: Colorizer, path: Path, snapshot: Path) -> Path | None:
    """Record what the CUDA allocator does in one pass, with Python's stacks, and dump it; None on the CPU.

    A pass of its own: taking a stack at each allocation would be in the trace's times.
    """
    if colorizer.device.type != "cuda":
        return None
    partial = snapshot.with_name(f".{snapshot.name}.part")
    torch.cuda.memory._record_memory_history(stacks="python", max_entries=MOST_MEMORY_EVENTS, device=colorizer.device)
    try:
        _pass(colorizer, path)
        torch.cuda.memory._dump_snapshot(str(partial))  # type: ignore[no-untyped-call]
        partial.replace(snapshot)
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
        partial.unlink(missing_ok=True)
    return snapshot


@contextmanager
def _marked(colorizer: Colorizer) -> Iterator[_Marks]:
    marks = _Marks()
    network = colorizer.network
    before = colorizer.mark, network.mark
    colorizer.mark = network.mark = marks
    try:
        yield marks
    finally:
        colorizer.mark, network.mark = before


def _pass(colorizer: Colorizer, path: Path) -> float:
    started = perf_counter()
    prepared = colorizer.prepare(path)
    colours, _ = colorizer.infer([prepared.grey])
    colorizer.finish(prepared, colours[0])
    if colorizer.device.type == "cuda":
        torch.cuda.synchronize(colorizer.device)
    return perf_counter() - started
