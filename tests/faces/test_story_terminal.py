"""The whole story in a real terminal: a server's output piped in, its failure, the reason, the fix, and that it held.

The server says what recorded ones said. Its output and its API tell the same failure, which is one on the screen.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faces.terminal import NEEDS_TMUX, Terminal
from tests.standin.comfyui import ComfyUI
from tests.standin.prompts import workflow
from tests.standin.server import Standin, standing

pytestmark = NEEDS_TMUX


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "output"


@pytest.fixture
def standin(log: Path) -> Iterator[Standin]:
    with standing(ComfyUI(log_file=log)) as standin:
        yield standin


def opened(standin: Standin, log: Path, width: int, height: int) -> Terminal:
    """The server's output in a pipe, and its address."""
    screen = [sys.executable, "-m", "gpuwatch.faces.cli", "watch", "-", standin.url, "--no-journal"]
    piped = f"tail -n +1 -f {shlex.quote(str(log))} | {shlex.join(screen)} 2>{shlex.quote(f'{log}.errors')}"
    own = {"GPUWATCH_STATE_DIR": f"{log}.state", "GPUWATCH_CONFIG_DIR": str(log.parent)}
    return Terminal(["sh", "-c", piped], width, height, **own)


@pytest.mark.parametrize(("width", "height"), [(120, 40), (80, 24)])
def test_a_job_runs_out_of_memory_and_is_mended(standin: Standin, log: Path, width: int, height: int) -> None:
    terminal = opened(standin, log, width, height)
    try:
        terminal.until("Nothing wrong so far.", "0 running, 0 waiting", "quit")
        _status, answer = standin.comfyui.submit({"prompt": workflow(1280)})
        terminal.until(
            "GPU memory ran out",
            "DDColor_Colorize at model_input_size 1280",
            "fixes the job; shows the plan first",
        )
        terminal.keys("a")
        terminal.until("Queue the job again like this?", "model_input_size  1280  →  ", "again: queue it in front")
        assert standin.comfyui.executed == [answer["prompt_id"]], "nothing is queued before it is agreed to"
        terminal.keys("a")
        terminal.until("It held: job", "✓ the fix held")
        first, again = standin.comfyui.executed
        assert first == answer["prompt_id"]
        assert standin.comfyui.history[again]["prompt"][2]["3"]["inputs"]["model_input_size"] < 1280
        terminal.keys("J")
        terminal.until("Ended, the newest first", "✓ done", "✗ failed")
        terminal.keys("q")
        terminal.until("ended with 0", absent="Ended, the newest first")
        assert Path(f"{log}.errors").read_bytes() == b"", "the screen is drawn on the terminal, and nothing went wrong"
    finally:
        terminal.close()
