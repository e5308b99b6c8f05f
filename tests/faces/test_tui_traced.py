"""The runner's page: what a run measured, and where the time of its newest trace went."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import RunStatus
from gpuwatch.faces.tui import traced
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.faces.tui.runner_page import runner_page
from gpuwatch.faces.tui.traced import Traced, newest_trace, read
from gpuwatch.texts import render, use
from tests.faces.tui_play import play, screen, until
from tests.faces.tui_story import FAILURES, log, runner, watch

REPORT = {
    "event": "report", "images": 2, "failed": [], "variant": "tiny", "size": 512, "dtype": "fp16", "load_seconds": 1.9,
    "first_seconds": 0.61, "warm_seconds": {"p50": 0.084, "p95": 0.102}, "peak_device_bytes": 2 << 30,
    "predicted": {"process_bytes": {"high": 3 << 30}}, "gflop_per_image": 301.4, "tokens_per_image": 1024,
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(tmp_path / "state"))
    use("en")
    yield tmp_path
    use("en")


def trace(path: Path, *names: str) -> Path:
    """A trace whose stages have these names, and one kernel each."""
    events: list[dict[str, object]] = []
    for place, name in enumerate(names):
        times = {"ph": "X", "ts": place * 1000, "dur": 800}
        events += [
            {**times, "name": name, "cat": "user_annotation", "pid": 10, "tid": 11},
            {**times, "name": f"{name}_kernel", "cat": "kernel", "pid": 0, "tid": 7, "args": {"device": 0}},
        ]
    path.write_text(json.dumps(events))
    return path


def shown(report: dict[str, object], told: Traced | None, width: int = 120) -> str:
    rows = runner_page(Snapshot(run=RunStatus("done", report=report)), width, told)
    return "\n".join("".join(words for words, _ in row.spans).rstrip() for row in rows)


def test_the_page_tells_the_run_and_reads_its_newest_trace_once(
    own_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = trace(own_state / "old.json", "load"), trace(own_state / "new.json", "encoder", "refine")
    read_paths = []
    monkeypatch.setattr(traced, "read", lambda path: read_paths.append(path) or read(path))
    report = {**REPORT, "trace_files": [str(old), str(new), str(own_state / "snapshot.pickle")]}

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await pilot.press("R")
        await until(pilot, lambda: "refine_kernel" in screen(app), "the trace")
        for words in (
            "tiny · 512 · fp16",
            "1,024",
            "102 ms",
            "predicted, at most",
            "2.00 GiB",
            "encoder",
            "trace summary",
        ):
            assert words in screen(app)
        await pilot.press("H", "R")
        await until(pilot, lambda: "refine_kernel" in screen(app), "again")

    play(watch(log(FAILURES), runner({"event": "started", "images": 2}, report)), scene, size=(120, 60))
    assert read_paths == [str(new)]


@pytest.mark.parametrize("width", [20, 80, 300])
def test_no_row_is_wider_than_its_pane(own_state: Path, width: int) -> None:
    told = read(
        str(trace(own_state / "t.json", *(f"stage number {n} of a network with long names" for n in range(30))))
    )
    lines = shown({**REPORT, "trace_files": [told.path]}, told, width).splitlines()
    assert "and 18 more" in "\n".join(lines)
    assert max(map(len, lines)) <= max(width, 48)


def test_a_trace_that_is_too_long_is_left_to_the_command(own_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = trace(own_state / "it's long.json", "encoder")
    monkeypatch.setattr(traced, "LONGEST_BYTES", 10)
    told = read(str(path))
    assert told.summary is None
    assert not told.under_way
    page = shown({**REPORT, "trace_files": [told.path]}, told, 300)
    assert "this reads it" in page
    assert f"gpuwatch trace summary '{own_state}/it'\"'\"'s long.json'" in page


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"not json", "neither a JSON trace"), (b"\x80\x04.", "is a memory snapshot")],
)
def test_a_file_that_is_no_trace_is_told(own_state: Path, content: bytes | None, words: str) -> None:
    path = own_state / "t.json"
    if content is not None:
        path.write_bytes(content)
    told = read(str(path))
    assert told.trouble is not None
    assert words in render(told.trouble)
    assert "gpuwatch trace summary" in shown({}, told)


def test_a_damaged_trace_tells_what_came_before(own_state: Path) -> None:
    path = trace(own_state / "t.json", "encoder", "refine")
    path.write_bytes(path.read_bytes()[:-150])
    told = read(str(path))
    assert told.summary is not None
    assert told.trouble is not None
    assert "encoder" in shown({}, told)


def test_hostile_reports_and_names_are_drawn_harmlessly(own_state: Path) -> None:
    report: dict[str, object] = {
        "warm_seconds": 5, "predicted": [], "load_seconds": True, "size": "\x1b[2J", "trace_files": [None, 3, "\x1b]0;x\x07.json"]
    }  # fmt: skip
    path = newest_trace(report)
    assert path is not None
    page = shown(report, Traced(path))
    assert "\x1b" not in page
    assert "load" not in page
    assert "\x1b" not in shown({}, read(str(trace(own_state / "t.json", "\x1b[2Jevil"))))
    assert newest_trace({"trace_files": "t.json"}) is None
