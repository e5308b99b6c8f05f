"""One notice to one address: where it goes, how it is signed, what the answer means. `outbox.py` tries again.

The address may itself be the secret, as those of chats are: it is never printed, only its scheme and host. Redirections are
not followed, certificates are checked, and a request has an end whatever the other side does. The signature is that of the
Standard Webhooks specification, so that libraries can check it.
"""

from __future__ import annotations

import base64
import binascii
import email.utils
import hashlib
import hmac
import http.client
import os
import re
import socket
import ssl
import stat
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote, unquote, urlsplit

from gpuwatch.adapters.hangup import hang_up
from gpuwatch.adapters.loopback import is_loopback
from gpuwatch.adapters.tls import checking_context
from gpuwatch.core.notices import Notice
from gpuwatch.errors import UsageError, unreadable
from gpuwatch.settings import NOTIFY_SECRET_VARIABLE
from gpuwatch.texts import Text, plain, text, visible

TIMEOUT_SECONDS = 10.0
"""For each step of a request."""
WHOLE_SECONDS = 20.0
"""For all of it."""
_MOST_ANSWER_BYTES = 4096
_MOST_FILE_BYTES = 4096
_MOST_RETRY_AFTER_SECONDS = 900.0
_LEAST_SECRET_BYTES = 16
_PORTS = {"http": 80, "https": 443}
_LATER = frozenset({408, 425, 429})

Outcome = Literal["delivered", "later", "refused"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where notices go."""

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    """With its query."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def shown(self) -> str:
        """What may be printed of it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}/…"


@dataclass(frozen=True, slots=True)
class Parcel:
    """A notice as one receiver wants it."""

    body: bytes
    query: str = ""
    """Added to the address."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What stands in an answer that only looks well."""

    words: str
    later: bool = False
    """Whether it was only too much at once."""


class Shape(Protocol):
    """How a kind of receiver wants its notices."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""

    def parcel(self, notice: Notice, at: datetime, secret: bytes | None) -> Parcel:
        """The notice packed, and signed where there is a secret and the receiver knows what to do with it."""

    def complaint(self, answer: bytes) -> Complaint | None:
        """What an answer with status 200 says against it; None where it says nothing against it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came back."""

    outcome: Outcome
    words: Text
    status: int | None = None
    retry_after_seconds: float | None = None


def target_of(address: str) -> Target:
    """Read an http:// or https:// address, or @FILE that holds one. Raises UsageError, without the address in it."""
    hint = text("Write https://HOST/PATH, or @FILE for a file that holds it.")
    if address.startswith("@"):
        address = _read(Path(address[1:])).decode("utf-8", "replace").strip()
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UsageError(text("where notices should go is no address."), hint) from error
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname or port == 0 or re.search(r"[\s\x00-\x1f\x7f]", address):
        raise UsageError(text("where notices should go is no http:// or https:// address."), hint)
    try:
        host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
    except UnicodeError as error:
        raise UsageError(text("where notices should go is no address."), hint) from error
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Target(scheme, host, port or _PORTS[scheme], path, headers)


def read_secret(path: Path | None, environment: Mapping[str, str] | None = None) -> tuple[bytes | None, Text | None]:
    """The secret of the file, or of the environment; and what is to be said about the file. Neither on a command line.

    Raises UsageError where the file cannot be read or holds no secret.
    """
    environment = os.environ if environment is None else environment
    if path is None:
        named = environment.get(NOTIFY_SECRET_VARIABLE)
        return (_secret_of(named.encode(), NOTIFY_SECRET_VARIABLE), None) if named else (None, None)
    secret = _secret_of(_read(path), str(path))
    open_to_others = False
    with suppress(OSError):
        open_to_others = bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    if not open_to_others:
        return secret, None
    return secret, text("{path}: others on this machine can read the secret; chmod 600 mends that.", path=str(path))


def _secret_of(written: bytes, where: str) -> bytes:
    words = written.strip()
    if words.startswith(b"whsec_"):
        try:
            words = base64.b64decode(words.removeprefix(b"whsec_"), validate=True)
        except binascii.Error as error:
            raise UsageError(
                text("{where}: what follows whsec_ is not base64.", where=where),
                text("`openssl rand -hex 32` makes one."),
            ) from error
    if len(words) < _LEAST_SECRET_BYTES:
        raise UsageError(
            text("{where}: a secret has at least {least} characters.", where=where, least=_LEAST_SECRET_BYTES),
            text("`openssl rand -hex 32` makes one."),
        )
    return words


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_FILE_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) > _MOST_FILE_BYTES:
        raise UsageError(text("{path}: is too large for a secret or an address.", path=str(path)))
    return data


def signature(id_: str, at: datetime, body: bytes, secret: bytes) -> dict[str, str]:
    """The headers that prove who sent the body, and when: HMAC-SHA256 over the id, the time and the body."""
    seconds = str(int(at.timestamp()))
    digest = hmac.digest(secret, b".".join((id_.encode(), seconds.encode(), body)), hashlib.sha256)
    return {"webhook-timestamp": seconds, "webhook-signature": "v1," + base64.b64encode(digest).decode()}


class Carrier:
    """Takes notices to one target. One at a time; `abort` ends what is under way, from another thread."""

    def __init__(
        self, target: Target, shape: Shape, secret: bytes | None = None, *, whole_seconds: float = WHOLE_SECONDS
    ) -> None:
        self.target, self.shape = target, shape
        self._secret = secret
        self._whole_seconds = whole_seconds
        self._tls = checking_context() if target.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None

    def carry(self, notice: Notice, at: datetime) -> Verdict:
        """Send it once."""
        parcel = self.shape.parcel(notice, at, self._secret)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "gpuwatch",
            "Idempotency-Key": notice.id,
            "webhook-id": notice.id,
            "Connection": "close",
            **self.target.headers,
            **parcel.headers,
        }
        path = self.target.path + (("&" if "?" in self.target.path else "?") + parcel.query if parcel.query else "")
        watchdog = threading.Timer(self._whole_seconds, self.abort)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._connection = self._connect()
            self._connection.request("POST", path, parcel.body, headers)
            answer = self._connection.getresponse()
            return self._verdict(answer, answer.read(_MOST_ANSWER_BYTES), at)
        except ssl.SSLCertVerificationError as error:
            return Verdict("refused", text("its certificate is not trusted: {error}", error=error.verify_message))
        except (OSError, http.client.HTTPException) as error:
            return Verdict("later", _trouble(error))
        except ValueError:
            return Verdict("refused", text("the request cannot be made: a proxy's address or a header is wrong"))
        finally:
            watchdog.cancel()
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def abort(self) -> None:
        """End the request that is under way."""
        connection = self._connection
        hang_up(connection.sock if connection is not None else None)

    def _connect(self) -> http.client.HTTPConnection:
        """A connection, through the proxy that the environment names for this address."""
        target = self.target
        proxy = urllib.request.getproxies().get(target.scheme)
        if proxy is None or is_loopback(target.host) or urllib.request.proxy_bypass(f"{target.host}:{target.port}"):
            return self._plain_or_tls(target.host, target.port)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        told = {}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            told["Proxy-Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        connection = self._plain_or_tls(parts.hostname or "", parts.port or 80)
        connection.set_tunnel(target.host, target.port, told)
        return connection

    def _plain_or_tls(self, host: str, port: int) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=self._tls)

    def _verdict(self, answer: http.client.HTTPResponse, body: bytes, at: datetime) -> Verdict:
        status = answer.status
        said = visible(" ".join(body.decode("utf-8", "replace").split())[:200])
        if 200 <= status < 300:
            complaint = self.shape.complaint(body)
            if complaint is None:
                return Verdict("delivered", plain(f"HTTP {status}"), status)
            told = text("HTTP {status}, but: {words}", status=status, words=visible(complaint.words[:200]))
            return Verdict("later" if complaint.later else "refused", told, status)
        words = plain(f"HTTP {status}: {said or '-'}")
        if 300 <= status < 400:
            return Verdict(
                "refused", text("HTTP {status}: it sends us elsewhere, and is not followed", status=status), status
            )
        if status in _LATER or status >= 500:
            return Verdict("later", words, status, retry_after(answer.getheader("Retry-After"), at))
        return Verdict("refused", words, status)


def retry_after(told: str | None, at: datetime) -> float | None:
    """The seconds that a Retry-After header asks for, at most a quarter of an hour; None where it asks for none."""
    if not told:
        return None
    if told.strip().isdecimal():
        return min(float(told.strip()[:6]), _MOST_RETRY_AFTER_SECONDS)
    with suppress(ValueError, TypeError):
        when = email.utils.parsedate_to_datetime(told)
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - at).total_seconds()
        return min(max(0.0, seconds), _MOST_RETRY_AFTER_SECONDS)
    return None


def _trouble(error: Exception) -> Text:
    """Why there was no answer. A library's message may hold the address: only known ones are passed on."""
    if isinstance(error, ConnectionRefusedError):
        return text("nothing listens there")
    if isinstance(error, TimeoutError):
        return text("no answer in time")
    if isinstance(error, socket.gaierror):
        return text("there is no such host")
    if isinstance(error, OSError) and error.strerror:
        return plain(visible(error.strerror))
    return text("the connection was cut, or what answers is no web server")
