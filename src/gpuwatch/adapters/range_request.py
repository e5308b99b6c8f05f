"""One request for what is missing of a file: the redirects on the way, what the answer tells of the file, and its bytes.

Asking again, comparing and putting in place are `downloads.py`'s.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

from gpuwatch import __version__
from gpuwatch.adapters.loopback import is_loopback
from gpuwatch.adapters.part_file import BLOCK_BYTES, MOST_BYTES, Part
from gpuwatch.errors import JobError, UnreachableError, UsageError
from gpuwatch.texts import Text, plain, text

MOST_REDIRECTS = 5
SPARE_BYTES = 64 << 20
"""Room that is left on the disk besides the file."""
TIMEOUT_SECONDS = 30.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COUNT = re.compile(r"[0-9]{1,18}")
_START = re.compile(r"bytes ([0-9]{1,18})-")
_RANGE = re.compile(r"bytes (?:[0-9]+-[0-9]+|\*)/([0-9]{1,18})")
_NO_FILE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"version https://git-lfs")

Progress = Callable[[int, int | None], None]
"""Told how many bytes there are, and how many there will be where that is known."""


@dataclass(slots=True)
class Told:
    """What a server's answers told on the way to the file."""

    sha256: str | None = None
    size_bytes: int | None = None


def check_address(url: str, *, plain_http: bool = False) -> None:
    """Refuse what is no http(s) address, and one without encryption unless it is this machine's or was asked for."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _port = parts.port
        (host or "").encode("idna")
    except ValueError as error:
        raise UsageError(text("{url} is no address: {reason}", url=url, reason=plain(str(error)))) from error
    if parts.scheme not in ("http", "https") or not host or any(not "!" <= sign <= "~" for sign in url):
        raise UsageError(
            text("{url} is no address of a file", url=url), text("Give one that begins with https://, with its host.")
        )
    if parts.username or parts.password:
        raise UsageError(text("An address with a password in it would end up in messages; give one without."))
    if parts.scheme == "http" and not plain_http and not is_loopback(host):
        raise UsageError(
            text("{url} is not encrypted, so what comes could be anyone's", url=url), text("Use its https address.")
        )


def ask(
    part: Part,
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
    told = Told()
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
            raise unreachable(part.url, plain(f"HTTP {refusal.code} {refusal.reason}")) from refusal
    with response:
        _begin(part, file, response, told)
        _require_room(part, free_bytes)
        return _take(part, file, response, on_progress)


def _begin(part: Part, file: BinaryIO, response: Any, told: Told) -> None:
    """Read the answer's head: whether it goes on or begins anew, how much there will be, which version it is."""
    headers = response.headers
    goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
    if goes_on:
        start = _START.match(headers.get("Content-Range") or "")
        if start is None or int(start[1]) != part.have_bytes:
            part.begin_anew(file)
            raise http.client.HTTPException("the server sent another part than was asked for")
        total = _total_of(headers.get("Content-Range"))
    else:
        part.begin_anew(file)
        length = headers.get("Content-Length") or ""
        total = int(length) if _COUNT.fullmatch(length) else None
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


def _take(part: Part, file: BinaryIO, response: Any, on_progress: Progress) -> bool:
    on_progress(part.have_bytes, part.total_bytes)
    limit = part.total_bytes or MOST_BYTES
    while block := response.read(BLOCK_BYTES):
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


def _require_room(part: Part, free_bytes: Callable[[Path], int]) -> None:
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
    found = _RANGE.fullmatch((content_range or "").strip())
    return int(found[1]) if found else None


def _opener(url: str, told: Told, *, plain_http: bool) -> urllib.request.OpenerDirector:
    # A proxy is for what is outside: asked for this machine's own address it would look on itself.
    own = is_loopback(urlsplit(url).hostname or "")
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({} if own else None), Redirects(told, plain_http=plain_http)
    )


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, never from an encrypted address to one that is not, and keeps what is told on the way.

    Hugging Face tells a file's size and SHA-256 in the redirect to where it stores it.
    """

    max_redirections = MOST_REDIRECTS
    max_repeats = 2

    def __init__(self, told: Told, *, plain_http: bool) -> None:
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
        if _COUNT.fullmatch(size):
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


def unreachable(url: str, reason: Text) -> UnreachableError:
    """What is told where the server does not give the file."""
    return UnreachableError(text("{url} cannot be downloaded: {reason}", url=url, reason=reason))
