"""The screen in a real terminal: tmux draws it, types at it and reads it back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faces.tui_story import BENIGN, FAILURES, ILLEGAL

pytestmark = [
    pytest.mark.tmux,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]
DEADLINE_SECONDS = 20.0
ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """A tmux server of its own with one window."""

    def __init__(self, log: Path, width: int, height: int, **environment: str) -> None:
        self._server = f"gpuwatch-{uuid.uuid4().hex[:12]}"
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **environment}
        variables.pop("TMUX", None)
        command = [sys.executable, "-m", "tests.faces.tui_script", str(log)]
        size = ["-x", str(width), "-y", str(height)]
        start = ["tmux", "-u", "-L", self._server, "-f", "/dev/null", "new-session", "-d", *size, "-c", str(ROOT)]
        subprocess.run([*start, "sh", "-c", '"$@"; exec cat', "sh", *command], env=variables, check=True)

    def tmux(self, *words: str) -> str:
        """What a tmux command says."""
        run = subprocess.run(["tmux", "-u", "-L", self._server, *words], check=True, capture_output=True)
        return run.stdout.decode("utf-8", "replace")

    def keys(self, *names: str) -> None:
        """Type."""
        self.tmux("send-keys", *names)

    def screen(self) -> str:
        """What stands on the screen."""
        return self.tmux("capture-pane", "-p")

    def until(self, *words: str, absent: str | None = None) -> str:
        """The screen once all the words are on it, and `absent` is not."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            shown = self.screen()
            if all(word in shown for word in words) and (absent is None or absent not in shown):
                return shown
            assert time.monotonic() < deadline, f"never came: {words}\n{shown}"

    def close(self) -> None:
        """End the server and what runs in it."""
        subprocess.run(["tmux", "-L", self._server, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "comfyui.log"
    path.write_bytes(FAILURES)
    return path


@pytest.fixture
def terminal(log: Path) -> Iterator[Terminal]:
    opened = Terminal(log, 100, 30)
    yield opened
    opened.close()


def test_it_explains_follows_and_quits(terminal: Terminal, log: Path) -> None:
    terminal.until("A kernel strayed", "The process is poisoned.", "$ python main.py", "layer 59", "follows")
    terminal.keys("j")
    terminal.until("asked for", "4.00 GiB")
    with log.open("ab") as more:
        more.write(b"a line that came later\n")
    terminal.until("a line that came later")
    terminal.keys("Enter")
    terminal.until("✗ E CUDA out of memory", "f ↓")
    terminal.keys("/", "later", "Enter")
    terminal.until("“later” 1/1", "a line that came later")
    terminal.keys("q")
    terminal.until("the screen is gone", absent="Failures")


def test_hostile_lines_reach_no_real_terminal(terminal: Terminal, log: Path) -> None:
    before = terminal.tmux("display-message", "-p", "#{pane_title}")
    with log.open("ab") as more:
        more.write(b"title \x1b]0;owned\x07 wipe \x1b[2J nul \x00 [red]red[/]\n")
    terminal.until("title ␛]0;owned␇ wipe ␛[2J nul ␀ [red]red[/]", "The process is poisoned.")
    assert "owned" not in terminal.tmux("display-message", "-p", "#{pane_title}").replace(before, "")
    terminal.keys("C-c")
    terminal.until("the screen is gone", absent="Failures")


def test_a_small_window_keeps_the_answer_and_grows_again(log: Path) -> None:
    log.write_bytes(BENIGN)
    terminal = Terminal(log, 80, 24, NO_COLOR="1")
    try:
        terminal.until("Nothing wrong so far.", "layer 59")
        terminal.tmux("resize-window", "-x", "20", "-y", "5")
        terminal.until("Watching", absent="layer 59")
        with log.open("ab") as more:
            more.write(b"got prompt\n" + ILLEGAL)
        terminal.until("Failures")
        terminal.tmux("resize-window", "-x", "120", "-y", "40")
        terminal.until("The process is poisoned.", "illegal memory access", "GPU and machine")
        terminal.keys("q")
        terminal.until("the screen is gone")
    finally:
        terminal.close()
