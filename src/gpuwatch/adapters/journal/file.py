"""The journal's file: its tables, how it is opened, what is damage."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from gpuwatch.adapters.journal import runs as journal_runs
from gpuwatch.adapters.journal.storable import storable
from gpuwatch.errors import UsageError
from gpuwatch.texts import text

_VERSION = 2
_BUSY_SECONDS = 2.0
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS incidents (
    log TEXT NOT NULL, id TEXT NOT NULL, source TEXT NOT NULL, label TEXT NOT NULL, severity TEXT NOT NULL, state TEXT NOT NULL,
    first_at TEXT NOT NULL, last_at TEXT NOT NULL, counted INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL,
    PRIMARY KEY (log, id));
CREATE INDEX IF NOT EXISTS incidents_last ON incidents (last_at);
CREATE TABLE IF NOT EXISTS jobs (
    server TEXT NOT NULL, job_id TEXT NOT NULL, ended_at TEXT NOT NULL, outcome TEXT NOT NULL, node_type TEXT, workload TEXT,
    duration_seconds REAL, PRIMARY KEY (server, job_id, ended_at));
CREATE INDEX IF NOT EXISTS jobs_ended ON jobs (ended_at);
CREATE TABLE IF NOT EXISTS tries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, writer TEXT NOT NULL, incident_id TEXT NOT NULL, failed_job_id TEXT NOT NULL,
    at TEXT NOT NULL, action TEXT NOT NULL, outcome TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS tries_at ON tries (at);
CREATE TABLE IF NOT EXISTS places (
    key TEXT PRIMARY KEY, log TEXT NOT NULL, kind TEXT NOT NULL, place TEXT NOT NULL, line INTEGER NOT NULL,
    epoch INTEGER NOT NULL, at TEXT NOT NULL);
{journal_runs.SCHEMA.strip()}
"""
"""A try's number is never used again, so that whoever read up to one misses none."""
_FROM_1 = """
INSERT INTO tries (writer, incident_id, failed_job_id, at, action, outcome, body)
    SELECT '', incident_id, '', at, action, outcome, '{}' FROM fixes ORDER BY at;
DROP TABLE fixes;
"""
TIMES = (("incidents", "last_at"), ("jobs", "ended_at"), ("tries", "at"), ("runs", "at"), ("places", "at"))
"""The tables, and the column that says how old a row is."""


def opened(path: Path) -> sqlite3.Connection:
    """A connection that may write, with all tables there. Raises sqlite3.Error where the file cannot be used.

    A new file is its user's alone: it holds lines of logs. What SQLite puts beside it has the same mode.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a kill loses nothing; a power cut the last seconds
        connection.execute("PRAGMA journal_size_limit = 4194304")
        if _version(connection) != _VERSION:
            _make_tables(connection)
        connection.execute("SELECT count(*) FROM incidents").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make what is not there, and bring an older journal up to date; where two do that at once, the second finds it done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version not in {0, 1, _VERSION}:
            raise sqlite3.OperationalError(f"version {version} is not known to this gpuwatch")
        for statement in (_SCHEMA + (_FROM_1 if version == 1 else "")).split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_damage(words: str) -> bool:
    """Whether an error of SQLite means that the file is damaged, or no journal at all."""
    return any(sign in words for sign in ("malformed", "not a database", "corrupt", "has no column", "no such column"))


def size_bytes(connection: sqlite3.Connection) -> int:
    """What the journal holds, without pages that are free."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def oldest_at(connection: sqlite3.Connection) -> str | None:
    """When the oldest incident, job or try was; None where there is none."""
    found = [
        connection.execute(f"SELECT min({column}) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
        for table, column in TIMES
        if table != "places"
    ]
    return min((at for at in found if at is not None), default=None)


def rows(path: Path, query: str, values: Sequence[Any]) -> list[Any]:
    """What a journal answers, which is only read. Raises sqlite3.Error where it cannot be."""
    address = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as connection:
        return connection.execute(query, storable(values)).fetchall()


def asked(path: Path, query: str, values: Sequence[Any]) -> list[Any]:
    """The same for a person. Raises UsageError where there is none, or where it cannot be read."""
    if path.is_dir():
        raise UsageError(text("{path}: is a folder, not a journal.", path=str(path)))
    if not path.is_file():
        raise UsageError(
            text("{path}: there is no journal yet.", path=str(path)),
            text("`gpuwatch serve` and `gpuwatch watch` write it as they find failures; --journal FILE names another."),
        )
    try:
        return rows(path, query, values)
    except sqlite3.Error as error:
        raise UsageError(
            text("{path}: cannot be read as a journal: {error}", path=str(path), error=str(error)),
            text("The next `gpuwatch serve` or `gpuwatch watch` moves a damaged one aside."),
        ) from error
