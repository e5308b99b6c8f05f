"""What our metrics are called in OpenTelemetry: its own names where it has one that means the same, ours with dots else.

The names are those of the semantic conventions 1.44.0 (hardware and system metrics, all of them "in development" there).
Ours keep their unit out of their name, so that a collector which writes them for Prometheus comes back to the page's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gpuwatch.core.observations import GpuSample
from gpuwatch.faces.exporter.rows import Row

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
Instrument = Literal["gauge", "counter", "updowncounter", "histogram"]
_UNITS = (
    ("_bytes_per_second", "By/s"),
    ("_bytes", "By"),
    ("_seconds", "s"),
    ("_ratio", "1"),
    ("_celsius", "Cel"),
    ("_watts", "W"),
    ("_joules", "J"),
    ("_hertz", "Hz"),
)
_VENDORS = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}


@dataclass(frozen=True, slots=True)
class Named:
    """A metric as OpenTelemetry knows it."""

    name: str
    unit: str
    instrument: Instrument
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What every one of its points says besides its labels."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Labels that are called otherwise there."""
    part: str | None = None
    """The part of the GPU that it is told of, where that is a component of its own there: a sensor, a fan."""


SEMANTIC: Mapping[str, Named] = {
    "gpuwatch_gpu_memory_used_bytes": Named("hw.gpu.memory.usage", "By", "updowncounter"),
    "gpuwatch_gpu_memory_total_bytes": Named("hw.gpu.memory.limit", "By", "updowncounter"),
    "gpuwatch_gpu_utilization_ratio": Named("hw.gpu.utilization", "1", "gauge", {"hw.gpu.task": "general"}),
    "gpuwatch_gpu_temperature_celsius": Named(
        "hw.temperature", "Cel", "gauge", {"hw.sensor_location": "gpu"}, part="temperature"
    ),
    "gpuwatch_gpu_power_watts": Named("hw.power", "W", "gauge"),
    "gpuwatch_gpu_energy_joules_total": Named("hw.energy", "J", "counter"),
    "gpuwatch_gpu_fan_ratio": Named("hw.fan.speed_ratio", "1", "gauge", {"hw.sensor_location": "gpu"}, part="fan"),
    "gpuwatch_gpu_ecc_errors_total": Named("hw.errors", "{error}", "counter", renamed={"kind": "error.type"}),
    "gpuwatch_host_memory_total_bytes": Named("system.memory.limit", "By", "updowncounter"),
    "gpuwatch_host_memory_available_bytes": Named("system.memory.linux.available", "By", "updowncounter"),
    "gpuwatch_host_swap_used_bytes": Named(
        "system.paging.usage", "By", "updowncounter", {"system.paging.state": "used"}
    ),
}


def named(row: Row) -> Named:
    """The metric's name, unit and instrument there."""
    known = SEMANTIC.get(row.name)
    if known is not None:
        return known
    name = row.name.removesuffix("_total")
    for ending, unit in _UNITS:
        if name.endswith(ending):
            return Named(dotted(name.removesuffix(ending)), unit, row.kind)
    return Named(dotted(name), counted(row.unit), row.kind)


def dotted(name: str) -> str:
    """Our prefix as a namespace."""
    return "gpuwatch." + name.removeprefix("gpuwatch_")


def counted(unit: str) -> str:
    """What is counted, in braces and in the singular; nothing for a flag or an identity."""
    if not unit or " " in unit:
        return ""
    if unit.endswith(("xes", "shes")):
        return f"{{{unit[:-2]}}}"
    return f"{{{unit.removesuffix('s')}}}"


def attributes_of(row: Row, words: Mapping[str, str], gpus: Mapping[str, GpuSample]) -> dict[str, str]:
    """A point's labels as attributes; a GPU's uuid is the component's id, and what is known of the GPU stands beside it."""
    known = named(row)
    attributes = {known.renamed.get(name, name): value for name, value in words.items() if name != "uuid"}
    attributes |= known.attributes
    uuid = words.get("uuid")
    if uuid is None:
        return attributes
    if known.part is not None:
        return {**attributes, "hw.id": f"{uuid}/{known.part}", "hw.parent": uuid}
    attributes |= {"hw.id": uuid, "hw.type": "gpu"}
    if (sample := gpus.get(uuid)) is not None and row.name in SEMANTIC:
        attributes |= {
            "hw.name": f"GPU {sample.index}",
            "hw.model": sample.name,
            "hw.vendor": _VENDORS[sample.vendor],
            **({"hw.driver_version": sample.driver} if sample.driver else {}),
        }
    return attributes
