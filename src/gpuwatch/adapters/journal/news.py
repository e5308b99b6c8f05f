"""Tells the pipeline what others wrote into the journal, and how the journal does. Runs beside the sources."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.journal.fixes import FixLedger
from gpuwatch.adapters.journal.writing import Journal
from gpuwatch.core.observations import FixTried, JournalSeen

POLL_SECONDS = 2.0


class JournalNews:
    """Looks at a journal every two seconds: one stat and one query by its key."""

    name = "journal"

    def __init__(
        self, ledger: FixLedger, journal: Journal | None = None, *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """`journal`: where this gpuwatch is the one that keeps it."""
        self._ledger, self._journal, self._clock = ledger, journal, clock
        self._seen: JournalSeen | None = None

    def run(self, emit: Callable[[FixTried | JournalSeen], bool], stop: threading.Event) -> None:
        """Tell, until told to stop."""
        while True:
            for told in self.look():
                emit(told)
            if stop.wait(POLL_SECONDS):
                return

    def look(self) -> list[FixTried | JournalSeen]:
        """What is new since this was asked last."""
        found: list[FixTried | JournalSeen] = [*self._ledger.read_on()]
        seen = self._state()
        if self._seen is None or replace(seen, at=self._seen.at) != self._seen:
            self._seen = seen
            found.append(seen)
        return found

    def _state(self) -> JournalSeen:
        journal, ledger = self._journal, self._ledger
        size = 0
        for path in (ledger.path, ledger.path.with_name(ledger.path.name + "-wal")):
            with suppress(OSError):
                size += path.stat().st_size
        return JournalSeen(
            self._clock(),
            size_bytes=size,
            rows_written=ledger.rows_written + (journal.rows_written if journal is not None else 0),
            write_errors=ledger.write_errors + (journal.write_errors if journal is not None else 0),
            oldest_at=journal.oldest_at if journal is not None else None,
            kept=journal is not None and journal.writes,
        )
