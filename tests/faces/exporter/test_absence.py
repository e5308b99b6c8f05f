"""What nobody told has no series, what is gone has none any more, and one fault takes no other metric with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import pytest

from gpuwatch.core.observations import (
    GpuSample,
    QueueState,
    ServerSeen,
    SourceDown,
    SourceUp,
    ThrottleReason,
    Tick,
)
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.exporter import METRICS, Row, View
from gpuwatch.texts import plain
from tests.faces.exporter.pages import (
    AT,
    after,
    full_sample,
    labels_of,
    series,
)

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
