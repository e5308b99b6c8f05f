"""The metrics page over HTTP: three paths, two methods, and limits on how many may ask and how long they may take.

The default address is loopback. A request has ten seconds altogether, however slowly it is sent. Pages are made one at a
time: whoever waits too long for the turn is told so, and Prometheus asks again.
"""

from __future__ import annotations

import base64
import binascii
import errno
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest as encode_plain
from prometheus_client.openmetrics.exposition import generate_latest as encode_open

from gpuwatch.adapters.bounded_server import BoundedServer
from gpuwatch.adapters.web_config import Guard, WebConfig, certificate_names
from gpuwatch.core.rules import RuleSet
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.faces.exporter.page import OPEN_TYPE, PLAIN_TYPE, Page
from gpuwatch.faces.exporter.repeating import PushCounts
from gpuwatch.faces.exporter.rows import Serving
from gpuwatch.faces.narration import Narrate, in_words
from gpuwatch.texts import text

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 9877
_REQUEST_SECONDS = 10.0
_TURN_SECONDS = 5.0
_MOST_CONNECTIONS = 256
_PLAIN = "text/plain; charset=utf-8"
_NOT_FOUND = b"not found: only /metrics, /-/healthy and /-/ready exist\n"


class Exporter:
    """The HTTP server: started on construction's address, stopped by `close`."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        rules: RuleSet,
        host_name: str,
        port: int,
        *,
        workloads: Iterable[str] = (),
        notified: Callable[[], Mapping[str, int]] = dict,
        web_config: Path | None = None,
        pushes: PushCounts | None = None,
        say: Narrate = in_words,
    ) -> None:
        self._guard = (
            Guard(web_config, lambda words: say(words, event="web_config", level="warning"))
            if web_config is not None
            else None
        )
        page = Page(snapshot, rules, workloads=workloads, serving=self._serving, pushes=pushes, notified=notified)
        self._server: _Server | None = None
        try:
            self._server = _Server(host_name, port, page, self._guard, say)
        except (OSError, OverflowError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise UsageError(
                text("cannot listen on {host}:{port}: {reason}.", host=host_name, port=port, reason=reason),
                text("Another gpuwatch may be running; choose another port with --listen.")
                if isinstance(error, OSError) and error.errno == errno.EADDRINUSE
                else text("Choose another address with --listen."),
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="exporter", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """The metrics page's URL."""
        assert self._server is not None  # noqa: S101 - construction would have raised
        return f"{self.scheme}://{self._server.authority}/metrics"

    @property
    def scheme(self) -> str:
        """What the page is to be asked for with."""
        return "https" if self._guard is not None and self._guard.config().tls is not None else "http"

    @property
    def port(self) -> int:
        """The port, also where any free one was asked for."""
        assert self._server is not None  # noqa: S101 - construction would have raised
        return int(self._server.server_address[1])

    @property
    def protected(self) -> bool:
        """Whether not everybody who reaches the address may read the page."""
        return self._guard is not None and self._guard.config().protects

    def close(self) -> None:
        """Stop serving and give the port back."""
        assert self._server is not None  # noqa: S101 - construction would have raised
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serving(self) -> Serving:
        server, taken = self._server, None if self._guard is None else self._guard.taken
        return Serving() if server is None else Serving(server.sent_away, server.unauthorized, taken)


class _Server(BoundedServer):
    """Has what is served, and who may read it."""

    def __init__(self, host_name: str, port: int, page: Page, guard: Guard | None, say: Narrate) -> None:
        self.page = page
        self.process = CollectorRegistry()
        ProcessCollector(registry=self.process)
        self.guard = guard
        self.say = say
        self.unauthorized = 0
        """Only ever added to, from many threads, as `sent_away` is: one may be missed, and none is worth a lock."""
        self.turn = threading.Lock()
        super().__init__(
            host_name,
            port,
            BaseHTTPRequestHandler,  # `finish_request` makes the real one
            most_connections=_MOST_CONNECTIONS,
            request_seconds=_REQUEST_SECONDS,
        )

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Agree on TLS where that is wanted, then answer."""
        request.settimeout(_REQUEST_SECONDS)
        config = self.guard.config() if self.guard is not None else WebConfig()
        if config.tls is None:
            _Handler(request, client_address, self, config)
            return
        with config.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secured:
            secured.settimeout(_REQUEST_SECONDS)
            self.replace_deadline(request, secured)
            try:
                secured.do_handshake()
                if config.names and not config.names & certificate_names(secured.getpeercert()):
                    self.unauthorized += 1
                    return
                _Handler(secured, client_address, self, config)
                with suppress(OSError, ValueError):
                    secured.unwrap()
            finally:
                self.drop_deadline(secured)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away or speaks no TLS is no news; anything else is a fault of ours."""
        del request, client_address
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.say(text("the metrics page failed: {error}", error=repr(error)), event="page", level="error")


class _Handler(BaseHTTPRequestHandler):
    """Answers three paths and no other."""

    server: _Server
    server_version = "gpuwatch"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    def __init__(self, request: Any, client_address: Any, server: _Server, config: WebConfig) -> None:
        self._config = config
        super().__init__(request, client_address, server)

    def do_GET(self) -> None:
        """Answer a request."""
        path = self.path.partition("?")[0]
        if not self._may_pass():
            self.server.unauthorized += 1
            self._answer(401, _PLAIN, b"a user and a password are wanted\n", {"WWW-Authenticate": "Basic"})
        elif path == "/metrics":
            self._metrics()
        elif path in {"/-/healthy", "/-/ready"}:
            self._answer(200, _PLAIN, b"ok\n")
        else:
            self._answer(404, _PLAIN, _NOT_FOUND)

    def do_HEAD(self) -> None:
        """The same without the page."""
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses, in plain words; a method that it does not find is one that is not answered here."""
        del explain
        if code == 501:
            self._answer(405, _PLAIN, b"only GET and HEAD are answered\n", {"Allow": "GET, HEAD"})
        else:
            self._answer(code, _PLAIN, f"{message or self.responses.get(code, ('',))[0]}\n".encode())

    def _metrics(self) -> None:
        openmetrics = "application/openmetrics-text" in self.headers.get("Accept", "")
        if not self.server.turn.acquire(timeout=_TURN_SECONDS):
            self.server.sent_away += 1
            self._answer(503, _PLAIN, b"too many scrapes at once\n", {"Retry-After": "1"})
            return
        try:
            encode = encode_open if openmetrics else encode_plain
            process = encode(self.server.process).decode().removesuffix("# EOF\n")
            page = self.server.page.text(openmetrics=openmetrics, more=process)
        finally:
            self.server.turn.release()
        self._answer(200, OPEN_TYPE if openmetrics else PLAIN_TYPE, page)

    def _may_pass(self) -> bool:
        guard = self.server.guard
        if guard is None or not self._config.users:
            return True
        scheme, _space, words = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _colon, password = base64.b64decode(words.strip(), validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            return False
        return guard.lets_in(self._config, user, password)

    def _answer(self, status: int, content_type: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in {**self._config.headers, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing: a scrape every few seconds is no news."""
