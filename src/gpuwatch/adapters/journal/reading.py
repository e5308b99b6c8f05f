"""Looking back: the incidents of a journal, and what was tried on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuwatch.adapters.incident_json import incident_from_json, over
from gpuwatch.adapters.journal.file import asked
from gpuwatch.core.incidents import Incident

_MOST_SHOWN = 10_000
_WITH_NEWER = """
SELECT body, counted, newer FROM incidents
    JOIN (SELECT rowid AS row, ROW_NUMBER() OVER (PARTITION BY id ORDER BY last_at DESC, log) - 1 AS newer FROM incidents)
    ON row = incidents.rowid
    WHERE 1"""


@dataclass(frozen=True, slots=True)
class Kept:
    """An incident as the journal has it."""

    incident: Incident
    failures: int
    """How many were counted."""
    newer: int = 0
    """How many newer ones have its id: the same lines, read again by a later run. What a pipe brings has no place to go on from."""


def read_incidents(
    path: Path, *, since: datetime | None = None, label: str | None = None, id_begins: str | None = None
) -> Iterator[Kept]:
    """The incidents of a journal, the newest first; those that cannot be read any more are left out."""
    query, values = _WITH_NEWER, list[Any]()
    for condition, value in (
        (" AND last_at >= ?", since.isoformat() if since is not None else None),
        (" AND label = ?", label),
        (" AND substr(id, 1, ?) = ?", id_begins),
    ):
        if value is not None:
            query += condition
            values += [len(value), value] if condition.count("?") == 2 else [value]
    for body, counted, newer in asked(path, f"{query} ORDER BY last_at DESC LIMIT {_MOST_SHOWN}", values):
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            yield Kept(over(incident_from_json(json.loads(body))), counted, newer)


def read_fixes(path: Path, incident_id: str, job_id: str | None = None) -> list[tuple[str, str, str]]:
    """When, what and with what outcome was tried on an incident, or on the job that it ended."""
    query = (
        "SELECT at, action, outcome FROM tries WHERE incident_id = ? OR (failed_job_id = ? AND failed_job_id <> '') "
        "ORDER BY number LIMIT ?"
    )
    return asked(path, query, [incident_id, job_id or "", _MOST_SHOWN])
