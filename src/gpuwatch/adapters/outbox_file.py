"""Notices that wait for one target, kept from one run to the next: a file in the person's state folder.

Each running gpuwatch has a file of its own, held by a lock; what a run left whose lock is free belongs to the next one that
sends to the same address. Of the address only a hash is written. A notice holds words of a log, so only its user may read the
file, and where others could write in its folder nothing is kept there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, get_type_hints

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.incident_json import incident_from_json, incident_to_json
from gpuwatch.adapters.recording import from_json, to_json
from gpuwatch.adapters.webhook import Target
from gpuwatch.adapters.whole_file import write_whole
from gpuwatch.core.incidents import Incident
from gpuwatch.core.notices import Notice
from gpuwatch.settings import state_folder

FOLDER = "notices"
LONGEST_KEPT = timedelta(days=1)
"""What is older is no news any more."""
_MOST_RUNS = 8
"""So many of one target have a file at a time; one more keeps nothing."""
_MOST_BYTES = 8 << 20
_HINTS = get_type_hints(Notice)


class OutboxFile:
    """The file of one run and target. Not for use by several threads at once."""

    def __init__(self, folder: Path, target: Target, shape: str, *, clock: Callable[[], datetime] = utc_now) -> None:
        told = json.dumps([target.scheme, target.host, target.port, target.path, dict(target.headers), shape])
        self._folder, self._clock = folder, clock
        self._name = hashlib.blake2b(told.encode(), digest_size=12).hexdigest()
        self._place: Path | None = None
        self._lock: IO[bytes] | None = None
        self.too_old = 0
        """Notices that were left and are no news any more."""

    @classmethod
    def own(cls, target: Target, shape: str) -> OutboxFile | None:
        """In the person's state folder; None where there is none."""
        folder = state_folder()
        return cls(folder / FOLDER, target, shape) if folder is not None else None

    def take_over(self) -> list[Notice]:
        """What earlier runs left, the oldest first; from now on this one's. Raises OSError or UsageError where that cannot be."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return []
        found: dict[str, Notice] = {}
        taken: list[tuple[Path, IO[bytes]]] = []
        try:
            for number in range(_MOST_RUNS):
                place = self._folder / f"{self._name}.{number}.jsonl"
                lock = _locked(place.with_suffix(".lock"))
                if lock is None:
                    continue
                found |= {notice.id: notice for notice in self._left(place)}
                if self._place is None:
                    self._place, self._lock = place, lock
                else:
                    taken.append((place, lock))
            notices = sorted(found.values(), key=lambda notice: notice.at)
            self.keep(notices)
            for place, _lock in taken:
                place.unlink(missing_ok=True)  # only now: a run that is killed meanwhile leaves it twice, not lost
        finally:
            for place, lock in taken:
                _free(place.with_suffix(".lock"), lock)
        return notices

    def keep(self, notices: Sequence[Notice]) -> bool:
        """Have the file hold these and no others; False where none can be kept. Raises OSError or UsageError."""
        if self._place is None:
            return False
        if notices:
            write_whole(self._place, _lines(notices), mode=0o600)
        else:
            self._place.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Leave what is in the file to the next run."""
        if self._lock is not None and self._place is not None:
            _free(self._place.with_suffix(".lock"), self._lock)
        self._place = self._lock = None

    def _left(self, place: Path) -> Iterable[Notice]:
        """What a run left in its file; lines that are none of ours are passed over."""
        content = b""
        with suppress(OSError), place.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        for line in content.splitlines() if len(content) <= _MOST_BYTES else ():
            with suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                notice = notice_from_json(json.loads(line))
                if self._clock() - notice.at <= LONGEST_KEPT:
                    yield notice
                else:
                    self.too_old += 1


def notice_to_json(notice: Notice) -> dict[str, Any]:
    """A notice as it is kept: without the lines around a failure, which no receiver gets."""
    incident = notice.incident
    kept = {field.name: to_json(getattr(notice, field.name)) for field in fields(notice) if field.name != "incident"}
    if incident is not None:
        kept["incident"] = incident_to_json(replace(incident, excerpt=(), before=(), frames=()))
    return kept


def notice_from_json(value: Mapping[str, Any]) -> Notice:
    """The notice as it was kept. Raises what a damaged value raises: ValueError, TypeError, KeyError or AttributeError."""
    incident: Incident | None = incident_from_json(value["incident"]) if "incident" in value else None
    known = {name: from_json(_HINTS[name], value[name]) for name in _HINTS if name in value and name != "incident"}
    notice = Notice(**known, incident=incident)
    if notice.at.tzinfo is None:
        raise ValueError("a time without a zone")
    return notice


def _lines(notices: Sequence[Notice]) -> bytes:
    """The newest of them, as many as a file may hold, in their order."""
    lines: list[bytes] = []
    left_bytes = _MOST_BYTES
    for notice in reversed(notices):
        line = json.dumps(notice_to_json(notice)).encode() + b"\n"
        left_bytes -= len(line)
        if left_bytes < 0:
            break
        lines.append(line)
    return b"".join(reversed(lines))


def _locked(path: Path) -> IO[bytes] | None:
    """The lock, ours until it is freed; None where another run has it. Raises OSError."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        lock = os.fdopen(handle, "r+b")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return lock
        lock.close()  # whoever had it took it away between the two steps


def _free(path: Path, lock: IO[bytes]) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
    lock.close()
