"""What happened, kept on disk: incidents, jobs, fixes, and how far each log was read. SQLite, in the person's state folder.

An incident is committed before anybody sees it counted, together with how far its log was read; so a gpuwatch that is killed at
any moment loses none and, started again, counts none twice. Nothing about the journal ever stops the watching: a damaged file
is moved aside, a full disk is said once and tried again, and a second gpuwatch beside this one writes nothing.
"""

from __future__ import annotations

import fcntl
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from gpuwatch.adapters import journal_runs
from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.incident_json import incident_from_json, incident_to_json, over
from gpuwatch.adapters.sources import Place
from gpuwatch.core.events import Event, FailureCounted, IncidentChanged, PlaceReached
from gpuwatch.core.incidents import Incident
from gpuwatch.core.learned.runs import RunMeasured
from gpuwatch.core.observations import FixTried, JobEnded
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, text

BEFORE_LINES = 20
"""How many lines before an incident are kept with it."""
_VERSION = 1
_MOST_BYTES = 64 << 20
_LONGEST = timedelta(days=90)
_PRUNE_SECONDS = 3600.0
_AGAIN_SECONDS = 60.0
_MOST_WAITING = 1000
_MOST_COUNTED = 5000
_MOST_SHOWN = 10_000
_BUSY_SECONDS = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS incidents (
    log TEXT NOT NULL, id TEXT NOT NULL, source TEXT NOT NULL, label TEXT NOT NULL, severity TEXT NOT NULL, state TEXT NOT NULL,
    first_at TEXT NOT NULL, last_at TEXT NOT NULL, counted INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL,
    PRIMARY KEY (log, id));
CREATE INDEX IF NOT EXISTS incidents_last ON incidents (last_at);
CREATE TABLE IF NOT EXISTS jobs (
    server TEXT NOT NULL, job_id TEXT NOT NULL, ended_at TEXT NOT NULL, outcome TEXT NOT NULL, node_type TEXT, workload TEXT,
    duration_seconds REAL, PRIMARY KEY (server, job_id, ended_at));
CREATE INDEX IF NOT EXISTS jobs_ended ON jobs (ended_at);
CREATE TABLE IF NOT EXISTS fixes (incident_id TEXT NOT NULL, at TEXT NOT NULL, action TEXT NOT NULL, outcome TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS places (
    key TEXT PRIMARY KEY, log TEXT NOT NULL, kind TEXT NOT NULL, place TEXT NOT NULL, line INTEGER NOT NULL,
    epoch INTEGER NOT NULL, at TEXT NOT NULL);
"""
_AGES = (("incidents", "last_at"), ("jobs", "ended_at"), ("fixes", "at"), ("places", "at"), ("runs", "at"))
"""Tables and the column that tells how old a row is."""

Say = Callable[[Text], None]


@dataclass(frozen=True, slots=True)
class Kept:
    """An incident as the journal has it."""

    incident: Incident
    failures: int
    """How many were counted."""


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
        self._connection: sqlite3.Connection | None = None
        self._lock: IO[bytes] | None = None
        self._told: set[str] = set()
        self._again_at = 0.0
        self._prune_at = 0.0
        self._waiting: dict[tuple[str, str], Incident] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._jobs: list[JobEnded] = []
        self._fixes: list[FixTried] = []
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
        return bool(self._waiting or self._failures or self._jobs or self._fixes or self._runs or self._places)

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
        elif isinstance(event, FixTried):
            self._fixes.append(event)
            del self._fixes[:-_MOST_WAITING]
        elif isinstance(event, RunMeasured):
            self._runs.append(event)
            del self._runs[:-_MOST_WAITING]
        elif isinstance(event, PlaceReached) and event.source in self._keys:
            self._places[event.source] = event
        else:
            return False
        while len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
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
        for kept in (self._waiting, self._failures, self._jobs, self._fixes, self._runs, self._places):
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
                (
                    job.server,
                    job.job_id,
                    job.at.isoformat(),
                    job.outcome,
                    job.node_type,
                    job.workload,
                    job.duration_seconds,
                )
                for job in self._jobs
            ],
        )
        connection.executemany(
            "INSERT INTO fixes VALUES (?, ?, ?, ?)",
            [(fix.incident_id, fix.at.isoformat(), fix.action, fix.outcome) for fix in self._fixes],
        )
        journal_runs.write_runs(connection, self._runs)
        connection.executemany(
            "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    self._keys[source],
                    self._logs.get(source, self._session),
                    r.kind,
                    r.place,
                    r.line,
                    r.epoch,
                    r.at.isoformat(),
                )
                for source, r in self._places.items()
            ],
        )

    def _failed(self, error: sqlite3.Error) -> None:
        """The journal could not be written: said once; a damaged file is moved aside, anything else tried again later."""
        words = str(error)
        if isinstance(error, sqlite3.DatabaseError) and _is_damage(words):
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
            self.say(text("{path}: another gpuwatch keeps the journal; this one only watches.", path=str(self.path)))
            return
        except OSError as error:
            words = error.strerror or str(error)
            self.say(text("{path}: there is no journal: {error}; watching goes on.", path=str(self.path), error=words))
            return
        try:
            self._connection = _opened(self.path)
        except sqlite3.DatabaseError as error:
            if _is_damage(str(error)):
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
            self._connection = _opened(self.path)
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
            for table, column in _AGES:
                connection.execute(f"DELETE FROM {table} WHERE {column} < ?", (oldest,))  # noqa: S608 - our own names
            while _size_bytes(connection) > _MOST_BYTES:
                for table, column in (("incidents", "last_at"), ("jobs", "ended_at")):
                    connection.execute(
                        f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} ORDER BY {column} "  # noqa: S608
                        f"LIMIT max(1, (SELECT count(*) / 4 FROM {table})))"
                    )
                connection.execute("PRAGMA incremental_vacuum").fetchall()
        except sqlite3.Error as error:
            self._failed(error)

    def _rows(self, query: str, *values: Any) -> list[Any]:
        if self._connection is None:
            return []
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._failed(error)
            return []


# -- reading -------------------------------------------------------------------------------------------------------------------


def read_incidents(
    path: Path, *, since: datetime | None = None, label: str | None = None, id_begins: str | None = None
) -> Iterator[Kept]:
    """The incidents of a journal, the newest first; those that cannot be read any more are left out."""
    query, values = "SELECT body, counted FROM incidents WHERE 1", list[Any]()
    for condition, value in (
        (" AND last_at >= ?", since.isoformat() if since is not None else None),
        (" AND label = ?", label),
        (" AND substr(id, 1, ?) = ?", id_begins),
    ):
        if value is not None:
            query += condition
            values += [len(value), value] if condition.count("?") == 2 else [value]
    for body, counted in _read(path, f"{query} ORDER BY last_at DESC LIMIT {_MOST_SHOWN}", values):
        with suppress(ValueError, TypeError, KeyError):
            yield Kept(over(incident_from_json(json.loads(body))), counted)


def read_fixes(path: Path, incident_id: str) -> list[tuple[str, str, str]]:
    """When, what and with what outcome was tried on an incident."""
    return _read(path, "SELECT at, action, outcome FROM fixes WHERE incident_id = ? ORDER BY at", [incident_id])


def _read(path: Path, query: str, values: Sequence[Any]) -> list[Any]:
    if not path.is_file():
        raise UsageError(
            text("{path}: there is no journal yet.", path=str(path)),
            text("`gpuwatch serve` and `gpuwatch watch` write it as they find failures; --journal FILE names another."),
        )
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
        ) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise UsageError(
            text("{path}: cannot be read as a journal: {error}", path=str(path), error=str(error)),
            text("The next `gpuwatch serve` or `gpuwatch watch` moves a damaged one aside."),
        ) from error


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing; a power cut the last seconds
        connection.execute("PRAGMA journal_size_limit = 4194304")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, _VERSION}:
            raise sqlite3.OperationalError(f"version {version} is not known to this gpuwatch")
        connection.executescript(_SCHEMA + journal_runs.SCHEMA)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("SELECT count(*) FROM incidents").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _is_damage(words: str) -> bool:
    return any(sign in words for sign in ("malformed", "not a database", "corrupt", "has no column", "no such column"))


def _size_bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _body(incident: Incident) -> str:
    return json.dumps(incident_to_json(incident), ensure_ascii=True)
