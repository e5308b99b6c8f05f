"""Runs a source as the pipeline does, on a thread of its own, and lets a test wait for what it emits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from gpuwatch.adapters.sources import Source
from gpuwatch.core.observations import LogChunk, LogRestarted, Observation
from gpuwatch.texts import Text

DEADLINE_SECONDS = 20.0


class Watched:
    """A running source; leaving the `with` block stops it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.observations: list[Observation] = []
        self.arrived_seconds: list[float] = []
        self.reason: Text | None = None
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the source did not stop"

    def ended(self) -> Text | None:
        """Wait for the source to end by itself; why it ended."""
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the source did not end"
        if self.error is not None:
            raise self.error
        return self.reason

    def until(self, happened: Callable[[], bool]) -> None:
        """Wait until what was emitted is as the test wants it."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        with self._changed:
            while not happened():
                left_seconds = deadline - time.monotonic()
                assert self._thread.is_alive() or happened(), f"the source ended: {self.reason or self.error}"
                assert left_seconds > 0, f"it did not happen: {self.observations!r:.2000}"
                self._changed.wait(min(left_seconds, 0.02))  # some conditions are not ours to notify

    def until_seen(self, data: bytes) -> None:
        """Wait until these bytes are in the log as it stands since its last restart."""
        self.until(lambda: data in self.lives()[-1])

    def until_lives(self, *lives: bytes) -> None:
        """Wait until the log was restarted so often, and each time said just this."""
        self.until(lambda: self.lives() == list(lives))

    def lives(self) -> list[bytes]:
        """What the log said, one string for each time it began anew."""
        lives = [b""]
        for observation in list(self.observations):
            if isinstance(observation, LogChunk):
                lives[-1] += observation.data
            elif isinstance(observation, LogRestarted):
                lives.append(b"")
        return lives

    def data(self, *, fresh: bool) -> bytes:
        """What was read that counts, or that does not."""
        chunks = [each for each in list(self.observations) if isinstance(each, LogChunk)]
        return b"".join(chunk.data for chunk in chunks if chunk.fresh is fresh)

    def _run(self) -> None:
        try:
            self.reason = self._source.run(self._emit, self._stop)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error
        with self._changed:
            self._changed.notify_all()

    def _emit(self, observation: Observation) -> bool:
        with self._changed:
            self.arrived_seconds.append(time.monotonic())
            self.observations.append(observation)
            self._changed.notify_all()
        return not self._stop.is_set()
