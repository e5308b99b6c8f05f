"""From samples and ended jobs to measured runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gpuwatch.core.engine import Engine
from gpuwatch.core.learned.watching import RunWatch
from gpuwatch.core.observations import GpuProcess, GpuSample, JobEnded, ServerSeen
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.workload import predict
from tests.core.cases import RULES, WORKLOADS
from tests.core.learned.samples import AT, GIB, ran
from tests.standin.prompts import TINY, painting, workflow

RAN = ran(painting(1024, 1024))


def at(seconds: float) -> Any:
    return AT + timedelta(seconds=seconds)


def seen(seconds: float, held: float, idle: float = 0.0) -> ServerSeen:
    """The server's word: `held` by tensors and others, `idle` in PyTorch's cache."""
    free = round((8 - held) * GIB)
    return ServerSeen(at(seconds), "box", total_bytes=8 * GIB, free_bytes=free, torch_idle_bytes=round(idle * GIB))


def sampled(seconds: float, ours: float | None, others: float = 0.5) -> GpuSample:
    processes = [GpuProcess(9, "Xorg", round(others * GIB))]
    if ours is not None:
        processes.append(GpuProcess(7, "python", round(ours * GIB), "comfyui"))
    return GpuSample(
        at(seconds),
        "GPU-1",
        0,
        "card",
        total_bytes=8 * GIB,
        used_bytes=round(((ours or 0) + others) * GIB),
        processes=tuple(processes),
    )


def job(seconds: float, took: float | None = 10.0, outcome: Any = "success", **more: Any) -> JobEnded:
    return JobEnded(at(seconds), "box", "job", outcome, duration_seconds=took, ran=RAN, **more)


def watch(*told: ServerSeen | GpuSample) -> RunWatch:
    runs = RunWatch()
    for each in told:
        (runs.server_seen if isinstance(each, ServerSeen) else runs.card_sampled)(each)  # type: ignore[arg-type, operator]  # by its kind
    return runs


def test_the_driver_tells_the_process_apart_and_goes_before_the_server() -> None:
    runs = watch(seen(0, 2), *(sampled(second, held) for second, held in ((0, 1), (12, 3), (15, 5), (20, 4), (30, 7))))
    run = runs.job_ended(job(20))
    assert run is not None
    assert (run.peak_bytes, run.bound, run.alone, run.total_bytes) == (5 * GIB, "exactly", True, 8 * GIB)


def test_a_server_elsewhere_with_such_a_card_is_not_taken_for_the_one_here() -> None:
    here = [sampled(second, 1) for second in range(21)]  # idle all the while
    run = watch(*here, seen(0, 1.5), seen(12, 5), seen(16, 6)).job_ended(job(20))
    assert run is not None
    assert (run.peak_bytes, run.alone) == (6 * GIB, False)
    run = watch(
        *here[:10], *(sampled(second, 5) for second in range(10, 21)), seen(0, 1.5), seen(12, 5.5), seen(16, 5.6)
    ).job_ended(job(20))
    assert run is not None
    assert (run.peak_bytes, run.alone) == (5 * GIB, True)


def test_without_a_name_for_the_process_the_server_tells_and_counts_what_lies_idle() -> None:
    runs = watch(seen(0, 1), sampled(12, None), seen(12, 2, idle=1.5), seen(19, 1, idle=3))
    run = runs.job_ended(job(20))
    assert run is not None
    assert (run.peak_bytes, run.bound, run.alone) == (4 * GIB, "exactly", False)


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        ([seen(0, 5), seen(12, 4), seen(19, 5)], "it stayed below what lay there before"),
        ([seen(12, 4)], "nothing is known from before"),
        ([seen(0, 1), seen(15, 7.9)], "it had all there was, and may have been fitted into it"),
    ],
)
def test_a_peak_that_may_not_be_the_jobs_own_is_a_bound(samples: list[ServerSeen], why: str) -> None:
    run = watch(*samples).job_ended(job(20))
    assert run is not None, why
    assert run.bound == "at_most", why


def test_a_job_that_ran_out_needed_more_than_there_was() -> None:
    failed = job(20, None, "error", exception_type="torch.OutOfMemoryError", exception_message="Allocation on device ")
    run = watch(seen(0, 1), sampled(10, 2, others=1.5)).job_ended(failed)
    assert run is not None
    assert (run.bound, run.peak_bytes) == ("at_least", round(6.5 * GIB))


@pytest.mark.parametrize(
    "ended",
    [
        job(20, outcome="interrupted"),
        job(20, outcome="error", exception_type="ValueError", exception_message="sizes do not match"),
        job(20, fresh=False),
        job(20, None),
        job(20, -3.0),
        job(20, float("inf")),
        replace(job(20), ran=None),
        replace(job(20), server="another"),
        job(2000, 3.0),
    ],
)
def test_of_other_jobs_nothing_is_learned(ended: JobEnded) -> None:
    assert watch(seen(0, 1), seen(15, 4)).job_ended(ended) is None


def test_impossible_words_of_a_server_are_not_kept() -> None:
    runs = RunWatch()
    for total, free in ((None, 1), (8, None), (8, 9), (8, -1)):
        runs.server_seen(ServerSeen(at(15), "box", total_bytes=total, free_bytes=free))
    assert runs.job_ended(job(20)) is None


def test_two_servers_on_one_machine_are_not_mixed_up() -> None:
    runs = watch(seen(0, 1), replace(seen(0, 1), server="other"), seen(15, 4), sampled(15, 6))
    run = runs.job_ended(job(20))
    assert run is not None
    assert (run.peak_bytes, run.alone) == (4 * GIB, False)


def test_a_job_of_a_known_workload_says_how_good_its_prediction_was() -> None:
    engine = Engine(RULES, WORKLOADS)
    known = WORKLOADS.named("ddcolor")
    assert known is not None
    need = predict(known, "tiny", 768).process_bytes
    peak = need.mid / GIB
    events = []
    ended = replace(job(20), ran=ran(workflow(768, TINY)))
    for told in (seen(0, 1), sampled(0, 0.5), sampled(15, peak), ended):
        events += engine.feed(told)
    snapshot = Snapshot()
    for event in events:
        snapshot = snapshot.after(event)
    assert snapshot.tallies.peak_bytes == {"ddcolor": round(peak * GIB)}
    assert snapshot.tallies.predicted_bytes == {"ddcolor": round(need.high)}
    assert snapshot.tallies.accuracy["ddcolor"].total == pytest.approx(need.mid / need.high, rel=1e-6)
    assert len(engine.explainer.learned.kinds) == 1
