"""The screen in a browser, served for tests on loopback, and two who ask for it: one over HTTP, one over a websocket."""

from __future__ import annotations

import asyncio
import http.client
import os
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gpuwatch.faces.web.door import Door, cookie_name, names_for
from gpuwatch.faces.web.server import WebScreen, bound
from gpuwatch.faces.web.session import PRELUDE
from tests.faces.web import SECONDS, Said

TOKEN = "a-token-that-is-long-enough-for-tests"  # noqa: S105
ECHO = [
    sys.executable,
    "-c",
    f"import os, sys\nos.write(1, {PRELUDE!r})\n"
    "while data := os.read(0, 65536): os.write(1, b'D' + len(data).to_bytes(4, 'big') + data)",
]
"""A program that draws what it is sent, packets and all."""


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclass
class Serving:
    """A server that is up."""

    screen: WebScreen
    port: int
    said: Said
    loop: asyncio.AbstractEventLoop

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def cookie(self) -> str:
        return f"{cookie_name(self.host)}={self.screen.door.cookie}"

    def ask(self, path: str, *, method: str = "GET", cookie: bool = False, **headers: str) -> Answer:
        """What is answered; `Sec_Fetch_Site` is a header's name."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.putrequest(method, path, skip_host="Host" in told)
            for name, value in {**({"Cookie": self.cookie} if cookie else {}), **told}.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def open(self, *, origin: str | None = "", size: str = "width=80&height=24", **headers: str) -> ClientConnection:
        """A page's websocket."""
        return connect(
            f"ws://{self.host}/ws?{size}",
            origin=None if origin is None else origin or f"http://{self.host}",  # type: ignore[arg-type]  # their name for str
            additional_headers={"Cookie": self.cookie, **headers},
            compression=None,
            open_timeout=SECONDS,
            close_timeout=SECONDS,
            max_size=None,
        )


@contextmanager
def serving(argv: Sequence[str] = ECHO, *, most: int = 4, address: str = "127.0.0.1") -> Iterator[Serving]:
    """Serve on a thread until the end of the block; nothing it started is left then."""
    said = Said()
    names, any_address = names_for(address, "gpubox")
    screen = WebScreen(Door(TOKEN, names, any_address), argv, most=most, say=said)
    loop = asyncio.new_event_loop()
    with bound("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=loop.run_until_complete, args=(screen.serve(listener),))
        thread.start()
        try:
            yield Serving(screen, port, said, loop)
        finally:
            loop.call_soon_threadsafe(screen.stop)
            thread.join(SECONDS)
            assert not thread.is_alive()
            loop.close()


def received(socket: ClientConnection, wanted: bytes) -> bytes:
    """What comes until these bytes are among it."""
    data = b""
    deadline = time.monotonic() + SECONDS
    while wanted not in data:
        message = socket.recv(timeout=max(deadline - time.monotonic(), 0))
        assert isinstance(message, bytes), message
        data += message
    return data


def closing_code(socket: ClientConnection) -> int | None:
    """The code with which the other side closes; what it says before that does not matter."""
    with suppress(ConnectionClosed):
        for _message in socket:
            pass
    return socket.close_code


def gone(pid: int) -> bool:
    """Whether a process ends; who started it is left to wait for it."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], SECONDS)[0])
    finally:
        os.close(process)
