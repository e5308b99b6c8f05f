"""Runs the runner as a child process and reads its events, so that torch never enters gpuwatch's own process.

A crash, an allocation gone wrong or a missing library then ends the child and becomes an error here. What the events
mean is left to the caller; only `error` is acted on, since every caller would do the same.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Thread
from types import MappingProxyType, TracebackType
from typing import Any, Self

from gpuwatch.errors import GpuwatchError, JobError, UnreachableError, UsageError
from gpuwatch.texts import Text, plain, text

Event = dict[str, Any]
"""One line of the child's stdout: `event` is its kind (started, stage, image, failed, report), the rest its fields."""

STOP_SECONDS = 5.0
LAST_LINES = 5

_ERRORS: Mapping[int, type[GpuwatchError]] = {
    error.exit_code: error for error in (UsageError, UnreachableError, JobError)
}
_MISSING = "No module named"


class RunnerProcess:
    """A running child: iterate over it for its events, use it as a context manager to be sure that it ends.

    Iterating raises the error that the child reported, or JobError where it died without a report. A report is the last
    event; inputs that could not be read are in it, and are no error.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        narrate: Callable[[str], None] | None = None,
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start `python -m gpuwatch_runner` with `arguments`.

        `narrate` is called with each line of the child's stderr, from a thread of this object's own.
        """
        self._narrate = narrate
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.report: Event | None = None
        """The report, once it has come."""
        try:
            self._child = subprocess.Popen(
                [python, "-m", "gpuwatch_runner", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=None if environment is None else dict(environment),
            )
        except OSError as error:
            reason = plain(error.strerror or str(error))
            raise JobError(text("The runner cannot be started: {reason}", reason=reason)) from error
        self._listener = Thread(target=self._listen, name="runner-stderr", daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        """Yield events until the child ends; ends the child if the caller stops early."""
        assert self._child.stdout is not None  # noqa: S101 - opened as a pipe
        try:
            for line in self._child.stdout:
                event = self._read(line)
                if event is None:
                    continue
                if event["event"] == "error":
                    with suppress(subprocess.TimeoutExpired):
                        self._child.wait(STOP_SECONDS)
                    raise error_of(event)
                if event["event"] == "report":
                    self.report = event
                yield event
            code = self._child.wait()
        finally:
            self.close()
        if self.report is None:
            raise self._death(code)

    @property
    def pid(self) -> int:
        """The child's process id, to find its memory among the device's."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """The child's exit code; negative where a signal ended it; None while it runs."""
        return self._child.poll()

    def close(self) -> None:
        """End the child if it runs: asked first, so that no half-written file stays, then killed."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._listener.join(STOP_SECONDS)
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.close()

    def _listen(self) -> None:
        assert self._child.stderr is not None  # noqa: S101 - opened as a pipe
        for raw in self._child.stderr:
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if line.strip():
                self._last_lines.append(line)
            if self._narrate is not None:
                self._narrate(line)

    def _read(self, line: bytes) -> Event | None:
        """Read an event. A line that is none is shown with the narration: it is a library's, and not worth a failed run."""
        with suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                return event
        stray = line.decode("utf-8", "replace").rstrip()
        if stray and self._narrate is not None:
            self._narrate(stray)
        return None

    def _death(self, code: int) -> GpuwatchError:
        last = plain(" | ".join(self._last_lines) or "-")
        if code > 0 and any(_MISSING in line for line in self._last_lines):
            return UsageError(
                text("The runner cannot start: {last_lines}", last_lines=last), plain('pip install "gpuwatch[runner]"')
            )
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            hint = text("SIGKILL is often the kernel's: host memory ran out") if name == "SIGKILL" else None
            return JobError(
                text("The runner was ended by {signal} before its report: {last_lines}", signal=name, last_lines=last),
                hint,
            )
        return JobError(
            text("The runner ended with code {code} before its report: {last_lines}", code=code, last_lines=last)
        )


def error_of(event: Mapping[str, Any]) -> GpuwatchError:
    """The error that an `error` event reports, its words still to be put into a language."""
    kind = _ERRORS.get(event.get("exit_code", JobError.exit_code), JobError)
    message = text_of(event.get("message")) or plain("?")
    return kind(message, text_of(event.get("hint")))


def text_of(words: Any) -> Text | None:
    """The Text in an event's field, `{"template", "values"}`; None where there is none."""
    if not isinstance(words, Mapping) or not isinstance(words.get("template"), str):
        return None
    values = words.get("values")
    return Text(words["template"], MappingProxyType(dict(values) if isinstance(values, Mapping) else {}))
