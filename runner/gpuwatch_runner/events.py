"""The runner's voice on stdout: JSON Lines, one event a line, and nothing else.

The channel takes stdout for itself and points descriptor 1 at stderr, so that a line printed by a library cannot end up
between two events.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from gpuwatch.texts import Text


class Channel:
    """Writes events; each is on its way before `say` returns. A reader that went away shows as BrokenPipeError."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, event: str, **fields: Any) -> None:
        """Write one event. A field may be a Text, and becomes `{"template", "values"}`."""
        # In ASCII: a path's name need not be UTF-8, and such a line would be no JSON.
        line = json.dumps({"event": event, **fields}, allow_nan=False, default=_as_json)
        self._stream.write(line + "\n")
        self._stream.flush()

    def hush(self) -> None:
        """Send what is left to nowhere, so that leaving does not fail on a reader that went away."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def take_stdout() -> Channel:
    """Make the channel on stdout; from then on whatever else is printed goes to stderr."""
    sys.stdout.flush()
    private = os.dup(1)
    os.dup2(2, 1)
    return Channel(os.fdopen(private, "w", encoding="utf-8", errors="surrogateescape", newline="\n"))


def narrate(words: Text | str) -> None:
    """Tell a person, on stderr."""
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - the runner's narration


def as_values(words: Text) -> dict[str, Any]:
    """A Text as JSON: its template and its values, of which those that JSON has no type for become strings."""
    return {"template": words.template, "values": {name: _plain(value) for name, value in words.values.items()}}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _as_json(value: Any) -> Any:
    if isinstance(value, Text):
        return as_values(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)
