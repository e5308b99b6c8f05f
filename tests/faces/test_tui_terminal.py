"""The screen in a real terminal: tmux draws it, types at it and reads it back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faces.terminal import NEEDS_TMUX, Terminal
from tests.faces.tui_story import FAILURES

pytestmark = NEEDS_TMUX


def watch(log: Path, width: int, height: int, **environment: str) -> Terminal:
    return Terminal([sys.executable, "-m", "tests.faces.tui_script", str(log)], width, height, **environment)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "comfyui.log"
    path.write_bytes(FAILURES)
    return path


@pytest.fixture
def terminal(log: Path) -> Iterator[Terminal]:
    opened = watch(log, 100, 30)
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
