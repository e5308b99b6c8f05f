"""What a program without a screen says on stderr as it goes: words for a person, or JSON lines for journald, Loki and the like.

A JSON line has `time`, `level`, `event`, `message` and what else the event has; the message is in the language asked for,
every other word is the same in all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, Protocol

from gpuwatch.adapters.clock import utc_now
from gpuwatch.faces.report import json_line
from gpuwatch.texts import Text, render, visible

Level = Literal["info", "warning", "error", "critical"]


class Narrate(Protocol):
    """Says one thing."""

    def __call__(self, words: Text, /, *, event: str = "note", level: Level = "info", **fields: Any) -> None:
        """Say it."""


def in_words(words: Text, /, *, event: str = "note", level: Level = "info", **fields: Any) -> None:
    """For a person: the sentence. A failure is told on stdout, in full, and not again here."""
    del level, fields
    if event != "failure":
        print(visible(render(words)), file=sys.stderr, flush=True)


def in_json(clock: Callable[[], datetime] = utc_now) -> Narrate:
    """For a program: one object a line."""

    def say(words: Text, /, *, event: str = "note", level: Level = "info", **fields: Any) -> None:
        told = {"time": clock().isoformat(), "level": level, "event": event, "message": render(words), **fields}
        print(json_line(told), file=sys.stderr, flush=True)

    return say
