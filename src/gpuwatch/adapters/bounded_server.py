"""An HTTP server that nobody can hold up: so many connections, so long for each, a thread a connection.

`ThreadingHTTPServer` takes any number, waits for a slow sender without end, and asks a name server for its own name when it
starts. What is answered is its handler's business.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gpuwatch.adapters.hangup import hang_up

_LEAST_WAIT_SECONDS = 0.1
"""Between two looks at deadlines that are over: who was hung up on takes a moment to go."""


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
        self._wake, self._woken = socket.socketpair()
        self._ended = threading.Event()
        if ":" in host_name:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host_name, port), handler)
        except BaseException:
            self._close_wake()
            raise

    def serve_forever(self, poll_interval: float | None = None) -> None:
        """Serve until `shutdown`. Nothing is polled: it wakes for a connection, for a deadline, and for its end."""
        del poll_interval
        self.timeout = 0
        try:
            with selectors.DefaultSelector() as ready:
                ready.register(self, selectors.EVENT_READ)
                ready.register(self._woken, selectors.EVENT_READ)
                while True:
                    arrived = {key.fileobj for key, _events in ready.select(self._seconds_to_deadline())}
                    if self._woken in arrived:
                        return
                    if self in arrived:
                        self.handle_request()
                    self.service_actions()
        finally:
            self._ended.set()

    def shutdown(self) -> None:
        """End `serve_forever`, and wait for that; from another thread."""
        self._wake.send(b"\0")
        self._ended.wait()

    def server_close(self) -> None:
        """Give the port back."""
        super().server_close()
        self._close_wake()

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
            hang_up(each)

    def _seconds_to_deadline(self) -> float | None:
        """Until the next connection's time is over; None where there is none."""
        with self._deadlines_lock:
            earliest = min(self._deadlines.values(), default=None)
        return None if earliest is None else max(earliest - time.monotonic(), _LEAST_WAIT_SECONDS)

    def _close_wake(self) -> None:
        self._wake.close()
        self._woken.close()

    def _let_go(self, request: Any) -> None:
        self.drop_deadline(request)
        self._free.release()
