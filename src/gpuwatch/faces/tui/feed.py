"""Between the pipeline's thread and the screen's: gathers what happened until the screen has time for it.

The pipeline never waits here. One message at most is under way to the screen, however much is read.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gpuwatch.core.engine import Event, IncidentChanged, RecordsRead
from gpuwatch.core.incidents import Incident
from gpuwatch.core.records import LogRecord
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.logbook import MOST_ENTRIES


@dataclass(slots=True)
class News:
    """What happened since the screen last looked."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    records: deque[tuple[str, Sequence[LogRecord]]] = field(default_factory=deque)
    incidents: dict[str, Incident] = field(default_factory=dict)
    kept: int = 0
    """Records in `records`."""
    skipped: int = 0
    """Records that came and went before the screen could look."""


class Feed:
    """A pipeline's listener."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._news = News()
        self._told = False

    def __call__(self, events: Sequence[Event], snapshot: Snapshot) -> None:
        """Take what happened; on the pipeline's thread."""
        with self._lock:
            news = self._news
            news.snapshot = snapshot
            for event in events:
                if isinstance(event, RecordsRead):
                    news.records.append((event.source, event.records))
                    news.kept += len(event.records)
                elif isinstance(event, IncidentChanged):
                    news.incidents[event.incident.id] = event.incident
            while len(news.records) > 1 and news.kept - len(news.records[0][1]) >= MOST_ENTRIES:
                _source, gone = news.records.popleft()
                news.kept -= len(gone)
                news.skipped += len(gone)
            told, self._told = self._told, True
        if not told:
            self._wake()

    def take(self) -> News:
        """What happened since the last call; on the screen's thread."""
        with self._lock:
            news, self._news, self._told = self._news, News(self._news.snapshot), False
        return news
