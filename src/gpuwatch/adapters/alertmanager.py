"""Where Alertmanager's webhook arrives: one path, one method, bounded in size, number and time, a token where one is asked for.

What comes from a page in a browser is refused: Alertmanager sends no Origin, and a site could send what it likes to loopback.
An answer of 503 has Alertmanager try again; whatever is wrong with the message itself is a 4xx, which it does not repeat.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from gpuwatch.adapters.bounded_server import BoundedServer
from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.texts import render, text

PATH = "/alerts"
MOST_BYTES = 1 << 20
_REQUEST_SECONDS = 10.0
_MOST_CONNECTIONS = 16
_PIECE_BYTES = 1 << 16

Take = Callable[[Any], bool]
"""Takes a document; False where there is no room now. Raises GpuwatchError for one that is wrong."""


class AlertReceiver:
    """The server: started on construction's address, stopped by `close`."""

    def __init__(self, host: str, port: int, take: Take, token: str | None = None) -> None:
        try:
            self._server = _Server(host, port, take, token)
        except (OSError, OverflowError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise UsageError(
                text("cannot listen on {host}:{port}: {reason}.", host=host, port=port, reason=reason),
                text("Choose another address with --listen."),
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="alerts", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """What Alertmanager's configuration says."""
        return f"http://{self._server.authority}{PATH}"

    def close(self) -> None:
        """Stop, and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(BoundedServer):
    def __init__(self, host: str, port: int, take: Take, token: str | None) -> None:
        self.take, self.token = take, token
        super().__init__(host, port, _Handler, most_connections=_MOST_CONNECTIONS, request_seconds=_REQUEST_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "gpuwatch"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    def do_POST(self) -> None:
        """Take one message."""
        if self.path.partition("?")[0] != PATH:
            self._answer(404, f"not found: only {PATH} exists")
        elif "Origin" in self.headers:
            self._answer(403, "not for browsers: a page of another site could write here")
        elif not self._may_pass():
            self._answer(401, "a token is wanted", {"WWW-Authenticate": "Bearer"})
        elif (body := self._body()) is not None:
            self._take(body)

    def _take(self, body: bytes) -> None:
        try:
            taken = self.server.take(json.loads(body))
        except (ValueError, RecursionError):
            self._answer(400, "that is not JSON")
        except GpuwatchError as error:
            self._answer(400, render(error.message, "en"))
        else:
            self._answer(*((200, "ok") if taken else (503, "too much waits; try again")))

    def _may_pass(self) -> bool:
        token = self.server.token
        given = self.headers.get("Authorization", "").partition(" ")
        return token is None or (
            given[0].lower() == "bearer" and hmac.compare_digest(given[2].strip().encode(), token.encode())
        )

    def _body(self) -> bytes | None:
        """The message; None where it was not to be had, and that is answered."""
        told = self.headers.get("Content-Length", "")
        if not told.isdecimal():
            self._answer(411, "a length is wanted")
            return None
        left = int(told[:12])
        if left > MOST_BYTES:
            self._answer(413, f"at most {MOST_BYTES} bytes are read")
            return None
        pieces = []
        while left:
            piece = self.rfile.read1(min(left, _PIECE_BYTES))
            if not piece:
                self._answer(408, "the message did not come whole")
                return None
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses, in plain words."""
        del explain
        if code == 501:
            self._answer(405, "only POST is answered", {"Allow": "POST"})
        else:
            self._answer(code, message or self.responses.get(code, ("",))[0])

    def _answer(self, status: int, words: str, headers: dict[str, str] | None = None) -> None:
        self.close_connection = True
        body = f"{words}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""
