"""What two machines live through in three quarters of an hour, for the pictures of the dashboards: made up, and the same each time.

Only the log of the failures is recorded: that of the demo. The numbers of cards and jobs are chosen so that every panel has
something to show: a queue that grows and drains, memory that runs out, a fix that holds, a card that gets hot and is slowed
down, an Xid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib.resources import as_file, files

from gpuwatch.adapters.recording import read_recording
from gpuwatch.core.observations import (
    FixTried,
    GpuProcess,
    GpuSample,
    HostSample,
    JobEnded,
    LogChunk,
    Observation,
    QueueState,
    RunEvent,
    ServerSeen,
    SourceUp,
    Tick,
)

MINUTES, STEP_SECONDS = 45, 15
STEPS = MINUTES * 60 // STEP_SECONDS
GIB = 1 << 30
XID = b"NVRM: Xid (PCI:0000:01:00): 31, pid=4242, name=python, Ch 00000018, MMU Fault\n"
NODES = ("KSampler", "VAEDecode", "DDColor_Colorize", "LoadImage", "ImageScale")


class Machine:
    """One machine: so many cards, one ComfyUI, and how busy it is."""

    def __init__(self, name: str, cards: int, load: float) -> None:
        self.name, self.cards, self.load = name, cards, load
        self.server = f"{name}:8188"
        self._jobs = 0
        self._pending = 0.0
        self._joules = [1e6] * cards

    def live(self, began: datetime) -> Iterator[tuple[datetime, list[Observation]]]:
        """What is observed at each step."""
        for step in range(STEPS + 1):
            at = began + timedelta(seconds=step * STEP_SECONDS)
            yield at, list(self._step(at, step))

    def _step(self, at: datetime, step: int) -> Iterator[Observation]:
        if step == 0:
            yield SourceUp(at, self.server, "comfyui")
            yield SourceUp(at, "nvml", "nvml")
            yield SourceUp(at, "host", "host")
        minute = step * STEP_SECONDS / 60
        rush = self.load * (1.0 + 2.2 * math.exp(-(((minute - 20) / 6) ** 2)))
        for index in range(self.cards):
            yield self._card(at, index, minute, rush)
        used = 20 + 9 * self.load + 4 * math.sin(minute / 7)
        yield HostSample(at, 64 * GIB, int((64 - used) * GIB), 0, min(0.95, 0.2 + 0.25 * rush), took_seconds=0.004)
        self._pending = max(0.0, self._pending + rush * 1.4 - 2.0)
        yield QueueState(at, self.server, int(self._pending), 1)
        free = int((48 - self._held(minute, 0)) * GIB)
        yield ServerSeen(at, self.server, "0.24.0", (), "cuda:0 NVIDIA L40S", 48 * GIB, free)
        for _job in range(2 if rush > 1 else step % 2 + 1):
            yield from self._job(at, minute, rush)
        yield from self._trouble(at, step)
        yield Tick(at)

    def _held(self, minute: float, index: int) -> float:
        """GiB in use on a card."""
        return (
            14
            + 6 * index
            + 12 * self.load * (0.6 + 0.4 * math.sin(minute / 5 + index))
            + 6 * math.exp(-(((minute - 24) / 3) ** 2))
        )

    def _card(self, at: datetime, index: int, minute: float, rush: float) -> GpuSample:
        heat = min(1.0, rush / 2.4)
        held = self._held(minute, index)
        ours = GpuProcess(4242 + index, "python", int((held - 1) * GIB), "comfyui")
        self._joules[index] += (120 + 215 * heat) * STEP_SECONDS
        slow = ("power_cap",) if heat > 0.85 else ()
        return GpuSample(
            at, f"GPU-{self.name[-1]}{index}", index, "NVIDIA L40S", "580.95.05", 48 * GIB, int(held * GIB),
            min(1.0, 0.35 + 0.55 * heat), 48 + 32 * heat + index, 120 + 215 * heat, 350.0,
            (ours, GpuProcess(9, "Xorg", GIB // 4)), self._joules[index],
            int((2.5 - 0.5 * heat) * 1e9), 9_000_000_000, 0.3 + 0.5 * heat, slow, int(minute / 18) if index else 0, 0,
            int(2e8 * heat), int(9e7 * heat), 4, 16, 4, 16, took_seconds=0.02,
        )  # fmt: skip

    def _job(self, at: datetime, minute: float, rush: float) -> Iterator[Observation]:
        self._jobs += 1
        number, failed = self._jobs, self._jobs % 19 == 18 and 12 < minute < 32
        took = 4 + number * 7 % 5 + 3 * rush
        waited = 1 + self._pending * 5
        nodes = {name: took * share for name, share in zip(NODES, (0.55, 0.14, 0.22, 0.05, 0.04), strict=True)}
        outcome = "error" if failed else "interrupted" if number % 41 == 40 else "success"
        yield JobEnded(
            at, self.server, str(number), outcome, duration_seconds=took, waited_seconds=waited, workload="ddcolor",
            node_seconds=nodes,
        )  # fmt: skip
        if not failed:
            peak = int((3.2 + 0.5 * math.sin(number) + 0.35 * (number % 23 == 22)) * GIB)
            told = {"images": 1, "tokens_per_image": 256, "peak_device_bytes": peak}
            yield RunEvent(at, {"event": "report", **told, "predicted": {"process_bytes": {"high": int(3.8 * GIB)}}})

    def _trouble(self, at: datetime, step: int) -> Iterator[Observation]:
        minute = step * STEP_SECONDS / 60
        if self.name == "box-a" and minute in {16.0, 24.0, 41.0}:
            yield from recorded(at)
            yield FixTried(at, f"{self.name}-{step}", "shrink_size", "applied")
            yield FixTried(at, f"{self.name}-{step}", "shrink_size", "failed" if minute == 24 else "held")
        if self.name == "box-b" and minute == 33:
            yield LogChunk(at, "kernel", XID, "kernel")
        if step % 4 == 0:
            yield LogChunk(
                at, "comfyui.log", b"got prompt\nPrompt executed in 4.20 seconds\n" * (2 + int(3 * self.load)), "file"
            )


def recorded(at: datetime) -> Iterator[Observation]:
    """The log of the demo's session, at once."""
    with as_file(files("gpuwatch.demo")) as folder:
        for _after, observation in read_recording(folder / "oom_large_1280.jsonl"):
            if isinstance(observation, LogChunk):
                yield LogChunk(at, "comfyui.log", observation.data, "file")


MACHINES = (("box-a", 2, 1.0), ("box-b", 1, 0.55))
