"""Who may read the metrics: TLS, client certificates and passwords, in the format of Prometheus' exporter-toolkit.

The file and the certificates it names are looked at whenever somebody connects. A change that cannot be used is told once and
what was in force stays. What this cannot keep to (a cipher list, a client certificate that nobody verifies) is refused, never
passed over. Passwords need the `bcrypt` package: the standard library has none.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import os
import re
import ssl
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuwatch.adapters.located import Located, Problem, read_documents, unknown
from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.texts import Text, text

_TLS_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert")
_HEADERS = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)
_MOST_USERS, _MOST_REMEMBERED = 100, 100
_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_HIGHEST_COST = 14
_LONGEST_PASSWORD = 72
"""bcrypt looks at no more bytes; a longer password would be another one cut off."""
_NOBODYS_HASH = "$2b$10$irYl5RZmp7gG/9x3Xu4Zp.mH8vd.iREAzVGsPo9cPvdC8JLbPiRPC"
"""Compared with where the user is unknown, so that the answer takes as long as for a known one."""

Stamps = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the file says, checked and ready."""

    tls: ssl.SSLContext | None = None
    names: frozenset[str] = frozenset()
    """Names that a client's certificate must have one of; empty for any."""
    users: Mapping[str, str] = field(default_factory=dict)
    """The bcrypt hash of each user's password."""
    headers: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """Everything that it was made of."""

    @property
    def protects(self) -> bool:
        """Whether not everybody may read."""
        return bool(self.users) or (self.tls is not None and self.tls.verify_mode == ssl.CERT_REQUIRED)


def read_web_config(path: Path) -> WebConfig:
    """Read the file. Raises UsageError that names every mistake with its line."""
    try:
        documents = list(read_documents(path))
        if not documents:
            return WebConfig(files=(path,))
        return _web_config(documents[0], path)
    except Problem as problem:
        hint = text("The format is that of Prometheus' exporter-toolkit; docs/metrics.md has an example.")
        raise UsageError(problem.as_text(), hint) from problem


def _web_config(document: Located, path: Path) -> WebConfig:
    entry = _keys(document, ("tls_server_config", "basic_auth_users", "http_server_config"))
    tls, names, files = (
        _tls(entry["tls_server_config"], path.parent) if "tls_server_config" in entry else (None, (), ())
    )
    users = _users(entry["basic_auth_users"]) if "basic_auth_users" in entry else {}
    headers = _headers(entry["http_server_config"]) if "http_server_config" in entry else {}
    return WebConfig(tls, frozenset(names), users, headers, (path, *files))


def _keys(item: Located, known: tuple[str, ...]) -> dict[str, Located]:
    entry = item.mapping()
    for key, value in entry.items():
        if key not in known:
            raise value.problem(unknown(key, known))
    return entry


def _tls(item: Located, folder: Path) -> tuple[ssl.SSLContext, tuple[str, ...], tuple[Path, ...]]:
    entry = _keys(
        item,
        (
            "cert_file",
            "key_file",
            "client_ca_file",
            "client_auth_type",
            "client_allowed_sans",
            "min_version",
            "max_version",
        ),
    )
    for name in ("cert_file", "key_file"):
        if name not in entry:
            raise item.problem(text("{name} is missing: TLS needs a certificate and its key.", name=name))
    certificate, key = (folder / entry[name].string() for name in ("cert_file", "key_file"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _version(entry.get("min_version"), ssl.TLSVersion.TLSv1_2)
    context.maximum_version = _version(entry.get("max_version"), ssl.TLSVersion.MAXIMUM_SUPPORTED)
    try:
        context.load_cert_chain(certificate, key, lambda: b"")  # an encrypted key would be asked for on the terminal
    except (OSError, ssl.SSLError) as error:
        raise entry["cert_file"].problem(
            text(
                "{certificate} and {key} cannot be used: {reason}.",
                certificate=str(certificate),
                key=str(key),
                reason=error.strerror or str(error),
            )
        ) from error
    files = [certificate, key]
    kind = entry["client_auth_type"].string() if "client_auth_type" in entry else "NoClientCert"
    if kind in _UNVERIFIED:
        raise entry["client_auth_type"].problem(
            text("{kind} takes certificates that nobody verifies, which is not done here.", kind=kind)
        )
    if kind not in _CLIENT_AUTH:
        raise entry["client_auth_type"].problem(unknown(kind, tuple(_CLIENT_AUTH)))
    if "client_ca_file" in entry:
        authority = folder / entry["client_ca_file"].string()
        files.append(authority)
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise entry["client_ca_file"].problem(
                text("{file} cannot be used: {reason}.", file=str(authority), reason=error.strerror or str(error))
            ) from error
    elif kind != "NoClientCert":
        raise item.problem(text("client_ca_file is missing: {kind} has nothing to verify with.", kind=kind))
    names = (
        tuple(each.string() for each in entry["client_allowed_sans"].items()) if "client_allowed_sans" in entry else ()
    )
    if names and kind != "RequireAndVerifyClientCert":
        raise entry["client_allowed_sans"].problem(
            text("client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert.")
        )
    context.verify_mode = _CLIENT_AUTH[kind]
    return context, names, tuple(files)


def _version(item: Located | None, default: ssl.TLSVersion) -> ssl.TLSVersion:
    if item is None:
        return default
    name = item.string()
    if name not in _TLS_VERSIONS:
        raise item.problem(unknown(name, tuple(_TLS_VERSIONS)))
    return _TLS_VERSIONS[name]


def _users(item: Located) -> dict[str, str]:
    users: dict[str, str] = {}
    entry = item.mapping()
    if len(entry) > _MOST_USERS:
        raise item.problem(text("at most {most} users are taken.", most=_MOST_USERS))
    if entry and _bcrypt() is None:
        raise item.problem(text("passwords need the bcrypt package: install it with `pip install 'gpuwatch[web]'`."))
    for name, value in entry.items():
        words = value.string()
        found = _HASH.fullmatch(words)
        if found is None:
            raise value.problem(
                text("the password of {user} is no bcrypt hash; make one with `htpasswd -nBC 10 {user}`.", user=name)
            )
        if int(found[1]) > _HIGHEST_COST:
            raise value.problem(
                text(
                    "the hash of {user} has the cost {cost}; more than {most} takes too long.",
                    user=name,
                    cost=int(found[1]),
                    most=_HIGHEST_COST,
                )
            )
        users[name] = words
    return users


def _headers(item: Located) -> dict[str, str]:
    entry = _keys(item, ("http2", "headers"))
    if "http2" in entry:
        entry["http2"].flag()  # taken for the format's sake: HTTP/1 is all that is spoken here
    headers = _keys(entry["headers"], _HEADERS) if "headers" in entry else {}
    told = {name: value.string() for name, value in headers.items()}
    for name, words in told.items():
        if not words.isprintable():
            raise headers[name].problem(text("a header's value is one line of printable characters."))
    return told


def _bcrypt() -> Any:
    try:
        return importlib.import_module("bcrypt")
    except ImportError:
        return None


class Guard:
    """The configuration in force, read anew when it changes, and whether somebody may pass."""

    def __init__(self, path: Path, say: Callable[[Text], None]) -> None:
        self._path = path
        self._say = say
        self._lock = threading.Lock()
        self._checking = threading.Lock()
        self._passed: OrderedDict[bytes, None] = OrderedDict()
        self._config = read_web_config(path)
        self._stamps = stamps_of(self._config.files)
        self.taken = True
        """Whether the file as it is now is in force."""

    def config(self) -> WebConfig:
        """What is in force now, the file looked at once more."""
        with self._lock:
            stamps = stamps_of(self._config.files)
            if stamps != self._stamps:
                self._stamps = stamps
                self._read_anew()
            return self._config

    def _read_anew(self) -> None:
        try:
            self._config = read_web_config(self._path)
        except GpuwatchError as error:
            self.taken = False
            self._say(text("The web configuration stays as it was: {reason}", reason=error.message))
            return
        self.taken = True
        self._passed.clear()
        self._stamps = stamps_of(self._config.files)
        self._say(text("Web configuration read anew."))

    def lets_in(self, config: WebConfig, user: str, password: str) -> bool:
        """Whether the password is the user's. Takes long, on purpose, but not twice for the same right answer."""
        if not config.users:
            return True
        hashed = config.users.get(user)
        given = password.encode("utf-8", "replace")
        if len(given) > _LONGEST_PASSWORD:
            return False
        remembered = hashlib.sha256(
            b"\0".join((user.encode("utf-8", "replace"), (hashed or "").encode(), given))
        ).digest()
        if any(hmac.compare_digest(remembered, each) for each in list(self._passed)):
            return True
        with self._checking:  # one at a time: guessing passwords must not take every processor
            right = _bcrypt().checkpw(given, (hashed or _NOBODYS_HASH).encode()) and hashed is not None
        if right:
            with self._lock:
                self._passed[remembered] = None
                if len(self._passed) > _MOST_REMEMBERED:
                    self._passed.popitem(last=False)
        return bool(right)


def stamps_of(files: tuple[Path, ...]) -> Stamps:
    """Name, time, size and inode of each; what is gone has zeros."""
    stamps = []
    for path in files:
        try:
            told = os.stat(path)  # noqa: PTH116 - the same either way
        except OSError:
            stamps.append((str(path), 0, 0, 0))
        else:
            stamps.append((str(path), told.st_mtime_ns, told.st_size, told.st_ino))
    return tuple(stamps)


def certificate_names(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The names that a verified client's certificate has."""
    return frozenset(str(name) for _kind, name in (certificate or {}).get("subjectAltName", ()))
