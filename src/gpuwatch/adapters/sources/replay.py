"""A recording, played as if it happened now: the demo, and tests of what only time shows.

It plays what was recorded and makes nothing up. Played faster, the observations come sooner but keep their recorded times
between them, so a failure that took three seconds still took three seconds.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.recording import read_recording
from gpuwatch.adapters.sources import Emit
from gpuwatch.core.observations import SourceKind
from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, text


class ReplaySource:
    """Plays a recording at `speed` times its own pace; at 0 or infinity without any pause."""

    kind: SourceKind = "replay"

    def __init__(
        self,
        path: str | Path,
        speed: float = 1.0,
        name: str | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if math.isnan(speed) or speed < 0:
            raise UsageError(
                text("{speed}: is no speed to play a recording at.", speed=speed),
                text("Use 1 for its own pace, 10 for ten times as fast, 0 for no pause at all."),
            )
        self._entries = list(read_recording(path))
        self._speed = speed or math.inf
        self._clock = clock
        self.name = name or Path(path).name.partition(".")[0]

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Play to the end or until told to stop."""
        started_at, started = self._clock(), time.monotonic()
        for after_seconds, observation in self._entries:
            due = started + after_seconds / self._speed
            if stop.wait(max(0.0, due - time.monotonic())):
                return text("stopped")
            if not emit(replace(observation, at=started_at + timedelta(seconds=after_seconds))):
                return text("stopped")
        return text("the recording ended")
