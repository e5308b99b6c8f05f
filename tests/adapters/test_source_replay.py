"""A recording plays at its pace, and its observations keep the time between them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpuwatch.adapters.recording import write_recording
from gpuwatch.adapters.sources.replay import ReplaySource
from gpuwatch.core.observations import LogChunk, Tick
from gpuwatch.errors import UsageError
from tests.adapters.watching import Watched

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "an-oom.jsonl.gz"
    chunk = LogChunk(NOON, "comfyui.log", b"one\n", "file", fresh=False)
    write_recording(path, [(0.0, Tick(NOON)), (60.0, chunk), (90.0, Tick(NOON))])
    return path


@pytest.mark.parametrize("speed", [0, math.inf, 1e6])
def test_played_fast_it_keeps_its_own_times(recording: Path, speed: float) -> None:
    source = ReplaySource(recording, speed, clock=lambda: NOON)
    assert (source.name, source.kind) == ("an-oom", "replay")
    with Watched(source) as watched:
        assert str(watched.ended()) == "the recording ended"
    assert [each.at - NOON for each in watched.observations] == [timedelta(seconds=after) for after in (0, 60, 90)]


def test_a_log_keeps_its_own_name_and_kind(recording: Path) -> None:
    with Watched(ReplaySource(str(recording), 0, name="demo", clock=lambda: NOON)) as watched:
        watched.ended()
    assert watched.observations[1] == LogChunk(NOON + timedelta(seconds=60), "comfyui.log", b"one\n", fresh=False)


def test_it_waits_as_long_as_was_recorded_divided_by_the_speed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_recording(path, [(number / 2, Tick(NOON)) for number in range(5)])
    with Watched(ReplaySource(path, 10)) as watched:
        watched.ended()
    first, *later = watched.arrived_seconds
    for number, arrived in enumerate(later, start=1):
        assert arrived - first >= number / 20 - 0.02  # a busy machine may be late, never early


def test_it_can_be_played_again_and_stopped_while_it_waits(recording: Path) -> None:
    source = ReplaySource(recording)
    for _ in range(2):
        with Watched(source) as watched:
            watched.until(lambda watched=watched: bool(watched.observations))
        assert str(watched.reason) == "stopped"
        assert len(watched.observations) == 1


@pytest.mark.parametrize("speed", [-1, math.nan])
def test_a_speed_that_is_none_is_refused(recording: Path, speed: float) -> None:
    with pytest.raises(UsageError, match="is no speed"):
        ReplaySource(recording, speed)


def test_a_broken_recording_is_refused_before_it_plays(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}")
    with pytest.raises(UsageError, match=r"a\.jsonl:1"):
        ReplaySource(path)
