"""Sums since the start: nothing from outside can make them grow without bound or hold nonsense."""

from __future__ import annotations

import random
import string
from datetime import UTC, datetime
from typing import Any

import pytest

from gpuwatch.core.observations import FixTried, JobEnded, RunEvent
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.tallies import (
    JOB_SECONDS,
    MOST_NODE_TYPES,
    MOST_SERVERS,
    OTHER,
    RUNNER,
    Histogram,
    Tallies,
)

AT = datetime(2026, 11, 21, tzinfo=UTC)


def job(**fields: Any) -> JobEnded:
    return JobEnded(**{"at": AT, "server": "a:1", "job_id": "1", "outcome": "success"} | fields)


def test_a_histogram_counts_at_its_bounds() -> None:
    seen = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        seen = seen.observed(value)
    assert (seen.counts, seen.total) == ((2, 2, 1), 8.0)


def test_a_job_is_counted_by_its_seconds_and_its_wait() -> None:
    told = Tallies().after(job(duration_seconds=12.0, waited_seconds=3.0, workload="ddcolor"))
    assert told.jobs["a:1", "ddcolor", "success"].total == 12.0
    assert sum(told.waits["a:1"].counts) == 1


@pytest.mark.parametrize("nonsense", [-1.0, float("nan"), float("inf"), None, True, "12"])
def test_a_duration_that_is_none_counts_nothing(nonsense: Any) -> None:
    told = Tallies().after(job(duration_seconds=nonsense, waited_seconds=nonsense, node_seconds={"A": nonsense}))
    assert told == Tallies()


def test_a_job_from_before_we_came_is_not_counted() -> None:
    assert Tallies().after(job(duration_seconds=1.0, waited_seconds=1.0, fresh=False)) == Tallies()


def test_ten_thousand_node_types_are_a_few() -> None:
    dice = random.Random(1)  # noqa: S311 - a test's dice
    told = Tallies()
    for _ in range(10_000):
        told = told.after(job(node_seconds={"".join(dice.choices(string.printable, k=20)): 1.0}))
    assert len(told.nodes) == MOST_NODE_TYPES + 1
    assert sum(sum(seen.counts) for seen in told.nodes.values()) == 10_000
    assert sum(told.nodes[OTHER].counts) == 10_000 - MOST_NODE_TYPES


def test_a_thousand_servers_are_a_few() -> None:
    told = Tallies()
    for number in range(1000):
        told = told.after(job(server=f"host:{number}", duration_seconds=1.0, waited_seconds=1.0))
    assert len(told.jobs) == MOST_SERVERS + 1
    assert sum(sum(seen.counts) for seen in told.jobs.values()) == 1000


def test_the_runners_report_gives_tokens_peak_and_how_good_the_prediction_was() -> None:
    report = {
        "event": "report",
        "images": 3,
        "tokens_per_image": 256,
        "peak_device_bytes": 900,
        "predicted": {"process_bytes": {"low": 500, "mid": 700, "high": 1000}},
    }
    told = Tallies().after(RunEvent(AT, {"event": "image", "seconds": 0.4})).after(RunEvent(AT, report))
    assert told.tokens == {"ddcolor": 768}
    assert (told.peak_bytes, told.predicted_bytes) == ({"ddcolor": 900}, {"ddcolor": 1000})
    assert told.accuracy["ddcolor"].total == 0.9
    assert told.jobs[RUNNER, "ddcolor", "success"] == Histogram(JOB_SECONDS).observed(0.4)


@pytest.mark.parametrize(
    "report",
    [{}, {"images": "many"}, {"predicted": 3}, {"predicted": {"process_bytes": [1]}}, {"peak_device_bytes": -5}],
)
def test_a_report_that_says_nothing_usable_changes_nothing(report: dict[str, Any]) -> None:
    assert Tallies().after(RunEvent(AT, {"event": "report", **report})) == Tallies()


def test_fixes_and_xids_are_counted() -> None:
    told = Tallies().after(FixTried(AT, "i", "shrink_size", "held")).with_xids([31, 9999, 31], 2)
    assert told.fixes == {("shrink_size", "held"): 1}
    assert told.xids == {"31": 4, OTHER: 2}


def test_the_snapshot_keeps_them() -> None:
    assert Snapshot().after(job(duration_seconds=1.0)).tallies.jobs
