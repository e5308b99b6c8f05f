"""The machine's metrics: what the driver says of each GPU, and the host's memory.

What the driver does not tell has no sample, and a GPU that is lost or no longer sampled has none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import get_args

from gpuwatch.core.observations import GpuProcess, GpuSample, HostSample, ThrottleReason
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.tallies import XIDS
from gpuwatch.faces.exporter.rows import Kind, Row, Samples, Value, View, at_zero

STALE = timedelta(seconds=15)
MOST_GPUS, MOST_PROCESSES = 64, 8
_COLLECTORS = ("nvml", "drm", "host")


def latest(snapshot: Snapshot) -> Iterator[GpuSample]:
    """The newest sample of each GPU that is still sampled."""
    for sample in newest(snapshot)[:MOST_GPUS]:
        collector = collector_of(sample)
        told_by = (snapshot.sources.get(name) for name in (collector, f"{collector} {sample.index}"))
        if not is_old(sample, snapshot) and all(source is None or source.state == "up" for source in told_by):
            yield sample


def newest(snapshot: Snapshot) -> list[GpuSample]:
    """The last sample of each GPU that ever was one."""
    return [samples[-1] for samples in snapshot.gpus.values() if samples]


def collector_of(sample: GpuSample | HostSample | None) -> str:
    """Who took it: the NVIDIA driver's library, the kernel's files, or the operating system for the machine itself."""
    if not isinstance(sample, GpuSample):
        return "host"
    return "nvml" if sample.vendor == "nvidia" else "drm"


def is_old(sample: GpuSample | HostSample | None, snapshot: Snapshot) -> bool:
    """Whether so much has happened since that the sample says nothing of now; what was never told is not old."""
    return sample is not None and snapshot.at is not None and snapshot.at - sample.at > STALE


def gpu_row(name: str, help_: str, read: Callable[[GpuSample], float | None], *, unit: str = "") -> Row:
    """One quantity of each GPU; a GPU that does not tell it has no sample."""

    def samples(view: View) -> Samples:
        for sample in latest(view.snapshot):
            if (value := read(sample)) is not None:
                yield Value((sample.uuid,), value)

    return Row(name, help_, ("uuid",), samples, kind_of(name), unit)


def gpu_row_by(
    name: str,
    help_: str,
    label: str,
    read: Callable[[GpuSample], dict[str, float | None]],
    *,
    unit: str = "",
) -> Row:
    """Quantities of each GPU that are told apart by one more label."""

    def samples(view: View) -> Samples:
        for sample in latest(view.snapshot):
            for which, value in read(sample).items():
                if value is not None:
                    yield Value((sample.uuid, which), value)

    return Row(name, help_, ("uuid", label), samples, kind_of(name), unit)


def kind_of(name: str) -> Kind:
    """What is counted since the driver was loaded is called _total."""
    return "counter" if name.endswith("_total") else "gauge"


def host_row(name: str, help_: str, read: Callable[[HostSample], float | None]) -> Row:
    """One quantity of the machine, where it was sampled."""

    def samples(view: View) -> Samples:
        sample = view.snapshot.host
        if sample is not None and not is_old(sample, view.snapshot) and (value := read(sample)) is not None:
            yield Value((), value)

    return Row(name, help_, (), samples)


def throttling(sample: GpuSample) -> dict[str, float | None]:
    """1 for each reason that holds now, 0 for the others."""
    told = sample.throttled
    return {reason: None if told is None else float(reason in told) for reason in get_args(ThrottleReason)}


def processes(view: View) -> Samples:
    """The programs that we know, the largest first and each on its own; everything else of a GPU in one sum."""
    for sample in latest(view.snapshot):
        known = [each for each in sample.processes if each.used_bytes is not None]
        own = sorted((each for each in known if each.program != "other"), key=size, reverse=True)[:MOST_PROCESSES]
        rest = [each for each in known if each not in own]
        for each in own:
            yield Value((sample.uuid, each.program, str(each.pid)), size(each))
        if rest:
            yield Value((sample.uuid, "other", ""), sum(map(size, rest)))


def size(process: GpuProcess) -> int:
    """What it holds."""
    return process.used_bytes or 0


def collectors(view: View) -> Samples:
    """1 for a collector that delivers, 0 for one that has nothing to give or failed, or that is stuck."""
    snapshot = view.snapshot
    stuck = {collector_of(sample) for sample in (*newest(snapshot), snapshot.host) if is_old(sample, snapshot)}
    for name in _COLLECTORS:
        if (status := snapshot.sources.get(name)) is not None:
            yield Value((name,), float(status.state == "up" and name not in stuck))


def durations(view: View) -> Samples:
    """How long each collector last took."""
    snapshot = view.snapshot
    taken: dict[str, float] = {}
    for sample in (*latest(snapshot), snapshot.host):
        if sample is not None and sample.took_seconds is not None and not is_old(sample, snapshot):
            taken[collector_of(sample)] = taken.get(collector_of(sample), 0.0) + sample.took_seconds
    return (Value((name,), seconds) for name, seconds in taken.items())


ROWS: tuple[Row, ...] = (
    Row(
        "gpuwatch_gpu_info",
        "The GPUs of the machine; join other series by uuid. Those of amd and intel were not tested on hardware.",
        ("uuid", "index", "name", "driver", "vendor"),
        lambda v: (Value((g.uuid, str(g.index), g.name, g.driver or "", g.vendor), 1.0) for g in latest(v.snapshot)),
    ),
    gpu_row("gpuwatch_gpu_memory_used_bytes", "Memory in use on the GPU, by all processes.", lambda g: g.used_bytes),
    gpu_row("gpuwatch_gpu_memory_total_bytes", "Memory of the GPU.", lambda g: g.total_bytes),
    Row(
        "gpuwatch_gpu_process_memory_bytes",
        "GPU memory by program: ComfyUI and our runner by pid, at most eight of a GPU, all others in one sum without one.",
        ("uuid", "program", "pid"),
        processes,
    ),
    gpu_row(
        "gpuwatch_gpu_utilization_ratio",
        "Share of the last sample period in which a kernel ran.",
        lambda g: g.utilization_ratio,
    ),
    gpu_row("gpuwatch_gpu_temperature_celsius", "Temperature of the GPU's core.", lambda g: g.temperature_celsius),
    gpu_row("gpuwatch_gpu_power_watts", "Power that the GPU draws.", lambda g: g.power_watts),
    gpu_row("gpuwatch_gpu_power_limit_watts", "Power that the GPU may draw.", lambda g: g.power_limit_watts),
    gpu_row(
        "gpuwatch_gpu_energy_joules_total",
        "Energy that the GPU used since its driver was loaded.",
        lambda g: g.energy_joules,
        unit="joules",
    ),
    gpu_row_by(
        "gpuwatch_gpu_clock_hertz",
        "Clocks as they are now, of the processors (sm) and of the memory.",
        "domain",
        lambda g: {"sm": g.sm_clock_hertz, "memory": g.memory_clock_hertz},
    ),
    gpu_row_by(
        "gpuwatch_gpu_throttled",
        "1 where the driver holds the clocks down for this reason, 0 where it does not.",
        "reason",
        throttling,
        unit="0 or 1",
    ),
    gpu_row("gpuwatch_gpu_fan_ratio", "What the fan is told to do, of its most.", lambda g: g.fan_ratio),
    gpu_row_by(
        "gpuwatch_gpu_ecc_errors_total",
        "Memory errors since the driver was loaded; none of a card without ECC.",
        "kind",
        lambda g: {"corrected": g.ecc_corrected, "uncorrected": g.ecc_uncorrected},
        unit="errors",
    ),
    gpu_row_by(
        "gpuwatch_gpu_pcie_bytes_per_second",
        "PCIe traffic over the 20 ms that the driver looked.",
        "direction",
        lambda g: {"receive": g.pcie_receive_bytes_per_second, "transmit": g.pcie_transmit_bytes_per_second},
    ),
    gpu_row_by(
        "gpuwatch_gpu_pcie_link_generation",
        "PCIe generation now, and the most that card and slot can do; an idle card's link is slower.",
        "which",
        lambda g: {"now": g.pcie_link_generation, "most": g.pcie_most_generation},
        unit="generation",
    ),
    gpu_row_by(
        "gpuwatch_gpu_pcie_link_width",
        "PCIe lanes now, and the most that card and slot can do.",
        "which",
        lambda g: {"now": g.pcie_link_width, "most": g.pcie_most_width},
        unit="lanes",
    ),
    Row(
        "gpuwatch_xid_errors_total",
        "Failures that the NVIDIA driver reported with an Xid, by code; codes that ask for nothing are other.",
        ("code",),
        lambda v: (Value((code,), at_zero(v.snapshot.tallies.xids.get(code))) for code in XIDS),
        "counter",
        "errors",
    ),
    host_row(
        "gpuwatch_host_memory_available_bytes",
        "Memory of the machine that programs can still have.",
        lambda h: h.memory_available_bytes,
    ),
    host_row("gpuwatch_host_memory_total_bytes", "Memory of the machine.", lambda h: h.memory_total_bytes),
    host_row("gpuwatch_host_swap_used_bytes", "Swap in use on the machine.", lambda h: h.swap_used_bytes),
    host_row("gpuwatch_host_cpu_ratio", "Share of all processors that is busy.", lambda h: h.cpu_ratio),
    Row(
        "gpuwatch_collector_success",
        "1 where a collector delivers, 0 where it has nothing to give, failed or is stuck.",
        ("collector",),
        collectors,
        unit="0 or 1",
    ),
    Row(
        "gpuwatch_collector_duration_seconds",
        "How long a collector last took, over all GPUs.",
        ("collector",),
        durations,
    ),
)
