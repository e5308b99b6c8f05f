"""A webhook on loopback that keeps what it gets and answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECONDS = 60


@dataclass(frozen=True)
class Got:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Hook:
    """What it answers, and what it got."""

    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    """The next answers; after them 200 and nothing."""
    always: tuple[int, dict[str, str], bytes] | None = None
    hold: threading.Event | None = None
    """Answers only once this is set."""
    got: list[Got] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    address: str = ""

    def wait(self, count: int) -> list[Got]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, SECONDS), f"only {len(self.got)} came"
            return list(self.got)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        if self.always is not None:
            return self.always
        return self.answers.pop(0) if self.answers else (200, {}, b"")


@contextmanager
def hook(**settings: Any) -> Iterator[Hook]:
    told = Hook(**settings)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with told.changed:
                status, headers, words = told.answer()
                told.got.append(Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                told.changed.notify_all()
            if told.hold is not None:
                told.hold.wait(SECONDS)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(words)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(words)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        if told.hold is not None:
            told.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
