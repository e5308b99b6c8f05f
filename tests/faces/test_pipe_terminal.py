"""A pipe into gpuwatch in a real terminal: the screen is drawn, keys work, quitting ends the producer."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

LOG = Path(__file__).parents[1] / "data" / "recordings" / "comfyui-0.24.0-oom_large_1280-stderr.log"
DEADLINE_SECONDS = 60
pytestmark = [
    pytest.mark.tmux,
    pytest.mark.xdist_group("tmux"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


class Terminal:
    """A terminal of its own tmux server."""

    def __init__(self, command: str) -> None:
        self._socket = f"gpuwatch-{uuid.uuid4().hex[:8]}"
        environment = {**os.environ, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        self._tmux(
            "-f",
            os.devnull,
            "new-session",
            "-d",
            "-x",
            "120",
            "-y",
            "36",
            f"{command}; echo ended with $?; exec cat",
            env=environment,
        )

    def _tmux(self, *words: str, env: dict[str, str] | None = None) -> str:
        return subprocess.run(
            ["tmux", "-u", "-L", self._socket, *words], check=True, capture_output=True, text=True, env=env
        ).stdout

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def until(self, words: str) -> str:
        """The screen once it shows the words; fails with the last screen where it never does."""
        end = time.monotonic() + DEADLINE_SECONDS
        while words not in (shown := self.screen()):
            assert time.monotonic() < end, f"never saw {words!r} in:\n{shown}"
        return shown

    def close(self) -> None:
        self._tmux("kill-server")


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
    python = shlex.quote(sys.executable)
    opened = Terminal(
        f"sh -c '{python} {producer} 2>{tmp_path}/producer.err | {python} -m gpuwatch.faces.cli'; cat {tmp_path}/producer.err"
    )
    yield opened
    opened.close()


def test_a_piped_log_is_a_screen_with_live_keys(terminal: Terminal) -> None:
    terminal.until("GPU memory ran out")
    terminal.until("tick")
    terminal.press("?")
    terminal.until("next failure")
    terminal.press("Escape")
    terminal.press("l")
    terminal.until("显存不足")
    terminal.press("q")
    shown = terminal.until("ended with")
    assert "ended with 0" in shown
    assert "Broken pipe" in shown.replace("BrokenPipeError", "Broken pipe")
