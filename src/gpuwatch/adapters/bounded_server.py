"""An HTTP server that nobody can hold up: so many connections, so long for each, a thread a connection.

`ThreadingHTTPServer` takes any number, waits for a slow sender without end, and asks a name server for its own name when it
starts. What is answered is its handler's business.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

POLL_SECONDS = 0.1
"""How often deadlines are looked at: for `serve_forever`."""


class BoundedServer(ThreadingHTTPServer):
    """Takes connections up to a number and ends those that take too long."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        host_name: str,
        port: int,
        handler: type[BaseHTTPRequestHandler],
        *,
        most_connections: int,
        request_seconds: float,
    ) -> None:
        self.sent_away = 0
        """Connections beyond the number."""
        self.request_seconds = request_seconds
        self._free = threading.Semaphore(most_connections)
        self._deadlines: dict[socket.socket, float] = {}
        self._deadlines_lock = threading.Lock()
        if ":" in host_name:
            self.address_family = socket.AF_INET6
        super().__init__((host_name, port), handler)

    def server_bind(self) -> None:
        """Bind without asking a name server for our own name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL; the port also where any free one was asked for."""
        host_name = str(self.server_address[0])
        return f"[{host_name}]:{self.server_port}" if ":" in host_name else f"{host_name}:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Hand a connection to a thread of its own, or hang up where there are too many."""
        if not self._free.acquire(blocking=False):
            self.sent_away += 1
            self.shutdown_request(request)
            return
        with self._deadlines_lock:
            self._deadlines[request] = time.monotonic() + self.request_seconds
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._let_go(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._let_go(request)

    def replace_deadline(self, request: socket.socket, secured: socket.socket) -> None:
        """The same connection goes on as another socket, in the time that it has left."""
        with self._deadlines_lock:
            self._deadlines[secured] = self._deadlines.pop(request, time.monotonic() + self.request_seconds)

    def drop_deadline(self, request: socket.socket) -> None:
        """The socket is closed elsewhere."""
        with self._deadlines_lock:
            self._deadlines.pop(request, None)

    def service_actions(self) -> None:
        """Hang up on those whose time is over, however slowly they send."""
        now = time.monotonic()
        with self._deadlines_lock:
            late = [each for each, deadline in self._deadlines.items() if deadline < now]
        for each in late:
            with suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)

    def _let_go(self, request: Any) -> None:
        self.drop_deadline(request)
        self._free.release()
