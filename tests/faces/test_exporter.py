"""The metrics page: what is promised is there, from the start, in bounded series, and both formats are what they claim."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.engine import Engine
from gpuwatch.core.matching.matcher import Matcher
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
    SourceDown,
    SourceUp,
    ThrottleReason,
    Tick,
)
from gpuwatch.core.rules import ACTIONS, LABELS
from gpuwatch.core.snapshot import Snapshot, Vitals
from gpuwatch.core.tallies import XIDS, Histogram
from gpuwatch.faces.exporter import METRICS, Page, Row, View
from gpuwatch.texts import plain

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


# -- from the start --------------------------------------------------------------------------------------------------------


def test_every_label_action_and_code_stands_at_zero_from_the_start() -> None:
    told = series(Snapshot())
    for label in LABELS:
        assert told["gpuwatch_incident_active", (("label", label),)] == 0
    assert {each["label"] for each in labels_of(told, "gpuwatch_incidents_total")} == set(LABELS)
    assert {each["action"] for each in labels_of(told, "gpuwatch_fixes_total")} == set(ACTIONS)
    assert {each["code"] for each in labels_of(told, "gpuwatch_xid_errors_total")} == set(XIDS)
    assert {each["workload"] for each in labels_of(told, "gpuwatch_tokens_total")} == set(WORKLOADS)
    assert {each["outcome"] for each in labels_of(told, "gpuwatch_job_duration_seconds_count")} == {
        "success", "error", "interrupted",
    }  # fmt: skip
    assert labels_of(told, "gpuwatch_queue_wait_seconds_count")
    assert all(value == 0 for (name, _), value in told.items() if name.endswith(("_total", "_count", "_bucket")))


CONTRACT = """gpuwatch_build_info gpuwatch_gpu_info gpuwatch_gpu_memory_used_bytes gpuwatch_gpu_memory_total_bytes
gpuwatch_gpu_utilization_ratio gpuwatch_gpu_temperature_celsius gpuwatch_gpu_power_watts gpuwatch_incidents_total
gpuwatch_incident_active gpuwatch_incident_last_timestamp_seconds gpuwatch_log_records_total gpuwatch_queue_jobs
gpuwatch_queue_work_seconds gpuwatch_queue_wait_seconds gpuwatch_job_duration_seconds gpuwatch_job_peak_memory_bytes
gpuwatch_memory_predicted_bytes gpuwatch_fixes_total gpuwatch_tokens_total gpuwatch_workers gpuwatch_collector_success
gpuwatch_collector_duration_seconds"""


def test_what_was_promised_is_there() -> None:
    assert set(CONTRACT.split()) <= {row.name for row in METRICS}


def test_every_metric_can_have_a_sample() -> None:
    told = {name for name, _ in series(everything())}
    missing = {row.name for row in METRICS if not any(name.startswith(row.name) for name in told)}
    # These say nothing until somebody changes a file.
    assert missing == {
        "gpuwatch_rules_last_reload_success_timestamp_seconds",
        "gpuwatch_web_config_last_reload_success",
    }


# -- numbers ---------------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_driver_in_base_units() -> None:
    told = series(everything())
    uuid = ("uuid", "GPU-0")
    assert told["gpuwatch_gpu_energy_joules_total", (uuid,)] == 1234.5
    assert told["gpuwatch_gpu_clock_hertz", (("domain", "sm"), uuid)] == 1.98e9
    assert told["gpuwatch_gpu_throttled", (("reason", "power_cap"), uuid)] == 1
    assert told["gpuwatch_gpu_throttled", (("reason", "thermal_hardware"), uuid)] == 0
    assert told["gpuwatch_gpu_ecc_errors_total", (("kind", "corrected"), uuid)] == 3
    assert told["gpuwatch_gpu_pcie_bytes_per_second", (("direction", "receive"), uuid)] == 1024
    assert told["gpuwatch_collector_duration_seconds", (("collector", "nvml"),)] == 0.02
    assert told["gpuwatch_xid_errors_total", (("code", "31"),)] == 1
    assert told["gpuwatch_incidents_total", (("label", "cuda_oom"), ("severity", "error"))] == 2
    assert told["gpuwatch_queue_work_seconds", (("server", "a:8188"),)] == 12
    assert told["gpuwatch_tokens_total", (("workload", "ddcolor"),)] == 768
    assert told["gpuwatch_memory_measured_to_predicted_ratio_sum", (("workload", "ddcolor"),)] == 0.9


def test_known_programs_have_their_pid_and_the_rest_is_one_sum() -> None:
    told = series(everything())
    processes = {
        (labels["program"], labels["pid"]): told["gpuwatch_gpu_process_memory_bytes", tuple(sorted(labels.items()))]
        for labels in labels_of(told, "gpuwatch_gpu_process_memory_bytes")
    }
    assert processes == {("runner", "42"): 2 << 30, ("comfyui", "41"): 1 << 30, ("other", ""): 11}


def test_a_thousand_processes_are_a_few_series() -> None:
    crowd = tuple(GpuProcess(pid, "python", pid, "comfyui") for pid in range(1, 1001))
    told = series(Snapshot().after(GpuSample(AT, "GPU-1", 0, "card", processes=crowd)))
    values = [value for (name, _), value in told.items() if name == "gpuwatch_gpu_process_memory_bytes"]
    assert len(values) == 9
    assert sum(values) == sum(range(1, 1001))


def test_an_empty_queue_has_no_work_and_an_unknown_one_no_series() -> None:
    empty = series(Snapshot().after(QueueState(AT, "a:1", 0, 0)))
    assert empty["gpuwatch_queue_work_seconds", (("server", "a:1"),)] == 0
    unmeasured = series(Snapshot().after(QueueState(AT, "a:1", 4, 0)))
    assert not labels_of(unmeasured, "gpuwatch_queue_work_seconds")
    assert not labels_of(series(Snapshot()), "gpuwatch_queue_jobs")


def test_the_time_of_rules_is_told_for_the_first_that_were_tried() -> None:
    times = {f"rule-{number}": float(number) for number in range(600)}
    told = series(replace(Snapshot(), vitals=Vitals(rule_seconds=times)))
    values = {labels["rule"]: told["gpuwatch_rule_seconds_total", (("rule", labels["rule"]),)]
              for labels in labels_of(told, "gpuwatch_rule_seconds_total")}  # fmt: skip
    assert len(values) == 65
    assert values["rule-7"] == 7
    assert sum(values.values()) == sum(times.values())


def test_lag_is_how_far_the_clock_is_ahead_and_never_negative() -> None:
    snapshot = Snapshot().after(Tick(AT))
    assert series(snapshot, clock=lambda: AT + timedelta(seconds=7))["gpuwatch_lag_seconds", ()] == 7
    assert series(snapshot, clock=lambda: AT - timedelta(seconds=7))["gpuwatch_lag_seconds", ()] == 0
    assert ("gpuwatch_lag_seconds", ()) not in series(Snapshot())


# -- what is not there -----------------------------------------------------------------------------------------------------


def test_what_the_hardware_did_not_say_has_no_series() -> None:
    told = series(Snapshot().after(GpuSample(AT, "GPU-1", 0, "card", used_bytes=5, total_bytes=10)))
    present = {name for name, labels in told if ("uuid", "GPU-1") in labels}
    assert present == {"gpuwatch_gpu_info", "gpuwatch_gpu_memory_used_bytes", "gpuwatch_gpu_memory_total_bytes"}


@pytest.mark.parametrize("field", ["energy_joules", "throttled", "ecc_corrected", "fan_ratio", "sm_clock_hertz"])
def test_one_field_that_is_not_said_takes_no_other_with_it(field: str) -> None:
    full, partial = (
        series(Snapshot().after(each)) for each in (full_sample(), replace(full_sample(), **{field: None}))
    )
    gone = len(full) - len(partial)
    assert gone == (len(get_args(ThrottleReason)) if field == "throttled" else 1)


def test_a_lost_gpu_disappears_and_the_other_stays() -> None:
    lost = SourceDown(AT, "nvml 1", "nvml", plain("lost"), failed=True)
    told = series(after(SourceUp(AT, "nvml", "nvml"), full_sample(0), full_sample(1), lost))
    assert [each["uuid"] for each in labels_of(told, "gpuwatch_gpu_info")] == ["GPU-0"]


def test_a_driver_that_is_gone_takes_its_gpus_with_it_and_says_so() -> None:
    down = SourceDown(AT, "nvml", "nvml", plain("gone"), failed=True)
    told = series(after(SourceUp(AT, "nvml", "nvml"), full_sample(), down))
    assert not labels_of(told, "gpuwatch_gpu_info")
    assert told["gpuwatch_collector_success", (("collector", "nvml"),)] == 0


def test_a_server_that_is_away_has_no_queue_any_more() -> None:
    seen = (
        SourceUp(AT, "a:1", "comfyui"),
        QueueState(AT, "a:1", 3, 1),
        ServerSeen(AT, "a:1", "0.24.0", (), "cuda", 2, 1),
    )
    away = SourceDown(AT, "a:1", "comfyui", plain("away"), failed=True)
    there, gone = series(after(*seen)), series(after(*seen, away))
    server = (("server", "a:1"),)
    assert (there["gpuwatch_server_up", server], gone["gpuwatch_server_up", server]) == (1, 0)
    assert series(after(seen[0]))["gpuwatch_server_up", server] == 0, "it has not answered yet"
    for name in ("gpuwatch_queue_jobs", "gpuwatch_server_info", "gpuwatch_server_device_memory_bytes"):
        assert labels_of(there, name)
        assert not labels_of(gone, name)


def test_a_collector_that_hangs_is_seen() -> None:
    later = AT + timedelta(seconds=60)
    told = series(after(SourceUp(AT, "nvml", "nvml"), full_sample(), Tick(later)))
    assert not labels_of(told, "gpuwatch_gpu_info")
    assert told["gpuwatch_collector_success", (("collector", "nvml"),)] == 0


def test_a_metric_that_fails_leaves_the_page_and_is_counted() -> None:
    def fails(_view: View) -> Any:
        raise RuntimeError("no")

    rows = [Row("gpuwatch_bad", "Bad.", (), fails), *METRICS]
    told = series(Snapshot(), rows=rows)
    assert told["gpuwatch_scrape_failed_metrics", ()] == 1
    assert ("gpuwatch_bad", ()) not in told
    assert labels_of(told, "gpuwatch_build_info")


# -- hostile values --------------------------------------------------------------------------------------------------------

HOSTILE = ['u"\n\\', 'x"} 1\nevil 2', "\ud800half", "显存" * 400, "\x1b[31mred", "\u202eright", "", " ", "{}#,="]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_cannot_break_the_page(value: str) -> None:
    snapshot = after(
        GpuSample(AT, value, 0, value, value, used_bytes=1),
        QueueState(AT, value, 1, 1),
        ServerSeen(AT, value, value, (), value),
        JobEnded(AT, value, value, "success", duration_seconds=1.0, workload=value, node_seconds={value: 1.0}),
    )
    for openmetrics in (False, True):
        page = page_of(snapshot).text(openmetrics=openmetrics).decode()
        parse = parse_open if openmetrics else parse_plain
        names = {sample.name for family in parse(page) for sample in family.samples}
        assert not any(name.startswith("evil") for name in names)
        assert all(len(words) < 600 for words in re.findall(r'"((?:[^"\\]|\\.)*)"', page))


def test_ten_thousand_names_are_bounded_series() -> None:
    dice = random.Random(8)  # noqa: S311 - a test's dice
    snapshot = Snapshot()
    for number in range(10_000):
        name = "".join(dice.choices(string.printable, k=12))
        snapshot = snapshot.after(
            JobEnded(AT, name, name, "success", duration_seconds=1.0, workload=name, node_seconds={name: 1.0})
        )
        if number % 100 == 0:
            snapshot = snapshot.after(QueueState(AT, name, 1, 1)).after(ServerSeen(AT, name, name))
    told = series(snapshot)
    assert len(told) < 10_000
    assert len(labels_of(told, "gpuwatch_queue_jobs")) <= 64
    counted = [value for (name, _), value in told.items() if name == "gpuwatch_node_duration_seconds_count"]
    assert sum(counted) == 10_000


def test_the_documented_budget_is_the_one_that_is_kept() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    documented = [
        int(count) for count in re.findall(r"^\| (?:gpuwatch without|each) .* \| (\d+) \|$", page, re.MULTILINE)
    ]

    def count(*observations: Observation) -> int:
        snapshot = Snapshot().after(Tick(AT))
        for each in observations:
            snapshot = snapshot.after(each)
        return len(series(snapshot))

    def server(name: str) -> tuple[Observation, ...]:
        ended = JobEnded(AT, name, "1", "success", duration_seconds=1.0, waited_seconds=1.0)
        return (
            SourceUp(AT, name, "comfyui"),
            QueueState(AT, name, 1, 1),
            ServerSeen(AT, name, "0", (), "x", 2, 1),
            ended,
        )

    bare = replace(full_sample(), processes=())
    one, two = (*server("a"), bare), (replace(bare, uuid="GPU-2"), *server("b"))
    node = JobEnded(AT, "a", "2", "success", duration_seconds=1.0, node_seconds={"KSampler": 1.0})
    assert (
        documented
        == [
            count() + 6,  # process_*
            count(*one, two[0]) - count(*one),
            count(*one, replace(bare, processes=full_sample().processes[:1])) - count(*one),
            count(*one, *two[1:]) - count(*one),
            count(*one, node) - count(*one),
        ]
    )


# -- the formats -----------------------------------------------------------------------------------------------------------


class Families(Collector):
    """The same rows through the library: what is written by hand must be the same page."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        for row in METRICS:
            family = {
                "gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily,
            }[row.kind](row.name, row.help, labels=row.labels)  # fmt: skip
            for each in row.samples(self._view):
                if isinstance(each.value, Histogram):
                    counts = each.value.counts or (0,) * (len(each.value.bounds) + 1)
                    bounds = [*map(floatToGoString, each.value.bounds), "+Inf"]
                    family.add_metric(each.labels, list(zip(bounds, accumulate(counts), strict=True)), each.value.total)
                else:
                    family.add_metric(each.labels, each.value)
            yield family


def families(parse: Callable[[str], Any], page: bytes) -> dict[str, Any]:
    return {
        family.name: (
            family.type,
            family.documentation,
            {(s.name, tuple(sorted(s.labels.items()))): s.value for s in family.samples},
        )
        for family in parse(page.decode())
    }


@pytest.mark.parametrize("snapshot", [Snapshot(), everything()], ids=["nothing", "everything"])
def test_the_page_is_the_one_that_the_library_would_write(snapshot: Snapshot) -> None:
    registry = CollectorRegistry()
    registry.register(Families(View(snapshot, RULES, WORKLOADS, AT)))
    ours = families(parse_plain, page_of(snapshot).text())
    theirs = families(parse_plain, generate_latest(registry))
    assert ours.pop("gpuwatch_scrape_failed_metrics")[2] == {("gpuwatch_scrape_failed_metrics", ()): 0}
    theirs.pop("gpuwatch_scrape_failed_metrics")
    assert ours == theirs


def test_openmetrics_tells_the_same_and_the_incident_besides() -> None:
    snapshot = everything()
    plain_page, open_page = (page_of(snapshot).text(openmetrics=each) for each in (False, True))
    assert open_page.endswith(b"# EOF\n")
    told = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_open(open_page.decode())
        for sample in family.samples
    }
    assert told == read(plain_page)
    exemplars = [
        sample.exemplar.labels["incident"]
        for family in parse_open(open_page.decode())
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert set(exemplars) <= set(snapshot.incidents)
    assert len(exemplars) == 2
    assert b"incident=" not in plain_page


def test_two_pages_of_one_snapshot_are_one() -> None:
    page = page_of(everything())
    assert page.text() == page.text()


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_names_follow_the_conventions(row: Row) -> None:
    assert row.name.startswith("gpuwatch_")
    assert row.name.endswith("_total") == (row.kind == "counter")
    assert row.help.endswith(".")
    assert not set('\\\n"') & set(row.help)
    ends_in_unit = row.name.removesuffix("_total").endswith(
        ("_bytes", "_seconds", "_ratio", "_celsius", "_watts", "_joules", "_hertz", "_info", "_per_second")
    )
    assert ends_in_unit or row.unit
