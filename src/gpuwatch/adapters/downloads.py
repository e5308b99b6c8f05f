"""One file over HTTP, whole or not there: it goes on where it stopped, is checked, and takes its place at the end.

What came is kept (`part_file.py`); a later start asks for the rest of that version (Range and If-Range) and begins anew where
the server has another. Choosing addresses and judging the content are left to the caller.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import shutil
import time
import urllib.error
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from gpuwatch.adapters.part_file import Part
from gpuwatch.adapters.range_request import Progress, ask, check_address, unreachable
from gpuwatch.errors import GpuwatchError, JobError, UsageError
from gpuwatch.texts import Text, plain, text

TRIES = 5
"""Tries in a row that bring nothing; one that brought something is not counted."""
FIRST_TRIES = 2
"""The same where none ever brought a byte: the address is likely wrong."""
MOST_TRIES = 100


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a download brought."""

    path: Path
    size_bytes: int
    sha256: str
    told_sha256: str | None
    """The hash that the server told of the file, and that was compared."""
    resumed_bytes: int
    """What an earlier start had brought already."""


def download(
    url: str,
    to: Path,
    *,
    sha256: str | None = None,
    plain_http: bool = False,
    judge: Callable[[Path], GpuwatchError | None] = lambda _path: None,
    on_progress: Progress = lambda _have, _total: None,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    wait: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Bring the file to `to`.

    `sha256` is what it must have; without it the hash that the server tells, if it tells one, is compared. `judge` looks at
    the whole file before it takes its place; an error that it gives is raised, and the file deleted.
    """
    check_address(url, plain_http=plain_http)
    part = Part(to.with_name(to.name + ".part"), url)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with part.path.open("a+b") as file:
            _lock(file, part.path)
            try:
                file.seek(0)
                part.recall(file)
                resumed_bytes = part.have_bytes
                _bring(part, file, plain_http=plain_http, on_progress=on_progress, free_bytes=free_bytes, wait=wait)
                file.flush()
                with suppress(OSError):  # a file system without it, or no ordinary file
                    os.fsync(file.fileno())
                _settle(part, to, sha256, judge)
            finally:
                if not part.have_bytes:
                    part.drop()
    except OSError as error:
        raise _disk_error(error, part) from error
    return Fetched(to, part.have_bytes, part.digest.hexdigest(), part.sha256, resumed_bytes)


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return  # a file system without locks
        raise UsageError(
            text("{path} is being downloaded by another process", path=path), text("Wait for it, or end it.")
        ) from error


def _disk_error(error: OSError, part: Part) -> GpuwatchError:
    reason = plain(error.strerror or str(error))
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return JobError(
            text("The disk is full: {have_bytes} are in {path}", have_bytes=part.have_bytes, path=part.path),
            text("Free some space and run it again: it goes on from there. Or name another place with --out."),
        )
    return UsageError(
        text("{path} cannot be written: {reason}", path=part.path, reason=reason),
        text("Name another place with --out."),
    )


def _settle(part: Part, to: Path, sha256: str | None, judge: Callable[[Path], GpuwatchError | None]) -> None:
    """Compare, and let the file take its place."""
    found, wanted = part.digest.hexdigest(), sha256 or part.sha256
    if wanted is not None and found != wanted:
        part.drop()
        raise JobError(
            text("What came has the SHA-256 {found}, not {wanted}; it was deleted", found=found, wanted=wanted),
            text("Run it again; if it stays so, the server has another file than the one wanted."),
        )
    if (complaint := judge(part.path)) is not None:
        part.drop()
        raise complaint
    part.path.replace(to)
    part.note.unlink(missing_ok=True)
    with suppress(OSError):
        folder = os.open(to.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _bring(
    part: Part,
    file: BinaryIO,
    *,
    plain_http: bool,
    on_progress: Progress,
    free_bytes: Callable[[Path], int],
    wait: Callable[[float], None],
) -> None:
    """Ask until all of it is there."""
    idle = 0
    for _try in range(MOST_TRIES):
        before_bytes = part.have_bytes
        try:
            if ask(part, file, plain_http=plain_http, on_progress=on_progress, free_bytes=free_bytes):
                return
            reason = text("the connection ended early")
        except (http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = _reason(error)
            if isinstance(error, urllib.error.URLError) and _final(error):
                raise unreachable(part.url, reason) from error
        idle = 0 if part.have_bytes > before_bytes else idle + 1
        if idle >= (TRIES if part.have_bytes else FIRST_TRIES):
            break
        wait(min(2.0**idle, 15.0))
    raise unreachable(part.url, reason)


def _final(error: urllib.error.URLError) -> bool:
    """Whether asking again would change nothing."""
    return "CERTIFICATE" in str(error.reason).upper()


def _reason(error: Exception) -> Text:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    words = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return plain(str(words)[:300])
