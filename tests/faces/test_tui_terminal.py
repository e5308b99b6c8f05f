"""The screen in a real terminal: tmux draws it, types at it and reads it back."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faces.terminal import DEADLINE_SECONDS, NEEDS_TMUX, Terminal
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


def test_a_small_terminal_grows(log: Path) -> None:
    opened = watch(log, 20, 5)
    try:
        opened.until("✖ A ke")
        opened.tmux("resize-window", "-x", "120", "-y", "40")
        opened.until("The process is poisoned.", "layer 59", "turn the page", "quit")
        (program,) = psutil.Process(int(opened.tmux("display-message", "-p", "#{pane_pid}"))).children()
    finally:
        opened.close()
    assert not psutil.wait_procs([program], DEADLINE_SECONDS)[1], "it goes with its terminal"


def test_ctrl_z_gives_the_shell_back_and_fg_the_screen(log: Path) -> None:
    opened = Terminal(["bash", "--norc", "-i"], 100, 30)
    try:
        opened.keys(f"{shlex.quote(sys.executable)} -m tests.faces.tui_script {shlex.quote(str(log))}", "Enter")
        opened.until("The process is poisoned.", "layer 59", "quit")
        opened.keys("C-z")
        opened.until("Stopped", absent="layer 59")
        opened.keys("fg", "Enter")
        opened.until("The process is poisoned.", "layer 59", "turn the page", "quit", absent="Stopped")
        opened.keys("q")
        opened.until("the screen is gone", absent="layer 59")
    finally:
        opened.close()


def test_rules_that_cannot_be_read_end_the_screen_and_are_told_below_it(log: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("id: mine\nlabel: no_such_label\n")
    words = [sys.executable, "-m", "gpuwatch.faces.cli", "watch", str(log), "--rules", str(tmp_path)]
    opened = Terminal(words, 100, 30, GPUWATCH_STATE_DIR=str(tmp_path / "state"))
    try:
        opened.until("mine.yaml:", "gpuwatch rules new", "ended with 2", absent="turn the page")
        assert opened.tmux("display-message", "-p", "#{alternate_on}#{mouse_any_flag}#{cursor_flag}") == "001\n"
    finally:
        opened.close()


def test_a_terminal_that_is_dumb_gets_lines(log: Path) -> None:
    opened = Terminal(["env", "TERM=dumb", sys.executable, "-m", "gpuwatch.faces.cli", "watch", str(log)], 100, 30)
    try:
        opened.until("illegal memory access", absent="turn the page")
    finally:
        opened.close()


def test_the_screen_stands_where_standard_error_goes_to_a_file(log: Path, tmp_path: Path) -> None:
    python, errors = shlex.quote(sys.executable), tmp_path / "errors"
    opened = Terminal(["sh", "-c", f"{python} -m tests.faces.tui_script {log} 2>{errors}"], 100, 30)
    try:
        opened.until("The process is poisoned.", "layer 59", "quit")
        opened.keys("q")
        opened.until("the screen is gone", "ended with 0", absent="layer 59")
        assert errors.read_bytes() == b""
    finally:
        opened.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_it_gives_the_terminal_back(log: Path, number: signal.Signals) -> None:
    opened = watch(log, 100, 30)
    try:
        opened.until("The process is poisoned.", "quit")
        assert opened.tmux("display-message", "-p", "#{alternate_on}#{mouse_any_flag}") == "11\n"
        (shell,) = psutil.Process(int(opened.tmux("display-message", "-p", "#{pane_pid}"))).children()
        shell.send_signal(number)
        opened.until("the screen is gone", absent="Failures")
        assert opened.tmux("display-message", "-p", "#{alternate_on}#{mouse_any_flag}#{cursor_flag}") == "001\n"
    finally:
        opened.close()
