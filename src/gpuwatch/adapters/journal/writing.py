"""The gpuwatch that keeps the journal: incidents, jobs, and how far each log was read.

An incident is committed before anybody sees it counted, together with how far its log was read; so a gpuwatch that is killed at
any moment loses none and, started again, counts none twice. Nothing about the journal ever stops the watching: a damaged file
is moved aside, a full disk is said once and tried again, and a second gpuwatch beside this one leaves incidents to the first.
"""

from __future__ import annotations

import fcntl
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.incident_json import incident_to_json
from gpuwatch.adapters.journal import runs as journal_runs
from gpuwatch.adapters.journal.file import TIMES, is_damage, oldest_at, opened, size_bytes
from gpuwatch.adapters.journal.storable import storable
from gpuwatch.adapters.sources import Place
from gpuwatch.core.events import Event, FailureCounted, IncidentChanged, PlaceReached
from gpuwatch.core.incidents import Incident
from gpuwatch.core.learned.runs import RunMeasured
from gpuwatch.core.observations import JobEnded
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.texts import Text, text

BEFORE_LINES = 20
"""How many lines before an incident are kept with it."""
_MOST_BYTES = 64 << 20
_LONGEST = timedelta(days=90)
_PRUNE_SECONDS = 3600.0
_AGAIN_SECONDS = 60.0
_MOST_WAITING = 1000
_MOST_COUNTED = 5000

Say = Callable[[Text], None]


class Journal:
    """Writes what the pipeline tells. A listener of it, called before anybody sees what happened."""

    def __init__(self, path: Path, say: Say, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.path = path
        self.say = say
        """Where it is said what is wrong with the journal."""
        self._clock = clock
        self._session = secrets.token_hex(6)
        self._logs: dict[str, str] = {}
        """By source, which log it reads: the session's own, or that of the run that it goes on from."""
        self._keys: dict[str, str] = {}
        """By source, what tells its log from every other."""
        self.rows_written = 0
        """Since the start; a row that changes is written again."""
        self.write_errors = 0
        self.oldest_at: datetime | None = None
        """When the oldest record was, as far as was looked: at the start, and where old ones were let go."""
        self._connection: sqlite3.Connection | None = None
        self._lock: IO[bytes] | None = None
        self._told: set[str] = set()
        self._again_at = 0.0
        self._prune_at = 0.0
        self._waiting: dict[tuple[str, str], Incident] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._jobs: list[JobEnded] = []
        self._runs: list[RunMeasured] = []
        self._places: dict[str, PlaceReached] = {}
        self._open()

    @property
    def writes(self) -> bool:
        """Whether this journal is kept by us."""
        return self._connection is not None

    # -- where earlier runs stopped ------------------------------------------------------------------------------------------

    def place_of(self, source: str, log: str) -> Place | None:
        """Where a source's log was read up to; asked for, the source is taken to go on from there."""
        self._keys[source] = log
        rows = self._rows("SELECT log, place, line, epoch FROM places WHERE key = ?", log)
        for told, place, line, epoch in rows:
            self._logs[source] = told
            return Place(place, line, epoch)
        return None

    def counted_before(self) -> dict[str, int]:
        """How many failures were counted of each incident of the logs that are gone on from."""
        counted: dict[str, int] = {}
        for log in set(self._logs.values()):
            query = "SELECT id, counted FROM incidents WHERE log = ? AND counted > 0 ORDER BY last_at DESC LIMIT ?"
            counted.update(dict(self._rows(query, log, _MOST_COUNTED)))
        return counted

    # -- writing -------------------------------------------------------------------------------------------------------------

    def __call__(self, events: Sequence[Event], _snapshot: Snapshot) -> None:
        """Keep what the events tell; where that cannot be, later."""
        if self._connection is None and not self._told:
            return
        told = False
        for event in events:
            told |= self._take(event)
        if told or (self._unwritten and time.monotonic() >= self._again_at):
            self._write()

    def close(self) -> None:
        """Write what still waits, and let go."""
        if self._unwritten:
            self._write()
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def _unwritten(self) -> bool:
        return bool(self._waiting or self._failures or self._jobs or self._runs or self._places)

    def _take(self, event: Event) -> bool:
        """Whether the event is to be kept."""
        if isinstance(event, IncidentChanged):
            if not event.incident.fresh:
                return False
            self._waiting[self._key(event.incident)] = event.incident
        elif isinstance(event, FailureCounted) and event.fresh:
            key = next((key for key in reversed(self._waiting) if key[1] == event.incident_id), None)
            key = key or self._key_of(event.incident_id)
            self._failures[key] = self._failures.get(key, 0) + event.failures
        elif isinstance(event, JobEnded):
            self._jobs.append(event)
            del self._jobs[:-_MOST_WAITING]
        elif isinstance(event, RunMeasured):
            self._runs.append(event)
            del self._runs[:-_MOST_WAITING]
        elif isinstance(event, PlaceReached) and event.source in self._keys:
            self._places[event.source] = event
        else:
            return False
        for kept in (self._waiting, self._failures):
            while len(kept) > _MOST_WAITING:
                del kept[next(iter(kept))]
        return True

    def _key(self, incident: Incident) -> tuple[str, str]:
        return self._logs.get(incident.source, self._session), incident.id

    def _key_of(self, incident_id: str) -> tuple[str, str]:
        """The log of an incident that was written before."""
        query = "SELECT log FROM incidents WHERE id = ? ORDER BY last_at DESC LIMIT 1"
        return next(((log, incident_id) for (log,) in self._rows(query, incident_id)), (self._session, incident_id))

    def _write(self) -> None:
        if self._connection is None or time.monotonic() < self._again_at:
            return
        try:
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                self._write_all(connection)
        except sqlite3.Error as error:
            self._failed(error)
            return
        self.oldest_at = self.oldest_at or self._clock()
        self.rows_written += sum(map(len, (self._waiting, self._jobs, self._runs, self._places)))
        for kept in (self._waiting, self._failures, self._jobs, self._runs, self._places):
            kept.clear()
        if self._told:
            self._told.clear()
            self.say(text("{path}: the journal is written again.", path=str(self.path)))
        if time.monotonic() >= self._prune_at:
            self._prune()

    def _write_all(self, connection: sqlite3.Connection) -> None:
        connection.executemany(
            "INSERT INTO incidents VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT (log, id) DO UPDATE SET "
            "label = excluded.label, severity = excluded.severity, state = excluded.state, last_at = excluded.last_at, "
            "body = excluded.body",
            [
                storable(
                    (
                        log,
                        id_,
                        i.source,
                        i.label,
                        i.severity,
                        i.state,
                        i.first_at.isoformat(),
                        i.last_at.isoformat(),
                        _body(i),
                    )
                )
                for (log, id_), i in self._waiting.items()
            ],
        )
        connection.executemany(
            "UPDATE incidents SET counted = counted + ? WHERE log = ? AND id = ?",
            [(failures, log, id_) for (log, id_), failures in self._failures.items()],
        )
        connection.executemany(
            "INSERT OR IGNORE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                storable((j.server, j.job_id, j.at.isoformat(), j.outcome, j.node_type, j.workload, j.duration_seconds))
                for j in self._jobs
            ],
        )
        journal_runs.write_runs(connection, self._runs)
        connection.executemany(
            "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                storable(
                    (
                        self._keys[source],
                        self._logs.get(source, self._session),
                        r.kind,
                        r.place,
                        r.line,
                        r.epoch,
                        r.at.isoformat(),
                    )
                )
                for source, r in self._places.items()
            ],
        )

    def _failed(self, error: sqlite3.Error) -> None:
        """The journal could not be written: said once; a damaged file is moved aside, anything else tried again later."""
        self.write_errors += 1
        words = str(error)
        if isinstance(error, sqlite3.DatabaseError) and is_damage(words):
            self._begin_anew(words)
            return
        self._again_at = time.monotonic() + _AGAIN_SECONDS
        if words not in self._told:
            self._told.add(words)
            self.say(
                text(
                    "{path}: the journal cannot be written: {error}; watching goes on.",
                    path=str(self.path),
                    error=words,
                )
            )

    # -- the file ------------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self.path.with_name(self.path.name + ".lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.say(
                text("{path}: another gpuwatch keeps the journal; this one adds only its fixes.", path=str(self.path))
            )
            return
        except OSError as error:
            words = error.strerror or str(error)
            self.say(text("{path}: there is no journal: {error}; watching goes on.", path=str(self.path), error=words))
            return
        try:
            self._connection = opened(self.path)
        except sqlite3.DatabaseError as error:
            if is_damage(str(error)):
                self._begin_anew(str(error))
            else:
                self.say(
                    text(
                        "{path}: there is no journal: {error}; watching goes on.", path=str(self.path), error=str(error)
                    )
                )
        if self._connection is not None:
            self._prune()

    def _begin_anew(self, why: str) -> None:
        """Move a damaged file aside and begin an empty one."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        aside = self.path.with_name(f"{self.path.name}.damaged-{self._clock():%Y%m%dT%H%M%S}")
        try:
            self.path.replace(aside)
            for tail in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + tail).replace(f"{aside}{tail}")
            self._connection = opened(self.path)
        except (OSError, sqlite3.Error) as error:
            self.say(
                text("{path}: there is no journal: {error}; watching goes on.", path=str(self.path), error=str(error))
            )
            return
        self.say(
            text(
                "{path}: the journal was damaged ({error}) and is now {aside}; a new one was begun.",
                path=str(self.path), error=why, aside=str(aside),
            )
        )  # fmt: skip

    def _prune(self) -> None:
        """Keep the file within its size and its age."""
        self._prune_at = time.monotonic() + _PRUNE_SECONDS
        connection = self._connection
        if connection is None:
            return
        try:
            oldest = (self._clock() - _LONGEST).isoformat()
            for table, column in TIMES:
                connection.execute(f"DELETE FROM {table} WHERE {column} < ?", (oldest,))  # noqa: S608 - our own names
            while size_bytes(connection) > _MOST_BYTES:
                for table, column in TIMES[:3]:
                    connection.execute(
                        f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} ORDER BY {column} "  # noqa: S608
                        f"LIMIT max(1, (SELECT count(*) / 4 FROM {table})))"
                    )
                connection.execute("PRAGMA incremental_vacuum").fetchall()
            told = oldest_at(connection)
            self.oldest_at = datetime.fromisoformat(told) if told is not None else None
        except sqlite3.Error as error:
            self._failed(error)

    def _rows(self, query: str, *values: Any) -> list[Any]:
        if self._connection is None:
            return []
        try:
            return self._connection.execute(query, storable(values)).fetchall()
        except sqlite3.Error as error:
            self._failed(error)
            return []


def _body(incident: Incident) -> str:
    return json.dumps(incident_to_json(incident), ensure_ascii=True)
