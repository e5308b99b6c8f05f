"""Between the pipeline's thread and the screen's: gathers what happened until the screen has time for it.

The pipeline never waits here. One message at most is under way to the screen, however much is read. The log's lines do not
pass through here: the book takes them as they are read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gpuwatch.core.events import Event, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import Tick
from gpuwatch.core.snapshot import Snapshot

_QUIET = timedelta(seconds=2)
"""While nothing but time passes, the screen looks this often: as often as the machine is sampled, so that it wakes once."""


@dataclass(slots=True)
class News:
    """What happened since the screen last looked."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    incidents: dict[str, Incident] = field(default_factory=dict)


class Feed:
    """A pipeline's listener."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._news = News()
        self._told = False
        self._told_at: datetime | None = None

    def __call__(self, events: Sequence[Event], snapshot: Snapshot) -> None:
        """Take what happened; on the pipeline's thread."""
        with self._lock:
            news = self._news
            news.snapshot = snapshot
            for event in events:
                if isinstance(event, IncidentChanged):
                    news.incidents[event.incident.id] = event.incident
            if self._may_wait(snapshot.at) and all(isinstance(event, Tick) for event in events):
                return
            self._told_at = snapshot.at
            told, self._told = self._told, True
        if not told:
            self._wake()

    def _may_wait(self, at: datetime | None) -> bool:
        return self._told_at is not None and at is not None and timedelta(0) <= at - self._told_at < _QUIET

    def take(self) -> News:
        """What happened since the last call; on the screen's thread."""
        with self._lock:
            news, self._news, self._told = self._news, News(self._news.snapshot), False
        return news
