"""Recordings on a real terminal, the demo's too: the screen stands first; what is no recording is told below it."""

from __future__ import annotations

import sys
from pathlib import Path

from gpuwatch.adapters.recording import write_recording
from gpuwatch.core.observations import LogChunk
from tests.adapters.test_journal import AT
from tests.faces.terminal import NEEDS_TMUX, Terminal
from tests.faces.tui_story import FAILURES

pytestmark = NEEDS_TMUX
GPUWATCH = [sys.executable, "-m", "gpuwatch.faces.cli"]


def test_a_recording_is_played_on_the_screen(tmp_path: Path) -> None:
    file = tmp_path / "night.jsonl.gz"
    write_recording(file, [(0.0, LogChunk(AT, "log", FAILURES)), (9e4, LogChunk(AT, "log", b"a day later\n"))])
    opened = Terminal([*GPUWATCH, "replay", str(file)], 100, 30, GPUWATCH_STATE_DIR=str(tmp_path))
    try:
        opened.until("A recording, played at its times.", "layer 59")
        opened.keys("q")
        opened.until("ended with 0")
    finally:
        opened.close()


def test_what_is_no_recording_is_told_below_the_screen(tmp_path: Path) -> None:
    file = tmp_path / "torn.jsonl"
    file.write_text('{"gpuwatch_recording": 1}\n{"after_seconds": 0, "observation": "Wish"}\n')
    opened = Terminal([*GPUWATCH, "replay", str(file)], 100, 30, GPUWATCH_STATE_DIR=str(tmp_path))
    try:
        opened.until("Known are: FixTried", "ended with 2", absent="Starting")
    finally:
        opened.close()


def test_the_demo_is_played_on_the_screen_and_leaves_nothing_behind(tmp_path: Path) -> None:
    state, scratch = tmp_path / "state", tmp_path / "scratch"
    scratch.mkdir()
    opened = Terminal([*GPUWATCH, "demo"], 100, 30, GPUWATCH_STATE_DIR=str(state), TMPDIR=str(scratch))
    try:
        opened.until("A recorded session, played fast", "ran out")
        opened.keys("q")
        opened.until("ended with 0")
    finally:
        opened.close()
    assert list(scratch.glob("gpuwatch-demo-*")) == []
