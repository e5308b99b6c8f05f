"""A server's log as observations: from the frames it sends, and from the entries it keeps where frames were missed.

Which entries were read before is `LogTail`'s to know. Of a bar that is drawn anew ten times a second only a frame now and then
is taken.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from gpuwatch.adapters.comfyui.logtail import LogTail
from gpuwatch.adapters.comfyui.reading import log_entries
from gpuwatch.core.observations import LogChunk, LogGap, LogRestarted, Observation

_BAR_SECONDS = 0.5
_FAILURE = re.compile(r"!!! Exception during processing !!! [^\r\n]*")
_MOST_FAILURES = 32


class ServerLog:
    """The log of one server."""

    def __init__(self, server: str, place: str | None, clock: Callable[[], datetime]) -> None:
        self._server, self._clock = server, clock
        self._tail = LogTail(place)
        self._bar_at = 0.0
        self.heard = False
        """Whether a frame of it came since this was last set to False."""
        self.failures: list[str] = []
        """The lines that told of failures before we came."""
        self.restarts = 0
        """How often another process was seen to write it."""

    def frame(self, data: Any) -> Iterator[LogChunk]:
        """What a frame tells that is new."""
        self.heard = True
        yield from self.words(self._tail.frame(log_entries(data)), fresh=True)

    def is_redrawn(self, data: Any) -> bool:
        """Whether a frame is only a bar's next one, too soon after the one before; it is then to be left out."""
        entries = data.get("entries") if isinstance(data, dict) else None
        if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
            return False
        words = entries[0].get("m")
        if not isinstance(words, str) or not words.startswith("\r") or "%|" not in words or "\n" in words:
            return False
        self.heard = True
        now = time.monotonic()
        if now - self._bar_at < _BAR_SECONDS:
            return True
        self._bar_at = now
        return False

    def kept(self, answer: Any, *, shows_old: bool, counts_old: bool) -> tuple[list[Observation], bool]:
        """What the kept entries tell that is new, and whether a frame should have told some of it."""
        kept = self._tail.kept(log_entries(answer))
        told: list[Observation] = []
        if kept.restarted:
            self.restarts += 1
            told.append(LogRestarted(self._clock(), self._server))
        if kept.missed:
            told.append(LogGap(self._clock(), self._server, "comfyui"))
        if shows_old:
            told += self.words(kept.old, fresh=counts_old)
            self.failures += _FAILURE.findall(kept.old.decode("utf-8", "replace"))[-_MOST_FAILURES:]
        return [*told, *self.words(kept.new, fresh=True)], kept.overlooked

    def words(self, data: bytes, *, fresh: bool) -> Iterator[LogChunk]:
        """Bytes of the log, where there are any."""
        if data:
            yield LogChunk(self._clock(), self._server, data, "comfyui", fresh, place=self._tail.place)

    def knows(self, answer: Any) -> bool:
        """Whether all of these entries were read, bars apart."""
        return self._tail.knows(log_entries(answer))
