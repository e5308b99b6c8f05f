"""The journal's fixes: what was tried and what became of it. Every gpuwatch adds its own, also beside one that keeps the journal.

Each try is a transaction of its own on a connection of its own. Where it cannot be written it waits, said once, bounded.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from gpuwatch.adapters.journal.file import opened, rows
from gpuwatch.adapters.journal.storable import storable
from gpuwatch.adapters.recording import from_json, to_json
from gpuwatch.core.events import Event
from gpuwatch.core.observations import FixTried
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.texts import Text, text

_AGAIN_SECONDS = 60.0
_MOST_WAITING = 1000
_MOST_READ = 500
_HINTS = get_type_hints(FixTried)
_COLUMNS = frozenset({"at", "incident_id", "action", "outcome", "failed_job_id", "kept"})


class FixLedger:
    """Adds fixes to a journal, and reads what others added. Safe for several threads."""

    def __init__(self, path: Path, say: Callable[[Text], None]) -> None:
        self.path = path
        self.rows_written = 0
        self.write_errors = 0
        self._say = say
        self._writer = secrets.token_hex(6)
        self._waiting: deque[FixTried] = deque(maxlen=_MOST_WAITING)
        self._told: set[str] = set()
        self._again_at = 0.0
        self._lock = threading.Lock()
        self._file: tuple[int, int] | None = None
        """Which file was read up to `_number`: a damaged one is replaced by another."""
        self._number = 0
        self._seen: object = None
        """How the file stood when all that it had was read: asked again only once it changed."""
        self.read_on(from_now=True)

    def __call__(self, events: Sequence[Event], _snapshot: Snapshot) -> None:
        """Keep the fixes among the events. A listener of the pipeline."""
        for event in events:
            if isinstance(event, FixTried) and not event.kept:
                self.add(event)
        if self._waiting:
            self._write()

    def add(self, tried: FixTried) -> None:
        """Keep one."""
        self._waiting.append(tried)
        self._write()

    def _write(self) -> None:
        with self._lock:
            if not self._waiting or time.monotonic() < self._again_at:
                return
            waiting = list(self._waiting)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with closing(opened(self.path)) as connection, connection:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(
                        "INSERT INTO tries (writer, incident_id, failed_job_id, at, action, outcome, body) "
                        "VALUES (?, ?, ?, ?, ?, ?, ?)",
                        [self._row(tried) for tried in waiting],
                    )
            except (OSError, sqlite3.Error) as error:
                self._failed((error.strerror if isinstance(error, OSError) else None) or str(error))
                return
            for _ in waiting:
                self._waiting.popleft()
            self.rows_written += len(waiting)

    def _row(self, tried: FixTried) -> tuple[Any, ...]:
        rest = {each.name: to_json(getattr(tried, each.name)) for each in fields(tried) if each.name not in _COLUMNS}
        of_job = tried.failed_job_id or ""
        return storable(
            (
                self._writer,
                tried.incident_id,
                of_job,
                tried.at.isoformat(),
                tried.action,
                tried.outcome,
                json.dumps(rest),
            )
        )

    def _failed(self, words: str) -> None:
        self.write_errors += 1
        self._again_at = time.monotonic() + _AGAIN_SECONDS
        if words not in self._told:
            self._told.add(words)
            self._say(
                text("{path}: what was tried cannot be written: {error}; it goes on.", path=str(self.path), error=words)
            )

    def _written(self) -> object:
        """When the file, or what is written ahead of it, changed last."""
        return _stat(self.path), _stat(self.path.with_name(self.path.name + "-wal"))

    def read_on(self, *, from_now: bool = False) -> list[FixTried]:
        """What others added since this was asked last, oldest first, a bounded number at a time; none for `from_now`."""
        try:
            status, written = self.path.stat(), self._written()
            if written == self._seen and not from_now:
                return []
            if self._file not in {None, (status.st_dev, status.st_ino)}:
                self._number = 0
            self._file = status.st_dev, status.st_ino
            if from_now:
                ((self._number,),) = rows(self.path, "SELECT coalesce(max(number), 0) FROM tries", ())
                return []
            query = (
                "SELECT number, writer, incident_id, failed_job_id, at, action, outcome, body FROM tries WHERE number > ? "
                "ORDER BY number LIMIT ?"
            )
            found = rows(self.path, query, (self._number, _MOST_READ))
        except (OSError, sqlite3.Error):
            return []  # there is none yet, or whoever keeps it says what is wrong
        self._seen = written if len(found) < _MOST_READ else None
        tries = []
        for number, writer, *told in found:
            self._number = number
            if writer != self._writer:
                with suppress(ValueError, TypeError, KeyError, RecursionError):
                    tries.append(_tried(told))
        return tries


def held_fix(path: Path, failed_job_id: str) -> FixTried | None:
    """The fix of that job which held, as the journal has it, where that is the last that was heard of one; else None."""
    query = (
        "SELECT incident_id, failed_job_id, at, action, outcome, body FROM tries WHERE failed_job_id = ? "
        "ORDER BY number DESC LIMIT 1"
    )
    with suppress(OSError, sqlite3.Error, ValueError, TypeError, KeyError, RecursionError):
        for row in rows(path, query, (failed_job_id,)):
            tried = _tried(row)
            return tried if tried.outcome == "held" else None
    return None


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _tried(row: Sequence[Any]) -> FixTried:
    """A try as it was written. Raises ValueError, TypeError or KeyError where the row is of another shape."""
    incident_id, failed_job_id, at, action, outcome, body = row
    rest = json.loads(body)
    known = {name: from_json(_HINTS[name], rest[name]) for name in _HINTS if name in rest and name not in _COLUMNS}
    return FixTried(
        at=from_json(_HINTS["at"], at),
        incident_id=incident_id,
        action=action,
        outcome=from_json(_HINTS["outcome"], outcome),
        failed_job_id=failed_job_id or None,
        kept=True,
        **known,
    )
