"""One file over HTTP, whole or not there: it goes on where it stopped, is checked, and takes its place at the end.

What came stays in `NAME.part`, with a note beside it of what server and which version it is from; a later start asks for the
rest of that version (Range and If-Range) and begins anew where the server has another. Choosing addresses and judging the
content are left to the caller.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from gpuwatch import __version__
from gpuwatch.adapters.loopback import is_loopback
from gpuwatch.errors import GpuwatchError, JobError, UnreachableError, UsageError
from gpuwatch.texts import Text, plain, text

MOST_BYTES = 8 << 30
MOST_REDIRECTS = 5
TRIES = 5
"""Tries in a row that bring nothing; one that brought something is not counted."""
MOST_TRIES = 100
SPARE_BYTES = 64 << 20
"""Room that is left on the disk besides the file."""
TIMEOUT_SECONDS = 30.0
_BLOCK_BYTES = 1 << 18
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NO_FILE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"version https://git-lfs")

Progress = Callable[[int, int | None], None]
"""Told how many bytes there are, and how many there will be where that is known."""


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


@dataclass(slots=True)
class _Answer:
    """What a server's answers told on the way to the file."""

    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(slots=True)
class _Part:
    """What came so far, and of which version it is."""

    path: Path
    url: str
    validator: str | None = None
    total_bytes: int | None = None
    sha256: str | None = None
    digest: Any = field(default_factory=hashlib.sha256)
    have_bytes: int = 0

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def recall(self, file: BinaryIO) -> None:
        """Take up what an earlier start left, if its note says that it is from this address and can be continued."""
        with suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
            note = json.loads(self.note.read_bytes()[:4096])
            size_bytes = os.fstat(file.fileno()).st_size
            if note["url"] == self.url and isinstance(note["validator"], str) and 0 < size_bytes <= MOST_BYTES:
                self.validator, self.total_bytes, self.sha256 = note["validator"], note["total_bytes"], note["sha256"]
                while block := file.read(_BLOCK_BYTES):
                    self.digest.update(block)
                self.have_bytes = size_bytes
                return
        self.begin_anew(file)

    def begin_anew(self, file: BinaryIO) -> None:
        """Forget what came."""
        file.seek(0)
        # What is no ordinary file, as a device, has no length to be changed.
        with suppress(OSError):
            file.truncate()
        self.digest, self.have_bytes = hashlib.sha256(), 0
        self.validator = self.total_bytes = self.sha256 = None

    def remember(self) -> None:
        """Write the note."""
        note = {"url": self.url, "validator": self.validator, "total_bytes": self.total_bytes, "sha256": self.sha256}
        self.note.write_text(json.dumps(note), "utf-8")

    def drop(self) -> None:
        """Delete both files."""
        for path in (self.path, self.note):
            path.unlink(missing_ok=True)


def check_address(url: str, *, plain_http: bool = False) -> None:
    """Refuse what is no http(s) address, and one without encryption unless it is this machine's or was asked for."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _port = parts.port
    except ValueError as error:
        raise UsageError(text("{url} is no address: {reason}", url=url, reason=plain(str(error)))) from error
    if parts.scheme not in ("http", "https") or not host or any(ord(sign) <= 32 for sign in url):
        raise UsageError(
            text("{url} is no address of a file", url=url), text("Give one that begins with https://, with its host.")
        )
    if parts.username or parts.password:
        raise UsageError(text("An address with a password in it would end up in messages; give one without."))
    if parts.scheme == "http" and not plain_http and not is_loopback(host):
        raise UsageError(
            text("{url} is not encrypted, so what comes could be anyone's", url=url), text("Use its https address.")
        )


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
    part = _Part(to.with_name(to.name + ".part"), url)
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


def _disk_error(error: OSError, part: _Part) -> GpuwatchError:
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


def _settle(part: _Part, to: Path, sha256: str | None, judge: Callable[[Path], GpuwatchError | None]) -> None:
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
    part: _Part,
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
            if _ask(part, file, plain_http=plain_http, on_progress=on_progress, free_bytes=free_bytes):
                return
            reason = text("the connection ended early")
        except (http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = _reason(error)
            if isinstance(error, urllib.error.URLError) and _final(error):
                raise _unreachable(part.url, reason) from error
        idle = 0 if part.have_bytes > before_bytes else idle + 1
        if idle >= TRIES or (idle and not part.have_bytes and idle >= 2):
            break
        wait(min(2.0**idle, 15.0))
    raise _unreachable(part.url, reason)


def _final(error: urllib.error.URLError) -> bool:
    """Whether asking again would change nothing."""
    return "CERTIFICATE" in str(error.reason).upper()


def _reason(error: Exception) -> Text:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    words = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return plain(str(words)[:300])


def _unreachable(url: str, reason: Text) -> UnreachableError:
    return UnreachableError(text("{url} cannot be downloaded: {reason}", url=url, reason=reason))


def _ask(
    part: _Part,
    file: BinaryIO,
    *,
    plain_http: bool,
    on_progress: Progress,
    free_bytes: Callable[[Path], int],
) -> bool:
    """Ask once for what is missing and take what comes; whether all of it is there."""
    headers = {"User-Agent": f"gpuwatch/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
    if part.validator is None:
        part.begin_anew(file)  # of which version that is nobody knows
    if part.have_bytes:
        headers |= {"Range": f"bytes={part.have_bytes}-", "If-Range": str(part.validator)}
    told = _Answer()
    request = urllib.request.Request(part.url, headers=headers)  # noqa: S310 - check_address took http and https only
    try:
        response = _opener(part.url, told, plain_http=plain_http).open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as refusal:
        with refusal:
            if refusal.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if _total_of(refusal.headers.get("Content-Range")) == part.have_bytes:
                    return True  # the earlier start had brought it all
                part.begin_anew(file)
                return False
            if refusal.code in (408, 425, 429, 500, 502, 503, 504):
                raise urllib.error.URLError(f"HTTP {refusal.code} {refusal.reason}") from refusal
            raise _unreachable(part.url, plain(f"HTTP {refusal.code} {refusal.reason}")) from refusal
    with response:
        _begin(part, file, response, told)
        _require_room(part, free_bytes)
        return _take(part, file, response, on_progress)


def _begin(part: _Part, file: BinaryIO, response: Any, told: _Answer) -> None:
    """Read the answer's head: whether it goes on or begins anew, how much there will be, which version it is."""
    headers = response.headers
    goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
    if goes_on:
        start = re.match(r"bytes (\d+)-", headers.get("Content-Range") or "")
        if start is None or int(start[1]) != part.have_bytes:
            part.begin_anew(file)
            raise http.client.HTTPException("the server sent another part than was asked for")
        total = _total_of(headers.get("Content-Range"))
    else:
        part.begin_anew(file)
        length = headers.get("Content-Length")
        total = int(length) if length and length.isdigit() else None
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() in ("text/html", "application/json"):
            raise _no_file(part.url)
    if told.size_bytes is not None and total is not None and told.size_bytes != total:
        raise http.client.HTTPException(f"the size was told as {told.size_bytes}, and then as {total}")
    part.total_bytes = total or told.size_bytes
    if (part.total_bytes or 0) > MOST_BYTES:
        raise JobError(
            text("{url} has {size_bytes}, which no checkpoint has", url=part.url, size_bytes=part.total_bytes)
        )
    part.sha256 = told.sha256 or part.sha256
    tag = headers.get("ETag") or ""
    part.validator = tag if tag.startswith('"') else headers.get("Last-Modified")
    part.remember()


def _take(part: _Part, file: BinaryIO, response: Any, on_progress: Progress) -> bool:
    on_progress(part.have_bytes, part.total_bytes)
    limit = part.total_bytes or MOST_BYTES
    while block := response.read(_BLOCK_BYTES):
        if part.have_bytes == 0 and block.lstrip()[:32].lower().startswith(_NO_FILE):
            raise _no_file(part.url)
        if part.have_bytes + len(block) > limit:
            part.begin_anew(file)
            raise JobError(text("{url} sends more than it told", url=part.url))
        file.write(block)
        part.digest.update(block)
        part.have_bytes += len(block)
        on_progress(part.have_bytes, part.total_bytes)
    return part.have_bytes == part.total_bytes if part.total_bytes is not None else part.have_bytes > 0


def _no_file(url: str) -> UnreachableError:
    return UnreachableError(
        text("{url} answers with a page, not with the file: a login, a proxy or a block stands between", url=url)
    )


def _require_room(part: _Part, free_bytes: Callable[[Path], int]) -> None:
    if part.total_bytes is None:
        return
    need = part.total_bytes - part.have_bytes + SPARE_BYTES
    free = free_bytes(part.path.parent)
    if free < need:
        raise JobError(
            text(
                "{folder} has {free_bytes} free, and {need_bytes} are needed",
                folder=part.path.parent,
                free_bytes=free,
                need_bytes=need,
            ),
            text("Free some space, or name another place with --out."),
        )


def _total_of(content_range: str | None) -> int | None:
    found = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", (content_range or "").strip())
    return int(found[1]) if found else None


def _opener(url: str, told: _Answer, *, plain_http: bool) -> urllib.request.OpenerDirector:
    # A proxy is for what is outside: asked for this machine's own address it would look on itself.
    own = is_loopback(urlsplit(url).hostname or "")
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({} if own else None), _Redirects(told, plain_http=plain_http)
    )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, never from an encrypted address to one that is not, and keeps what is told on the way.

    Hugging Face tells a file's size and SHA-256 in the redirect to where it stores it.
    """

    max_redirections = MOST_REDIRECTS
    max_repeats = 2

    def __init__(self, told: _Answer, *, plain_http: bool) -> None:
        self._told = told
        self._plain_http = plain_http

    def redirect_request(  # noqa: PLR0917 - urllib's own signature
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Follow, or raise what is wrong with the new address."""
        tag = (headers.get("X-Linked-Etag") or "").strip('"').lower()
        size = headers.get("X-Linked-Size") or ""
        if _SHA256.fullmatch(tag):
            self._told.sha256 = tag
        if size.isdigit():
            self._told.size_bytes = int(size)
        target = urljoin(req.full_url, newurl)
        was, to = urlsplit(req.full_url), urlsplit(target)
        if is_loopback(to.hostname or "") and not is_loopback(was.hostname or ""):
            raise UsageError(text("{url} leads to this machine's own {target}", url=req.full_url, target=target))
        if was.scheme == "https" and to.scheme == "http":
            raise UsageError(text("{url} leads to {target}, which is not encrypted", url=req.full_url, target=target))
        check_address(target, plain_http=self._plain_http)
        followed = super().redirect_request(req, fp, code, msg, headers, target)
        if followed is not None:
            followed.headers.update(
                {name: value for name, value in req.headers.items() if name in ("Range", "If-range")}
            )
        return followed
