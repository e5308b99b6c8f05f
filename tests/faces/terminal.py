"""A real terminal for tests: a tmux server of its own that draws a program, types at it and reads it back."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60.0
"""Generous: two cores may be busy with other tests."""

NEEDS_TMUX = [
    pytest.mark.tmux,
    pytest.mark.xdist_group("tmux"),  # one at a time: two screens at once make both slow
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]


class Terminal:
    """One window in a tmux server of its own; the command's end leaves the window open, its exit code on the last line."""

    def __init__(self, command: Sequence[str], width: int = 120, height: int = 36, **environment: str) -> None:
        self._server = f"gpuwatch-{uuid.uuid4().hex[:12]}"
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **environment}
        variables.pop("TMUX", None)
        size = ["-x", str(width), "-y", str(height)]
        start = ["tmux", "-u", "-L", self._server, "-f", os.devnull, "new-session", "-d", *size, "-c", str(ROOT)]
        subprocess.run(
            [*start, "sh", "-c", '"$@"; echo ended with $?; exec cat', "sh", *command], env=variables, check=True
        )

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
