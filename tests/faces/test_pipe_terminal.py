"""A pipe into gpuwatch in a real terminal: the screen is drawn, keys work, quitting ends the producer."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faces.terminal import NEEDS_TMUX, Terminal

LOG = Path(__file__).parents[1] / "data" / "recordings" / "comfyui-0.24.0-oom_large_1280-stderr.log"
pytestmark = NEEDS_TMUX


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A slow producer that never ends by itself, piped into gpuwatch."""
    producer = tmp_path / "producer.py"
    producer.write_text(
        "import sys, threading\n"
        "pause = threading.Event().wait\n"
        f"for line in open({str(LOG)!r}, 'rb'):\n"
        "    sys.stdout.buffer.write(line); sys.stdout.buffer.flush(); pause(0.002)\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1; print('tick', number, flush=True); pause(0.05)\n"
    )
    python, errors = shlex.quote(sys.executable), tmp_path / "producer.err"
    piped = f"{python} {producer} 2>{errors} | {python} -m gpuwatch.faces.cli; code=$?; cat {errors}; exit $code"
    opened = Terminal(["sh", "-c", piped])
    yield opened
    opened.close()


def test_a_piped_log_is_a_screen_with_live_keys(terminal: Terminal) -> None:
    terminal.until("GPU memory ran out")
    terminal.until("tick")
    terminal.keys("?")
    terminal.until("next failure: here and in the log")
    terminal.keys("Escape")
    terminal.until("tick", absent="next failure: here and in the log")
    terminal.keys("l")
    terminal.until("显存不足")
    terminal.keys("q")
    shown = terminal.until("ended with")
    assert "ended with 0" in shown
    assert "Broken pipe" in shown.replace("BrokenPipeError", "Broken pipe")
