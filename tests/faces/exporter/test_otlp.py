"""What is pushed to a collector is what the page says, under OpenTelemetry's names, and a collector's trouble is its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otlp is not installed")

from opentelemetry.semconv._incubating.attributes import hw_attributes, system_attributes
from opentelemetry.semconv._incubating.metrics import hw_metrics, system_metrics
from opentelemetry.semconv.schemas import Schemas

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import Vitals
from gpuwatch.faces.exporter import METRICS
from gpuwatch.faces.exporter.otel_names import SCHEMA, SEMANTIC, named
from gpuwatch.faces.exporter.otlp import OtlpPush
from gpuwatch.faces.exporter.repeating import PushCounts
from tests.faces.exporter.collector import Collector, collecting
from tests.faces.exporter.pages import AT, after, everything, full_sample, page_of, series
from tests.faces.web import SECONDS, Said

pytestmark = pytest.mark.usefixtures("without_settings")

DELTA, CUMULATIVE = 1, 2


class Told:
    """A snapshot that a test changes, and the push of it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot, self.now = snapshot, AT
        self.counts: PushCounts = Counter()
        self.said = Said()
        self.page = page_of(snapshot, pushes=self.counts)

    def view(self) -> Any:
        return replace(self.page.view(), snapshot=self.snapshot, now=self.now)

    @contextmanager
    def pushed(self, url: str | None, every_seconds: float = 3600) -> Iterator[OtlpPush]:
        push = OtlpPush(
            url, self.view, instance="box:9877", every_seconds=every_seconds, counts=self.counts, say=self.said
        )
        try:
            yield push
        finally:
            push.close()


def waited(counts: PushCounts, outcome: Any, count: int = 1) -> None:
    deadline = time.monotonic() + SECONDS
    while counts["otlp", outcome] < count:
        assert time.monotonic() < deadline
        os.sched_yield()


# -- what is told ----------------------------------------------------------------------------------------------------------


def test_a_gpu_is_told_under_opentelemetrys_names(collector: Collector) -> None:
    told = Told(everything())
    with told.pushed(collector.url):
        request = collector.wait()
    gpu = {"hw.id": "GPU-0", "hw.type": "gpu", "hw.name": "GPU 0", "hw.model": "NVIDIA H100 80GB HBM3",
           "hw.vendor": "NVIDIA", "hw.driver_version": "580.95.05"}  # fmt: skip
    identity = tuple(sorted(gpu.items()))
    assert request.path == "/v1/metrics"
    assert request.points("hw.gpu.memory.usage")[identity].as_int == 41538289664
    assert request.points("hw.gpu.memory.limit")[identity].as_int == 85520809984
    assert request.points("hw.power")[identity].as_double == 512.3
    assert request.points("hw.energy")[identity].as_double == 1234.5
    (utilization,) = request.points("hw.gpu.utilization").items()
    assert dict(utilization[0])["hw.gpu.task"] == "general"
    assert utilization[1].as_double == 0.97
    errors = {dict(attributes)["error.type"]: point.as_int for attributes, point in request.points("hw.errors").items()}
    assert errors == {"corrected": 3, "uncorrected": 0}
    ((sensor, temperature),) = request.points("hw.temperature").items()
    assert dict(sensor) == {"hw.id": "GPU-0/temperature", "hw.parent": "GPU-0", "hw.sensor_location": "gpu"}
    assert temperature.as_double == 61.0
    memory = request.metrics["hw.gpu.memory.usage"]
    assert (memory.unit, memory.sum.is_monotonic, memory.sum.aggregation_temporality) == ("By", False, CUMULATIVE)
    energy = request.metrics["hw.energy"]
    assert (energy.unit, energy.sum.is_monotonic) == ("J", True)


def test_every_number_of_the_page_is_told(collector: Collector) -> None:
    told = Told(everything())
    with told.pushed(collector.url):
        request = collector.wait()
    page = series(everything())
    for row in METRICS:
        if row.name == "gpuwatch_scrape_failed_metrics" or not any(name.startswith(row.name) for name, _ in page):
            continue
        points = request.points(named(row).name).values()
        if row.kind == "histogram":
            numbers, pages = ([point.sum for point in points], f"{row.name}_sum")
        else:
            numbers, pages = ([point.as_double or point.as_int for point in points], row.name)
        assert sorted(numbers) == sorted(value for (name, _), value in page.items() if name == pages), row.name


def test_a_histogram_keeps_its_bounds(collector: Collector) -> None:
    told = Told(everything())
    with told.pushed(collector.url):
        points = collector.wait().points("gpuwatch.queue_wait")
    (point,) = [each for attributes, each in points.items() if dict(attributes)["server"] == "a:8188"]
    assert list(point.explicit_bounds) == [0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800]
    assert list(point.bucket_counts) == [0, 1, *[0] * 10]
    assert (point.count, point.sum, point.HasField("min")) == (1, 1.0, False)


def test_the_incident_that_raised_a_count_is_its_exemplar(collector: Collector) -> None:
    told = Told(everything())
    with told.pushed(collector.url):
        points = collector.wait().points("gpuwatch.incidents").values()
    incidents = {
        each.value.string_value
        for point in points
        for exemplar in point.exemplars
        for each in exemplar.filtered_attributes
    }
    assert incidents
    assert incidents <= set(everything().incidents)


def test_hostile_names_are_told_once_and_cut(collector: Collector) -> None:
    names = ["\x1b[31m", "\x1b[32m", "\ud800", "显存" * 400, '"\n\\', ""]
    told = Told(after(*(full_sample(at=AT),), *(replace(full_sample(), uuid=name) for name in names)))
    with told.pushed(collector.url):
        points = collector.wait().points("hw.gpu.memory.usage")
    assert all(len(value) <= 200 for attributes in points for _, value in attributes)


def test_our_own_names_come_back_to_the_pages() -> None:
    """As the collector's Prometheus exporter writes them: dots to _, the unit as a word, _total, _ratio for a gauge of 1."""
    units = {"By": "bytes", "s": "seconds", "Hz": "hertz", "W": "watts", "J": "joules", "Cel": "celsius",
             "By/s": "bytes_per_second", "1": "ratio"}  # fmt: skip
    for row in METRICS:
        known = named(row)
        if row.name in SEMANTIC:
            continue
        words = [known.name.replace(".", "_")]
        if known.unit in units:
            words.append(units[known.unit])
        if known.instrument == "counter":
            words.append("total")
        assert "_".join(words) == row.name
    assert len({named(row).name for row in METRICS}) == len(METRICS)


def test_the_names_are_those_of_the_conventions() -> None:
    known = {value for module in (hw_metrics, system_metrics, hw_attributes, system_attributes)
             for value in vars(module).values() if isinstance(value, str)}  # fmt: skip
    names = [each.name for each in SEMANTIC.values()]
    names += [name for each in SEMANTIC.values() for name in each.attributes]
    names += ["hw.id", "hw.type", "hw.name", "hw.model", "hw.vendor", "hw.driver_version", "hw.parent"]
    assert set(names) <= known
    assert SCHEMA in {each.value for each in Schemas}
    assert set(SEMANTIC) <= {row.name for row in METRICS}


def test_who_tells_can_be_said_in_the_environment(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=studio")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=night,host.name=renamed")
    with Told(Snapshot()).pushed(None):
        request = collector.wait()
    assert request.headers["x-tenant"] == "studio"
    assert request.resource["deployment.environment.name"] == "night"
    assert request.resource["host.name"] == "renamed"
    assert (request.resource["service.name"], request.resource["service.instance.id"]) == ("gpuwatch", "box:9877")


# -- since when ------------------------------------------------------------------------------------------------------------


def ticked(told: Told, busy_seconds: float, seconds: int) -> None:
    told.snapshot = replace(told.snapshot, vitals=Vitals(busy_seconds=busy_seconds))
    told.now = AT + timedelta(seconds=seconds)


def nanoseconds(seconds: int) -> int:
    return int((AT + timedelta(seconds=seconds)).timestamp() * 1e9)


def busy(collector: Collector, count: int) -> tuple[float, int]:
    (point,) = collector.wait(count).points("gpuwatch.busy").values()
    return point.as_double, point.start_time_unix_nano


def test_counts_are_told_since_the_start_and_one_that_begins_anew_says_so(collector: Collector) -> None:
    told = Told(Snapshot())
    ticked(told, 5.0, 0)
    with told.pushed(collector.url) as push:
        assert busy(collector, 1) == (5.0, nanoseconds(0))
        waited(told.counts, "sent")
        ticked(told, 8.0, 60)
        push.push()
        assert busy(collector, 2) == (8.0, nanoseconds(0))
        ticked(told, 1.0, 120)
        push.push()
        assert busy(collector, 3) == (1.0, nanoseconds(60))
        metric = collector.requests[-1].metrics["gpuwatch.busy"]
        assert (metric.sum.aggregation_temporality, metric.sum.is_monotonic) == (CUMULATIVE, True)


def test_differences_miss_nothing_though_a_push_fails(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta")
    told = Told(everything())
    ticked(told, 5.0, 0)
    with told.pushed(collector.url) as push:
        assert busy(collector, 1) == (5.0, nanoseconds(0))
        waited(told.counts, "sent")
        first = collector.requests[0]
        assert "hw.energy" not in first.metrics, "the driver counts since before we came"
        assert first.metrics["hw.gpu.memory.usage"].sum.aggregation_temporality == CUMULATIVE
        ticked(told, 8.0, 60)
        collector.status = 400
        with pytest.raises(Exception, match="does not take"):
            push.push()
        collector.status = 200
        ticked(told, 9.0, 120)
        push.push()
        assert busy(collector, 2) == (4.0, nanoseconds(0))
        second = collector.requests[1]
        assert second.metrics["gpuwatch.busy"].sum.aggregation_temporality == DELTA
        assert {point.as_double for point in second.points("hw.energy").values()} == {0.0}
        waits = second.metrics["gpuwatch.queue_wait"].histogram
        assert waits.aggregation_temporality == DELTA
        assert {point.count for point in waits.data_points} == {0}
        ticked(told, 2.0, 180)
        push.push()
        assert busy(collector, 3) == (2.0, nanoseconds(120))


def test_what_is_known_at_the_end_is_pushed(collector: Collector) -> None:
    told = Told(Snapshot())
    with told.pushed(collector.url):
        collector.wait()
        waited(told.counts, "sent")
        ticked(told, 7.0, 60)
    assert busy(collector, 2)[0] == 7.0


# -- a collector's trouble -------------------------------------------------------------------------------------------------


def test_a_collector_that_is_away_is_told_once_and_counted(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1.5")  # the SDK tries again after a second
    told = Told(Snapshot())
    with collecting() as gone:
        url = gone.url
    with told.pushed(url, every_seconds=0.01):
        waited(told.counts, "failed", 2)
    assert len(told.said.words) == 1
    assert "does not take the metrics: Connection refused" in told.said.words[0]
    assert capfd.readouterr() == ("", ""), "the SDK's own words"
    page = told.page.text().decode()
    assert int(float(re.findall(r'pushes_total\{outcome="failed",to="otlp"\} (\S+)', page)[0])) >= 2


def test_one_that_comes_back_is_told(collector: Collector) -> None:
    told = Told(Snapshot())
    collector.status = 400
    with told.pushed(collector.url, every_seconds=0.01):
        waited(told.counts, "failed")
        collector.status = 200
        waited(told.counts, "sent")
    assert len(told.said.words) == 2
    assert "works again" in told.said.words[1]


def test_one_that_never_answers_holds_up_nobody(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.faces.exporter.otlp._LAST_PUSH_SECONDS", 0.05)
    collector.answering.clear()
    told = Told(everything())
    with told.pushed(collector.url):
        assert b"gpuwatch_build_info" in told.page.text()
    assert not collector.requests


def test_serve_pushes_while_it_watches(tmp_path: Path, collector: Collector) -> None:
    log = tmp_path / "comfyui.log"
    log.write_bytes(b"torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)\n")
    command = [sys.executable, "-m", "gpuwatch.faces.cli", "serve", str(log), "--from-start", "--no-journal"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                   "OTEL_METRIC_EXPORT_INTERVAL": "1000"}  # fmt: skip
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        try:
            assert child.stderr is not None
            assert any("pushed to" in line for line in child.stderr)
            deadline = time.monotonic() + SECONDS
            count, seen = 0, 0.0
            while not seen:
                assert time.monotonic() < deadline
                count += 1
                points = collector.wait(count).points("gpuwatch.incidents")
                seen = sum(point.as_int for at, point in points.items() if ("label", "cuda_oom") in at)
            child.terminate()
            child.communicate(timeout=SECONDS)
        finally:
            child.kill()
    assert (child.returncode, seen) == (0, 1)


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.1")
    told = Told(Snapshot())
    with collecting() as gone:
        address = gone.url.replace("http://", "http://user:hunter2@")
    with told.pushed(address, every_seconds=0.01) as push:
        waited(told.counts, "failed")
        assert "hunter2" not in push.shown + "".join(told.said.words)
