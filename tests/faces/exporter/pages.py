"""What the tests of the metrics page share: snapshots to make it of, and the page read back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from prometheus_client.parser import text_string_to_metric_families as parse_plain

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.engine import Engine
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import (
    FixTried,
    GpuProcess,
    GpuSample,
    HostSample,
    JobEnded,
    JournalSeen,
    LogChunk,
    Observation,
    QueueState,
    RunEvent,
    ServerSeen,
    SourceUp,
    Tick,
)
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import Vitals
from gpuwatch.faces.exporter import Page

AT = datetime(2026, 11, 21, tzinfo=UTC)
RULES = load_rules()
MATCHER = Matcher(RULES)
WORKLOADS = ("ddcolor", "sonic")
OOM = b"torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)\n"
XID = b"NVRM: Xid (PCI:0000:01:00): 31, pid=4242, name=python, Ch 00000018, MMU Fault\n"

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def after(*observations: Observation) -> Snapshot:
    """What is known once an engine has seen these."""
    engine, snapshot = Engine(RULES, ready=MATCHER), Snapshot()
    for observation in observations:
        for event in engine.feed(observation):
            snapshot = snapshot.after(event)
    return snapshot


def page_of(snapshot: Snapshot, **settings: Any) -> Page:
    return Page(lambda: snapshot, RULES, **{"workloads": WORKLOADS, "clock": lambda: AT} | settings)


def series(snapshot: Snapshot, **settings: Any) -> Series:
    return read(page_of(snapshot, **settings).text())


def read(page: bytes) -> Series:
    told: Series = {}
    for family in parse_plain(page.decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in told, "a series twice"
            told[key] = sample.value
    return told


def labels_of(told: Series, name: str) -> list[dict[str, str]]:
    return [dict(labels) for each, labels in told if each == name]


def full_sample(index: int = 0, at: datetime = AT) -> GpuSample:
    return GpuSample(
        at, f"GPU-{index}", index, "NVIDIA H100 80GB HBM3", "580.95.05", 85520809984, 41538289664, 0.97, 61.0, 512.3, 700.0,
        (GpuProcess(41, "python", 1 << 30, "comfyui"), GpuProcess(42, "python", 2 << 30, "runner"), GpuProcess(7, "x", 5),
         GpuProcess(8, None, 6), GpuProcess(9, None, None)),
        1234.5, 1_980_000_000, 2_619_000_000, 0.42, ("power_cap",), 3, 0, 1024, 2048, 5, 16, 5, 16, took_seconds=0.02,
    )  # fmt: skip


@cache
def everything() -> Snapshot:
    """A snapshot in which every metric has a sample."""
    return replace(seen(), vitals=Vitals(rule_seconds={"cuda-oom-native": 0.25}))


def seen() -> Snapshot:
    """What an engine makes of a machine that tells of everything."""
    return after(
        SourceUp(AT, "nvml", "nvml"),
        SourceUp(AT, "host", "host"),
        full_sample(),
        HostSample(AT, 100, 40, 3, 0.5, 0.001),
        LogChunk(AT, "comfyui.log", OOM * 2 + XID),
        Tick(AT + timedelta(seconds=3)),
        SourceUp(AT, "a:8188", "comfyui"),
        QueueState(AT, "a:8188", 3, 1),
        ServerSeen(AT, "a:8188", "0.24.0", (), "cuda:0", 10, 4),
        JobEnded(
            AT, "a:8188", "1", "success", duration_seconds=3.0, waited_seconds=1.0, node_seconds={"KSampler": 2.0}
        ),
        FixTried(AT, "i", "shrink_size", "held"),
        JournalSeen(AT, 4096, 1, 0, AT),
        RunEvent(AT, {"event": "image", "seconds": 0.4}),
        RunEvent(
            AT,
            {
                "event": "report",
                "images": 3,
                "tokens_per_image": 256,
                "peak_device_bytes": 900,
                "predicted": {"process_bytes": {"high": 1000}},
            },
        ),
    )
