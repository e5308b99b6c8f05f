"""What has been colorized into a folder, one JSON line a photo, so that a run can be stopped anywhere and go on.

A line is written after its output is whole on disk, so the manifest never claims more than there is; it may claim less,
and such a photo is done again under the same name. Lines are only added: the last one about a photo counts. Each run
that starts with other settings writes them first, and every later line belongs to them.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from gpuwatch.errors import UsageError
from gpuwatch.texts import plain, text
from gpuwatch_runner.finding import MARK, Source
from gpuwatch_runner.photo import SUFFIXES

NAME = "gpuwatch-manifest.jsonl"
FORM = 1
"""Of the file, and of the way photos are colorized: a change in either makes photos be done again."""
SYNC_EVERY = 16
"""Lines that a loss of power can take; the end of the process takes none."""

_LONGEST_LINE_BYTES = 1 << 20

Settings = Mapping[str, Any]
Reason = Literal["new", "input_changed", "output_missing", "settings", "degraded", "failed", "forced"]
"""Why a photo is to be done."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of one photo."""

    input: str
    size_bytes: int
    mtime_ns: int
    output: str | None
    """Relative to the folder; None where there is none."""
    output_bytes: int
    settings: Settings
    degraded: bool = False
    failed: bool = False


class Manifest:
    """The manifest of an output folder, held by one run at a time."""

    def __init__(self, folder: Path) -> None:
        """Open or make it, and read it; UsageError where another run holds it or it cannot be used."""
        self.folder = folder
        self.path = folder / NAME
        self._settings: Settings = {}
        self._unsynced = 0
        self._by_input: dict[str, Entry] = {}
        self._owners: dict[str, str] = {}
        """Inputs by their output."""
        try:
            self._file: IO[bytes] = self.path.open("a+b", buffering=0)
        except OSError as error:
            reason = plain(error.strerror or str(error))
            raise UsageError(text("{path} cannot be written: {reason}", path=self.path, reason=reason)) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UsageError(
                text("Another run is writing to {path}", path=folder), text("Wait for it, or use another --out")
            ) from error
        except OSError:
            pass  # a file system without locks
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()

    def begin(self, settings: Settings) -> None:
        """From here on lines belong to `settings`."""
        if settings != self._settings:
            self._append({"settings": settings, "form": FORM})
            self._settings = settings

    def reason(self, source: Source, settings: Settings, *, degrade: bool) -> Reason | None:
        """Why `source` is to be done; None where it has been, with these settings, from the file as it is now."""
        entry = self._by_input.get(_key(source.path))
        if entry is not None and entry.failed:
            return "failed"
        try:
            status = source.path.stat()
        except OSError:
            return "new"
        entry = entry or self._moved(source, status)
        if entry is None or entry.output is None:
            return "new"
        if (status.st_size, status.st_mtime_ns) != (entry.size_bytes, entry.mtime_ns):
            return "input_changed"
        try:
            if (self.folder / entry.output).stat().st_size != entry.output_bytes:
                return "output_missing"
        except OSError:
            return "output_missing"
        if entry.settings != settings:
            return "settings"
        return "degraded" if entry.degraded and not degrade else None

    def output_of(self, source: Source, suffix: str) -> Path:
        """Where the colours of `source` go: the same place as before; a number keeps two photos of one name apart."""
        key = _key(source.path)
        before = self._by_input.get(key)
        if before is not None and before.output is not None and before.output.endswith(suffix):
            return self.folder / before.output
        number = 1
        while True:
            mark = MARK if number == 1 else f"{MARK}-{number}"
            output = (source.inside / f"{source.path.stem}{mark}{suffix}").as_posix()
            owner = self._owners.get(output)
            # The output of an input that is gone, as after a move of the whole tree, may be taken over.
            if owner is None or owner == key or not os.path.lexists(owner):
                self._owners[output] = key
                return self.folder / output
            number += 1

    def add_done(self, source: Source, status: os.stat_result, output: Path, notes: Mapping[str, Any]) -> None:
        """Write that `output` has the colours of `source` as it was at `status`; `notes` has what differs from the settings."""
        self._append(
            {
                "input": _key(source.path),
                "size_bytes": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "output": output.relative_to(self.folder).as_posix(),
                "output_bytes": output.stat().st_size,
                **notes,
            }
        )

    def add_failed(self, source: Source, message: str) -> None:
        """Write that `source` could not be colorized; the next run tries it again."""
        self._append({"input": _key(source.path), "failed": message})

    def _moved(self, source: Source, status: os.stat_result) -> Entry | None:
        """The entry of the same photo from before its tree was moved: same place in it, same size and time, the old one gone."""
        for suffix in SUFFIXES.values():
            owner = self._owners.get((source.inside / f"{source.path.stem}{MARK}{suffix}").as_posix())
            entry = self._by_input.get(owner) if owner is not None and not os.path.lexists(owner) else None
            if entry is not None and (entry.size_bytes, entry.mtime_ns) == (status.st_size, status.st_mtime_ns):
                return entry
        return None

    def _append(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._unsynced += 1
            if self._unsynced >= SYNC_EVERY:
                os.fsync(self._file.fileno())
                self._unsynced = 0
        except OSError:
            with suppress(OSError):
                self._file.truncate(end)
            raise
        self._take(record)

    def _read(self) -> None:
        self._file.seek(0)
        with open(self._file.fileno(), "rb", closefd=False) as lines:
            cut = False
            while line := lines.readline(_LONGEST_LINE_BYTES):
                cut = not line.endswith(b"\n")
                with suppress(ValueError, RecursionError):
                    record = json.loads(line)
                    if isinstance(record, dict):
                        self._take(record)
        if cut:
            # A process that was killed in mid-line; what it did not finish saying was not said.
            self._file.write(b"\n")

    def _take(self, record: Mapping[str, Any]) -> None:
        """Take a record in; one that is not of this form is passed over, and its photo done again."""
        settings, name = record.get("settings"), record.get("input")
        if isinstance(settings, dict):
            self._settings = settings if record.get("form") == FORM else {}
        if not isinstance(name, str):
            return
        output = record.get("output")
        numbers = [record.get(field) for field in ("size_bytes", "mtime_ns", "output_bytes")]
        if not isinstance(output, str) or not all(isinstance(number, int) for number in numbers) or _outside(output):
            if "failed" in record:
                before = self._by_input.get(name)
                kept = before.output if before is not None else None
                self._by_input[name] = Entry(name, -1, -1, kept, -1, self._settings, failed=True)
            return
        size_bytes, mtime_ns, output_bytes = (int(number or 0) for number in numbers)
        used = record.get("used")
        # A rewrite or a smaller batch changes nothing that can be seen.
        degraded = isinstance(used, dict) and used.get("size") != self._settings.get("size")
        self._by_input[name] = Entry(name, size_bytes, mtime_ns, output, output_bytes, self._settings, degraded)
        self._owners[output] = name


def hash_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links, and two of them may be two photos


def _outside(output: str) -> bool:
    """Whether an output's name leads out of the folder or is none: a manifest is a file like any other, and is not believed."""
    try:
        os.fsencode(output)
    except UnicodeEncodeError:
        return True
    return "\0" in output or Path(output).is_absolute() or ".." in Path(output).parts
