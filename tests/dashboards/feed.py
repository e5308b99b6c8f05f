"""A pipeline fed with a recorded ComfyUI session, a made-up driver and made-up jobs, behind the real exporter.

The driver's fields are those that NVML has for a data centre card, their numbers made up; the jobs too. The session is the
one that ships with the demo. Some counters rise after the first scrape, as they do in life.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.sources import Emit
from gpuwatch.adapters.sources.host import HostSource
from gpuwatch.adapters.sources.replay import ReplaySource
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.observations import (
    FixTried,
    GpuProcess,
    GpuSample,
    JobEnded,
    LogChunk,
    Observation,
    QueueState,
    RunEvent,
    ServerSeen,
    SourceKind,
    SourceUp,
)
from gpuwatch.faces.exporter import Exporter
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text, plain

SERVER = "127.0.0.1:8188"
XID = b"NVRM: Xid (PCI:0000:01:00): 31, pid=4242, name=python, Ch 00000018, MMU Fault\n"
OOM = b"torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)\n"
GIB = 1 << 30


def sample(at: datetime, index: int, step: int) -> GpuSample:
    """A card at work, a little warmer at each step."""
    return GpuSample(
        at, f"GPU-{index:04}", index, "NVIDIA H100 80GB HBM3", "580.95.05", 80 * GIB, (40 + index) * GIB, 0.9, 60.0 + index,
        500.0, 700.0, (GpuProcess(41, "python", 30 * GIB, "comfyui"), GpuProcess(9, "Xorg", GIB)), 1000.0 + 500 * step,
        1_980_000_000, 2_619_000_000, 0.4, ("power_cap",), step, 0, 10_000_000, 20_000_000, 5, 16, 5, 16, took_seconds=0.02,
    )  # fmt: skip


def job(at: datetime, number: int) -> JobEnded:
    return JobEnded(
        at, SERVER, str(number), "error" if number % 5 == 4 else "success", duration_seconds=2.0 + number % 3,
        waited_seconds=1.0 + number % 4, workload="ddcolor", node_seconds={"KSampler": 1.5, "VAEDecode": 0.4},
    )  # fmt: skip


class Life:
    """A source that goes on as a busy machine does, several times a second."""

    kind: SourceKind = "nvml"
    name = "nvml"

    def __init__(self, gpus: int) -> None:
        self._gpus = gpus

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        step = 0
        emit(SourceUp(datetime.now(UTC), SERVER, "comfyui"))
        while not stop.wait(0.2):
            step += 1
            for observation in self._step(datetime.now(UTC), step):
                if not emit(observation):
                    return plain("stopped")
        return plain("stopped")

    def _step(self, at: datetime, step: int) -> Iterator[Observation]:
        for index in range(self._gpus):
            yield sample(at, index, step)
        yield QueueState(at, SERVER, 3, 1)
        yield ServerSeen(at, SERVER, "0.24.0", (), "cuda:0 NVIDIA H100", 80 * GIB, 30 * GIB)
        yield job(at, step)
        yield RunEvent(at, {"event": "image", "seconds": 0.4})
        report = {
            "images": 1,
            "tokens_per_image": 256,
            "peak_device_bytes": int(3.8 * GIB) + (step % 3) * GIB // 4,
            "predicted": {"process_bytes": {"high": 4 * GIB}},
        }
        yield RunEvent(at, {"event": "report", **report})
        yield FixTried(at, "incident", "shrink_size", "held")
        if step % 5 == 0:
            yield LogChunk(at, "kernel", XID, "kernel")
            yield LogChunk(at, "comfyui.log", OOM, "file")


@contextmanager
def exporter(gpus: int = 2) -> Iterator[Exporter]:
    """The page of that machine, on loopback."""
    engine = Engine(load_rules(), load_workloads())
    with as_file(files("gpuwatch.demo")) as data:
        replay = ReplaySource(data / "oom_large_1280.jsonl", speed=20.0, name="recorded")
        pipeline = Pipeline(engine, [replay, Life(gpus), HostSource(0.5)])
        served = Exporter(lambda: pipeline.snapshot, engine.rules, "127.0.0.1", 0, workloads=engine.workloads.ids)
        pipeline.start()
        try:
            yield served
        finally:
            pipeline.stop()
            served.close()
