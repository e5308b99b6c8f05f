"""The journal's table of measured runs: what jobs took on this machine. Bounded; a row that cannot be read is left out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, get_type_hints

from gpuwatch.adapters.journal.storable import storable
from gpuwatch.adapters.recording import from_json, to_json
from gpuwatch.core.learned.runs import Learned, RunMeasured

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    at TEXT NOT NULL, kind TEXT NOT NULL, pixels INTEGER NOT NULL, bound TEXT NOT NULL, peak_bytes INTEGER NOT NULL,
    body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS runs_at ON runs (at);
"""
MOST_RUNS = 2000
_NEWEST = "SELECT body FROM runs ORDER BY rowid DESC LIMIT ?"
_BUSY_SECONDS = 2.0
_MOST_BODY = 16_384
_MOST_BYTES = 1 << 50
_HINTS = get_type_hints(RunMeasured)


def write_runs(connection: sqlite3.Connection, runs: Sequence[RunMeasured]) -> None:
    """Add runs, and let go of the oldest beyond what is kept."""
    if not runs:
        return
    connection.executemany(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)",
        [
            storable(
                (
                    run.at.isoformat(),
                    run.ran.kind.id,
                    run.ran.pixels,
                    run.bound,
                    run.peak_bytes,
                    json.dumps(to_json(run)),
                )
            )
            for run in runs
        ],
    )
    connection.execute(
        "DELETE FROM runs WHERE rowid <= (SELECT rowid FROM runs ORDER BY rowid DESC LIMIT 1 OFFSET ?)", (MOST_RUNS,)
    )


def read_learned(path: Path | None) -> Learned:
    """What a journal has of what jobs took; nothing where there is none, or none that can be read."""
    if path is None or not path.is_file():
        return Learned()
    with suppress(sqlite3.Error, OSError, ValueError):
        address = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)) as connection:
            rows = connection.execute(_NEWEST, (MOST_RUNS,)).fetchall()
            return Learned.of(_runs(body for (body,) in reversed(rows)))
    return Learned()


def asked_learned(path: Path | None) -> Learned:
    """The same for a person who asked for it. Raises UsageError where a journal is there and cannot be read."""
    from gpuwatch.adapters.journal.file import asked  # noqa: PLC0415 - it takes its tables from here

    if path is None or not path.is_file() or not asked(path, "SELECT 1 FROM sqlite_master WHERE name = 'runs'", ()):
        return Learned()
    return Learned.of(_runs(body for (body,) in reversed(asked(path, _NEWEST, (MOST_RUNS,)))))


def _runs(bodies: Iterable[Any]) -> Iterable[RunMeasured]:
    for body in bodies:
        if not isinstance(body, str) or len(body) > _MOST_BODY:
            continue
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            value = json.loads(body)
            run = RunMeasured(**{name: from_json(hint, value[name]) for name, hint in _HINTS.items() if name in value})
            if 0 < run.peak_bytes <= _MOST_BYTES and run.at.tzinfo is not None:
                yield run
