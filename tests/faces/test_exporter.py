"""The metrics page: what is promised is there, from the start, in bounded series."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.observations import GpuSample, HostSample
from gpuwatch.core.rules import LABELS
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.exporter import METRICS, SnapshotCollector

AT = datetime(2026, 11, 21, tzinfo=UTC)
RULES = load_rules()


def series(snapshot: Snapshot) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: snapshot, RULES))
    page = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_every_label_stands_at_zero_from_the_start() -> None:
    told = series(Snapshot())
    for label in LABELS:
        assert told["gpuwatch_incident_active", (("label", label),)] == 0
        assert any(
            name == "gpuwatch_incidents_total" and ("label", label) in labels and value == 0
            for (name, labels), value in told.items()
        )


def test_what_the_hardware_did_not_say_has_no_series() -> None:
    sample = GpuSample(AT, "GPU-1", 0, "card", used_bytes=5, total_bytes=10)
    told = series(Snapshot().after(sample))
    assert told["gpuwatch_gpu_memory_used_bytes", (("uuid", "GPU-1"),)] == 5
    assert not any(name == "gpuwatch_gpu_power_watts" for name, _ in told)
    assert told["gpuwatch_gpu_info", (("driver", ""), ("index", "0"), ("name", "card"), ("uuid", "GPU-1"))] == 1


def test_host_memory_is_told() -> None:
    told = series(Snapshot().after(HostSample(AT, 100, 40, 0)))
    assert told["gpuwatch_host_memory_available_bytes", ()] == 40


def test_hostile_names_cannot_break_the_page() -> None:
    told = series(Snapshot().after(GpuSample(AT, 'u"\n\\', 0, 'x"} 1\nevil 2', used_bytes=1)))
    assert not any(name == "evil" for name, _ in told)


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_names_follow_the_conventions(row: object) -> None:
    name, counter = row.name, row.counter  # type: ignore[attr-defined]  # parametrized
    assert name.startswith("gpuwatch_")
    assert name.endswith("_total") == counter
    assert row.help.endswith(".")  # type: ignore[attr-defined]  # parametrized
