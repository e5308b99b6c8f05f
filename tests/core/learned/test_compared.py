"""A job's peak beside what was known of its kind before it ran, from samples to the tallies that metrics are made of."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gpuwatch.core.engine import Engine
from gpuwatch.core.events import PeakCompared
from gpuwatch.core.learned.runs import Learned
from gpuwatch.core.observations import JobEnded, ServerSeen
from gpuwatch.core.rules import RuleSet
from gpuwatch.core.snapshot import Snapshot
from tests.core.learned.samples import AT, GIB, learned, ran
from tests.standin.prompts import painting


def after_job(
    known: Learned, side: int, peak_gib: float, *, idle_gib: float = 1.0
) -> tuple[list[PeakCompared], Snapshot]:
    """A job of that size on a card that held 1 GiB before; what it was compared with, and what is known then."""
    engine, snapshot = Engine(RuleSet(()), learned=known), Snapshot()
    total = 64 * GIB
    story = [
        ServerSeen(AT + timedelta(seconds=second), "box", total_bytes=total, free_bytes=total - round(held * GIB))
        for second, held in ((0, idle_gib), (12, peak_gib), (19, idle_gib))
    ]
    ended = JobEnded(
        AT + timedelta(seconds=20), "box", "j", "success", duration_seconds=10.0, ran=ran(painting(side, side)),
        workload="painting",
    )  # fmt: skip
    events = [event for observation in (*story, ended) for event in engine.feed(observation)]
    for event in events:
        snapshot = snapshot.after(event)
    return [event for event in events if isinstance(event, PeakCompared)], snapshot


def test_a_job_of_a_known_kind_is_held_against_what_was_known() -> None:
    known = learned(256, 512, 768, 1024)
    (compared,), snapshot = after_job(known, 896, 4.0)
    need = 1 * GIB + 3000 * 896 * 896
    assert compared.peak_bytes == 4 * GIB
    assert compared.predicted_bytes == pytest.approx(need, rel=0.2)
    assert snapshot.tallies.peak_bytes == {"painting": 4 * GIB}
    assert snapshot.tallies.predicted_bytes == {"painting": compared.predicted_bytes}
    (histogram,) = snapshot.tallies.accuracy.values()
    assert histogram.total == pytest.approx(4 * GIB / compared.predicted_bytes)


def test_the_first_of_a_kind_has_a_peak_and_nothing_to_be_held_against() -> None:
    (compared,), snapshot = after_job(Learned(), 896, 4.0)
    assert (compared.peak_bytes, compared.predicted_bytes) == (4 * GIB, None)
    assert snapshot.tallies.peak_bytes == {"painting": 4 * GIB}
    assert not snapshot.tallies.accuracy
    assert not snapshot.tallies.predicted_bytes


def test_a_peak_that_may_not_be_the_jobs_own_says_nothing_of_a_prediction() -> None:
    compared, snapshot = after_job(learned(256, 512, 768, 1024), 896, 0.5, idle_gib=6.0)
    assert compared == []
    assert not snapshot.tallies.peak_bytes


def test_more_workloads_than_fit_are_other() -> None:
    snapshot = Snapshot()
    for number in range(1000):
        snapshot = snapshot.after(PeakCompared(AT, f"workload {number}", GIB, GIB))
    assert len(snapshot.tallies.peak_bytes) == len(snapshot.tallies.accuracy) == 9
    assert sum(sum(each.counts) for each in snapshot.tallies.accuracy.values()) == 1000
