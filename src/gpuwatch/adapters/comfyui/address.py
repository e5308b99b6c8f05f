"""A server's address as a person types it: where it is, what it is called on screen, and what must never be shown.

What identifies us (a password in the URL, headers, a token from a file) is kept apart from the name and is in no message.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

from gpuwatch.errors import UsageError, unreadable
from gpuwatch.texts import text

_ALIAS = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,60})=(?=https?://)", re.IGNORECASE)
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}):[ \t]*([\x20-\x7e\x80-\xff]{0,8000}?)[ \t]*")
_USERINFO = re.compile(r"(?<=//)[^/@\s]*@")
_LONGEST_FILE_BYTES = 64 * 1024
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Server:
    """Where a ComfyUI server is."""

    scheme: str
    host: str
    port: int
    base: str
    """The path in front of every route, without a slash at its end; empty where there is no reverse proxy."""
    name: str
    """What it is called on screen and in metrics: the alias, else host and port."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def url(self) -> str:
        """The address without what identifies us."""
        return f"{self.scheme}://{self._netloc}{self.base}"

    def socket_url(self, client_id: str) -> str:
        """The websocket's address."""
        scheme = "wss" if self.scheme == "https" else "ws"
        return f"{scheme}://{self._netloc}{self.base}/ws?{urlencode({'clientId': client_id})}"

    @property
    def _netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def is_address(spec: str) -> bool:
    """Whether a word on the command line means a server."""
    return _without_alias(spec)[1].lower().startswith(("http://", "https://"))


def server_of(spec: str, headers: Mapping[str, str] | None = None) -> Server:
    """Read `http(s)://[USER[:PASSWORD]@]HOST[:PORT][/BASE]`, with `NAME=` before it for an alias.

    Raises UsageError for what is no address.
    """
    alias, address = _without_alias(spec)
    shown = without_credentials(address)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UsageError(
            text("{address}: is no address: {error}", address=shown, error=str(error)),
            text("Write http://HOST:PORT, for instance http://127.0.0.1:8188"),
        ) from error
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname or port == 0 or re.search(r"[\s\x00-\x1f\x7f]", address):
        raise UsageError(
            text("{address}: is no address of a server.", address=shown),
            text("Write http://HOST:PORT, for instance http://127.0.0.1:8188"),
        )
    if parts.query or parts.fragment:
        raise UsageError(
            text("{address}: has something after the path.", address=shown),
            text("Leave out what begins with ? or #; a reverse proxy's path may stay."),
        )
    known = dict(headers or {})
    if parts.username is not None and "authorization" not in {name.lower() for name in known}:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        known["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    port = port or _PORTS[scheme]
    base = parts.path.rstrip("/")
    host = parts.hostname
    name = alias or (f"[{host}]:{port}{base}" if ":" in host else f"{host}:{port}{base}")
    return Server(scheme, host, port, base, name, known)


def _without_alias(spec: str) -> tuple[str | None, str]:
    found = _ALIAS.match(spec)
    return (found[1], spec[found.end() :]) if found else (None, spec)


def without_credentials(words: str) -> str:
    """The words with what stands between // and @ left out."""
    return _USERINFO.sub("", words)


def read_headers(path: str | Path) -> dict[str, str]:
    """The headers that a file holds, one `Name: value` a line; # begins a comment. Raises UsageError."""
    headers: dict[str, str] = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _HEADER.fullmatch(line)
        if found is None:
            raise UsageError(
                text("{path}:{number}: is no header.", path=str(path), number=number),
                text("Write one `Name: value` a line."),
            )
        headers[found[1]] = found[2]
    return headers


def read_token(path: str | Path) -> dict[str, str]:
    """The header for a token that a file holds. Raises UsageError where it holds none."""
    token = _read(path).strip()
    if not re.fullmatch(r"[\x21-\x7e]{1,8000}", token):
        raise UsageError(
            text("{path}: holds no token.", path=str(path)),
            text("The file has the token on one line, and nothing else."),
        )
    return {"Authorization": f"Bearer {token}"}


def _read(path: str | Path) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LONGEST_FILE_BYTES + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) > _LONGEST_FILE_BYTES:
        raise UsageError(text("{path}: is too large to hold headers or a token.", path=str(path)))
    return data.decode("utf-8", "replace")
