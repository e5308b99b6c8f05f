"""A child process whose output is the log: `cmd:python main.py`.

It is started from a list of words, never through a shell, in a session of its own, so that the keys of gpuwatch's screen do
not reach it and ending it ends its own children too. Its environment is ours, untouched.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.sources import Emit
from gpuwatch.adapters.sources.stdin import pipe_chunks
from gpuwatch.core.observations import LogChunk, SourceKind
from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, text

_LONGEST_NAME = 40
_POLITE_SECONDS = 3.0
_ORPHAN_SECONDS = 1.0
_LOOK_SECONDS = 0.05


class ProcessSource:
    """Starts a command and reads what it prints, on either stream, until it ends."""

    kind: SourceKind = "cmd"

    def __init__(
        self, argv: Sequence[str], name: str | None = None, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._argv = tuple(argv)
        self._clock = clock
        if not self._argv:
            raise UsageError(text("cmd: needs a command."), text("Write it after the colon: cmd:python main.py"))
        if shutil.which(self._argv[0]) is None:
            raise UsageError(
                text("{command}: there is no such command.", command=self._argv[0]),
                text("No shell reads it: write cmd:env NAME=VALUE ... for variables, cmd:sh -c '...' for the rest."),
            )
        self.name = name or _name(self._argv)

    @classmethod
    def from_words(cls, words: str) -> ProcessSource:
        """The source for a command line as a person typed it. Raises UsageError where its quotes do not match."""
        try:
            return cls(shlex.split(words))
        except ValueError as error:
            raise UsageError(
                text("cmd:{words}: the quotes do not match.", words=words),
                text("Close every quote, or put a backslash before the one that is meant."),
            ) from error

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Run the command to its end; where `stop` is set first, end it: politely, then for good.

        Raises UsageError where it cannot be started.
        """
        try:
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise UsageError(
                text("{command}: cannot be started: {error}", command=self.name, error=error.strerror or str(error)),
                text("Try the command by itself in a terminal."),
            ) from error
        with process:
            try:
                if self._deliver(process, emit, stop):
                    return self._ending(process, stop)
            finally:
                _end(process)
        return text("stopped")

    def _deliver(self, process: subprocess.Popen[bytes], emit: Emit, stop: threading.Event) -> bool:
        """Hand on what it prints; whether that came to its end."""
        assert process.stdout is not None  # noqa: S101 - it was asked for
        quiet_since = time.monotonic()
        for data in pipe_chunks(process.stdout.fileno(), stop):
            if data:
                quiet_since = time.monotonic()
                if not emit(LogChunk(self._clock(), self.name, data, self.kind)):
                    return False
            elif time.monotonic() - quiet_since >= _ORPHAN_SECONDS and process.poll() is not None:
                return True  # it is gone; what it left running keeps the pipe open and has nothing to say
        return not stop.is_set()

    def _ending(self, process: subprocess.Popen[bytes], stop: threading.Event) -> Text:
        while process.poll() is None:  # it closed its output and works on
            if stop.wait(_LOOK_SECONDS):
                return text("stopped")
        code = process.returncode
        if code >= 0:
            return text("{command} ended with exit code {code}", command=self.name, code=code)
        return text("{command} was ended by {signal}", command=self.name, signal=_signal_name(-code))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and its children where it still runs.

    It is not reaped before the last signal: until then the number of its group cannot have become another's.
    """
    if process.returncode is not None:
        return
    assert process.stdout is not None  # noqa: S101 - it was asked for
    deadline = time.monotonic() + _POLITE_SECONDS
    never = threading.Event()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        for data in pipe_chunks(process.stdout.fileno(), never):  # a full pipe would keep it from ending
            if time.monotonic() >= deadline or (not data and _has_ended(process.pid)):
                break
        while time.monotonic() < deadline and not _has_ended(process.pid):
            never.wait(_LOOK_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _name(argv: Sequence[str]) -> str:
    words = shlex.join((Path(argv[0]).name, *argv[1:]))
    return words if len(words) <= _LONGEST_NAME else words[: _LONGEST_NAME - 1] + "…"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
