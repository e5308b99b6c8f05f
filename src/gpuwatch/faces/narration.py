"""What a program without a screen says as it goes: words for a person, or JSON lines for journald, Loki and the like.

A JSON line has `time`, `level`, `event`, `message` and what else the event has; the message is in the language asked for,
every other word is the same in all. A stream that is systemd's journal gets each line with its priority in front, which the
journal takes away again: `journalctl -p err` then shows what is one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import IO, Any, Literal, Protocol

from gpuwatch.adapters.clock import utc_now
from gpuwatch.errors import GpuwatchError
from gpuwatch.faces.options import LOG_FORMAT
from gpuwatch.faces.report import json_line
from gpuwatch.texts import Text, render, visible

Level = Literal["info", "warning", "error", "critical"]
_PRIORITIES: dict[Level, int] = {"critical": 2, "error": 3, "warning": 4, "info": 6}
"""Those of syslog, as sd-daemon(3) has them."""
_LONGEST = 4096
"""Characters of one value: the journal cuts a line of 48 KiB."""


class Narrate(Protocol):
    """Says one thing."""

    def __call__(self, words: Text, /, *, event: str = "note", level: Level = "info", **fields: Any) -> None:
        """Say it."""


def narrator(log_format: str) -> Narrate:
    """Who speaks on stderr, in the form that was asked for."""
    return in_json() if log_format == "json" else in_words


def in_words(words: Text, /, *, event: str = "note", level: Level = "info", **fields: Any) -> None:
    """For a person: the sentence. A failure is told on stdout, in full; the journal alone gets it here, too, by its priority."""
    del fields
    if event != "failure" or to_journal(sys.stderr):
        say_line(visible(render(words)), sys.stderr, level)


def in_json(clock: Callable[[], datetime] = utc_now) -> Narrate:
    """For a program: one object a line."""

    def say(words: Text, /, *, event: str = "note", level: Level = "info", **fields: Any) -> None:
        told = {"time": clock().isoformat(), "level": level, "event": event, "message": render(words), **fields}
        cut = {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in told.items()}
        say_line(json_line(cut), sys.stderr, level)

    return say


def say_error(error: GpuwatchError, arguments: Sequence[str]) -> bool:
    """Say what ended the program as a JSON line; False where nobody asked for those."""
    asked = (LOG_FORMAT, "json") in pairwise(arguments) or f"{LOG_FORMAT}=json" in arguments
    if asked:
        hint = None if error.hint is None else render(error.hint)
        in_json()(error.message, event="ended", level="error", hint=hint, exit_code=error.exit_code)
    return asked


def say_line(words: str, stream: IO[str], level: Level = "info") -> None:
    """Print words, each line with its priority where the stream is the journal."""
    prefix = f"<{_PRIORITIES[level]}>" if to_journal(stream) else ""
    for line in words.splitlines() or [""]:
        print(f"{prefix}{line}", file=stream, flush=True)


def to_journal(stream: IO[str]) -> bool:
    """Whether the stream is systemd's journal: JOURNAL_STREAM names the device and the inode of the one that is."""
    device, colon, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not colon or not (device.isdecimal() and inode.isdecimal()):
        return False
    try:
        told = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (told.st_dev, told.st_ino) == (int(device), int(inode))
