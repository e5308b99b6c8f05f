"""Events in, one immutable picture out."""

from __future__ import annotations

from datetime import UTC, datetime

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.events import FailureCounted, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import GpuSample, RunEvent, SourceDown, SourceUp
from gpuwatch.core.snapshot import MOST_INCIDENTS, Snapshot
from gpuwatch.texts import text

AT = datetime(2026, 11, 21, tzinfo=UTC)
RULE = load_rules().by_id["cuda-oom-native"]


def incident(name: str, state: str = "open") -> Incident:
    return Incident(name, "log", RULE, "cuda_oom", state, 1, "words", AT, AT)  # type: ignore[arg-type]  # a state's name


def test_a_snapshot_never_changes() -> None:
    before = Snapshot()
    after = before.after(IncidentChanged(AT, incident("a")))
    assert not before.incidents
    assert list(after.incidents) == ["a"]


def test_the_same_id_again_replaces_and_keeps_its_place() -> None:
    snapshot = Snapshot()
    for each in (incident("a"), incident("b"), incident("a", "cleared")):
        snapshot = snapshot.after(IncidentChanged(AT, each))
    assert [(each.id, each.state) for each in snapshot.incidents.values()] == [("a", "cleared"), ("b", "open")]
    assert snapshot.standing["cuda_oom"] == 1


def test_incidents_are_bounded_and_what_stands_stays() -> None:
    snapshot = Snapshot().after(IncidentChanged(AT, incident("stands")))
    for number in range(MOST_INCIDENTS + 50):
        snapshot = snapshot.after(IncidentChanged(AT, incident(f"over-{number}", "cleared")))
    assert len(snapshot.incidents) == MOST_INCIDENTS
    assert "stands" in snapshot.incidents


def test_only_what_is_new_is_counted() -> None:
    snapshot = Snapshot()
    for fresh in (True, False, True):
        snapshot = snapshot.after(FailureCounted(AT, "a", "cuda_oom", "error", 2, fresh))
    assert snapshot.failures_total == {("cuda_oom", "error"): 4}


def test_gpu_samples_are_kept_within_bounds() -> None:
    snapshot = Snapshot()
    for used in range(1000):
        snapshot = snapshot.after(GpuSample(AT, "GPU-1", 0, "card", used_bytes=used))
    samples = snapshot.gpus["GPU-1"]
    assert (len(samples), samples[-1].used_bytes) == (300, 999)


def test_a_source_that_ends_says_why() -> None:
    snapshot = (
        Snapshot().after(SourceUp(AT, "log", "file")).after(SourceDown(AT, "log", "file", text("gone"), failed=True))
    )
    assert (snapshot.sources["log"].state, str(snapshot.sources["log"].reason)) == ("failed", "gone")


def test_a_run_is_followed_to_its_report() -> None:
    snapshot = Snapshot()
    for event in (
        {"event": "started", "images": 2, "device": "cpu"},
        {"event": "image", "done": 1},
        {"event": "report", "images": 2},
    ):
        snapshot = snapshot.after(RunEvent(AT, event))
    assert snapshot.run is not None
    assert (snapshot.run.stage, snapshot.run.report) == ("done", {"event": "report", "images": 2})
