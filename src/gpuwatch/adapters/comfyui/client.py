"""Requests to one server, over one connection that is kept: JSON in, JSON out, nothing without a limit.

Redirections are not followed: what identifies us would go with them. Certificates are checked; $SSL_CERT_FILE adds one's own.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import quote, urlencode

from gpuwatch.adapters.comfyui.address import Server, without_credentials
from gpuwatch.adapters.hangup import hang_up
from gpuwatch.adapters.tls import checking_context
from gpuwatch.errors import UnreachableError
from gpuwatch.texts import Text, text

MOST_BYTES = 64 << 20
TIMEOUT_SECONDS = 10.0
_PIECE_BYTES = 1 << 16
_NOT_FOUND = 404
_RECEIVED_SECONDS = 60.0
_JSON = "application/json"

Trouble = Literal["refused", "slow", "lost", "status", "forbidden", "not_json", "too_large", "certificate"]


class NoAnswerError(UnreachableError):
    """A request that got no answer of use. `message` names the server, never what identifies us."""

    def __init__(
        self, trouble: Trouble, message: Text, hint: Text | None = None, status: int | None = None, said: Any = None
    ) -> None:
        super().__init__(message, hint)
        self.trouble = trouble
        self.status = status
        self.said = said
        """The JSON that came with the status; None where there was none."""

    @property
    def absent(self) -> bool:
        """Whether the server lives and has no such route."""
        return self.status in {_NOT_FOUND, 405}

    @property
    def lives(self) -> bool:
        """Whether something answered, if not as it should."""
        return self.trouble in {"status", "not_json", "too_large"}


class Client:
    """Asks one server. Not for use by several threads at once."""

    def __init__(
        self, server: Server, *, timeout_seconds: float = TIMEOUT_SECONDS, most_bytes: int = MOST_BYTES
    ) -> None:
        self.server = server
        self.requests = 0
        """How many were sent."""
        self._timeout_seconds = timeout_seconds
        self._most_bytes = most_bytes
        self._connection: http.client.HTTPConnection | None = None
        self._tls = checking_context() if server.scheme == "https" else None

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How certificates are checked."""
        return self._tls

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON at a path."""
        return self._ask("GET", path + (f"?{urlencode(query, safe=',')}" if query else ""), None)

    def send(self, method: str, path: str, value: Any) -> Any:
        """Send JSON; the JSON of the answer, None where it has none. Never sent twice."""
        self.close()
        return self._ask(method, path, json.dumps(value).encode())

    def send_bytes(self, path: str, body: bytes, kind: str) -> Any:
        """Post bytes of a kind; the JSON of the answer. Never sent twice."""
        self.close()
        return self._ask("POST", path, body, kind)

    def get_bytes(self, path: str, **query: str | int) -> bytes:
        """The very bytes at a path."""
        path += f"?{urlencode(query)}" if query else ""
        status, kind, data = self._answered("GET", path, None, _JSON)
        if not 200 <= status < 300:
            self._value(status, kind, data, path)
        return data

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """End the request that is under way; from another thread."""
        connection = self._connection
        hang_up(connection.sock if connection is not None else None)

    def _ask(self, method: str, path: str, body: bytes | None, kind: str = _JSON) -> Any:
        return self._value(*self._answered(method, path, body, kind), path)

    def _answered(self, method: str, path: str, body: bytes | None, kind: str) -> tuple[int, str, bytes]:
        try:
            return self._exchange(method, path, body, kind)
        except NoAnswerError:
            self.close()
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise self._no_answer(error) from error

    def _exchange(self, method: str, path: str, body: bytes | None, sent: str) -> tuple[int, str, bytes]:
        kept = self._connection is not None
        while True:
            try:
                answer = self._request(method, path, body, sent)
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.close()
                if not kept:
                    raise
                # A connection that was kept may have been let go by the other side: once more, on a new one.
                kept = False
        status, kind, data = answer.status, answer.headers.get_content_type(), self._body(answer)
        if answer.will_close:
            self.close()
        return status, kind, data

    def _request(self, method: str, path: str, body: bytes | None, kind: str) -> http.client.HTTPResponse:
        server = self.server
        if self._connection is None:
            if self._tls is not None:
                self._connection = http.client.HTTPSConnection(
                    server.host, server.port, timeout=self._timeout_seconds, context=self._tls
                )
            else:
                self._connection = http.client.HTTPConnection(server.host, server.port, timeout=self._timeout_seconds)
        headers = {"Accept": "application/json", "User-Agent": "gpuwatch", **server.headers}
        if body is not None:
            headers["Content-Type"] = kind
        self.requests += 1
        self._connection.request(method, server.base + quote(path, safe="/?=&,%:+-._~"), body, headers)
        return self._connection.getresponse()

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        told = answer.length or 0
        pieces: list[bytes] = []
        size, deadline = 0, time.monotonic() + _RECEIVED_SECONDS
        while told <= self._most_bytes and size <= self._most_bytes:
            piece = answer.read1(_PIECE_BYTES)
            if not piece:
                if size < told:
                    raise http.client.IncompleteRead(b"", told - size)
                answer.close()  # read1 leaves it open at its end, and the connection would not be used again
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
            if time.monotonic() > deadline:
                raise TimeoutError
        raise NoAnswerError(
            "too_large",
            text(
                "{server}: an answer has more than {most_bytes} and is not read.",
                server=self.server.name,
                most_bytes=self._most_bytes,
            ),
        )

    def _value(self, status: int, kind: str, data: bytes, path: str) -> Any:
        name, route = self.server.name, path.partition("?")[0]
        if status in {401, 403, 407}:
            raise NoAnswerError(
                "forbidden",
                text("{server}: refuses us (HTTP {status}).", server=name, status=status),
                text("Give the header or token that it wants with --header-file or --token-file."),
                status,
            )
        if not 200 <= status < 300:
            raise NoAnswerError(
                "status",
                text("{server}: answers {route} with HTTP {status}.", server=name, route=route, status=status),
                _hint_of(status, data) or (_strange() if status == _NOT_FOUND and route == "/prompt" else None),
                status,
                _said(data),
            )
        if not data.strip():
            return None
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise NoAnswerError(
                "not_json",
                text("{server}: answers {route} with {kind}, not with JSON.", server=name, route=route, kind=kind),
                _strange(),
            ) from error

    def _no_answer(self, error: Exception) -> NoAnswerError:
        name = self.server.name
        if isinstance(error, ssl.SSLCertVerificationError):
            return NoAnswerError(
                "certificate",
                text("{server}: its certificate is not trusted: {error}", server=name, error=error.verify_message),
                text("Add its certificate to a file and name that in $SSL_CERT_FILE."),
            )
        if isinstance(error, ssl.SSLError) and error.reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
            return NoAnswerError(
                "lost",
                text("{server}: does not speak TLS there.", server=name),
                text("Write http:// where it has no certificate."),
            )
        if isinstance(error, ConnectionRefusedError):
            return NoAnswerError("refused", text("{server}: nothing listens there.", server=name))
        if isinstance(error, TimeoutError):
            return NoAnswerError("slow", text("{server}: does not answer in time.", server=name))
        if isinstance(error, socket.gaierror):
            return NoAnswerError("refused", text("{server}: there is no such host.", server=name))
        words = without_credentials(
            (error.strerror if isinstance(error, OSError) else None) or str(error) or repr(error)
        )
        return NoAnswerError("lost", text("{server}: the connection failed: {error}", server=name, error=words))


def _said(data: bytes) -> Any:
    """What came with a status that tells of a failure, where it is JSON."""
    with suppress(ValueError, RecursionError):
        return json.loads(data)
    return None


def _strange() -> Text:
    return text("Is it a ComfyUI server? Behind a reverse proxy, write its path too: http://HOST:PORT/PATH")


def _hint_of(status: int, data: bytes) -> Text | None:
    if 300 <= status < 400:
        return text("It sends us to another address; write that one.")
    told = _said(data)
    error = told.get("error") if isinstance(told, dict) else None
    if isinstance(error, dict):
        error = " ".join(str(error.get(name) or "") for name in ("message", "details")).strip()
    return text("It says: {words}", words=str(error)[:300]) if error else None
