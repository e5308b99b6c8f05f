"""What is promised is on the page, from the start, and the numbers are those that were told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from gpuwatch.core.observations import (
    GpuProcess,
    GpuSample,
    QueueState,
    Tick,
)
from gpuwatch.core.rules import ACTIONS, LABELS, QUEUE_AGAIN
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import Vitals
from gpuwatch.core.tallies import XIDS
from gpuwatch.faces.exporter import METRICS
from tests.faces.exporter.pages import (
    AT,
    WORKLOADS,
    everything,
    labels_of,
    series,
)

# -- from the start --------------------------------------------------------------------------------------------------------


def test_every_label_action_and_code_stands_at_zero_from_the_start() -> None:
    told = series(Snapshot())
    for label in LABELS:
        assert told["gpuwatch_incident_active", (("label", label),)] == 0
    assert {each["label"] for each in labels_of(told, "gpuwatch_incidents_total")} == set(LABELS)
    assert {each["action"] for each in labels_of(told, "gpuwatch_fixes_total")} == {*ACTIONS, QUEUE_AGAIN}
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
