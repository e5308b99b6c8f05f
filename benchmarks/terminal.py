"""A program in a real pseudo-terminal: typed at, read, and measured from outside."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, perf_counter

ROWS, COLUMNS = 40, 140
_DEADLINE_SECONDS = 240.0


class Screen:
    """A program in a pseudo-terminal. What a key did is looked for in what the program writes there."""

    def __init__(self, command: Sequence[str], stdin: int | None = None, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        variables = {
            **os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8", **environment,
        }  # fmt: skip
        self.started = perf_counter()
        self.process = subprocess.Popen(
            command,
            stdin=slave if stdin is None else stdin, stdout=slave, stderr=slave, env=variables,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0) and None,  # noqa: PLW1509 - nothing else takes a terminal
        )  # fmt: skip
        os.close(slave)
        self._seen = bytearray()
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:
                return
            if not data:
                return
            with self._news:
                self._seen += data
                if len(self._seen) > 1 << 20:
                    del self._seen[: 1 << 19]
                self._news.notify_all()

    def type(self, words: str) -> None:
        """Press keys."""
        os.write(self._master, words.encode())

    def until(self, words: str) -> float:
        """When the words were drawn."""
        wanted, deadline = words.encode(), monotonic() + _DEADLINE_SECONDS
        with self._news:
            while wanted not in self._seen:
                if not self._news.wait(deadline - monotonic()):
                    raise SystemExit(f"the screen never showed {words!r}")
            return perf_counter()

    def forget(self) -> None:
        """Look only at what comes from now on."""
        with self._news:
            self._seen.clear()

    @property
    def rss_bytes(self) -> int:
        """What it holds in memory now."""
        return self._status("VmRSS:")

    @property
    def own_bytes(self) -> int:
        """Of it what is its own: without the pages of files that it has mapped."""
        return self._status("RssAnon:")

    def _status(self, key: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(key))

    @property
    def cpu_seconds(self) -> float:
        """What it has cost so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)
