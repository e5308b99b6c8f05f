"""The websocket of a server: its queue as it changes, and its log once that is subscribed to.

A server that works sends ten frames a second, each a bar drawn anew. So frames are read on the thread that asks for them:
handed over from another one, each would wake two.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
import time
import uuid
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from gpuwatch.adapters.comfyui.client import TIMEOUT_SECONDS, Client
from gpuwatch.adapters.hangup import hang_up
from gpuwatch.errors import UnreachableError
from gpuwatch.texts import text

_MOST_FRAME_BYTES = 16 << 20
_PIECE_BYTES = 1 << 16
_PING_SECONDS = 20.0
_WAITS = (TimeoutError, BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class SocketLostError(UnreachableError):
    """The socket could not be opened, or is gone."""


class Socket:
    """One connection under a client id of its own: with another's id we would take its place, and it would hear nothing."""

    def __init__(self, client: Client) -> None:
        self.client_id = f"gpuwatch-{uuid.uuid4().hex}"
        self._name = client.server.name
        self._frames: deque[Frame] = deque()
        self._pieces: list[bytes] = []
        self._socket: socket.socket | None = None
        try:
            self._protocol = ClientProtocol(
                parse_uri(client.server.socket_url(self.client_id)), max_size=_MOST_FRAME_BYTES
            )
            self._open(client)
        except (OSError, WebSocketException, ValueError) as error:
            self._hang_up()
            raise SocketLostError(
                text("{server}: its websocket cannot be opened: {error}", server=self._name, error=_words(error))
            ) from error
        self._asked_at, self._awaits_answer = time.monotonic(), False

    def subscribe(self, client: Client) -> None:
        """Ask for the log. Raises NoAnswerError where the server has none to give."""
        client.send("PATCH", "/internal/logs/subscribe", {"clientId": self.client_id, "enabled": True})

    def next(self, timeout_seconds: float) -> Mapping[str, Any] | None:
        """The next frame that says something; None where none came in time."""
        deadline = time.monotonic() + timeout_seconds
        tried = False
        try:
            while True:
                while self._frames:
                    if (said := self._message(self._frames.popleft())) is not None:
                        return said
                left_seconds = deadline - time.monotonic()
                if left_seconds <= 0 and tried:
                    return None
                if self._protocol.state is not State.OPEN:
                    raise ConnectionResetError
                self._keep_alive(received=self._receive(min(max(left_seconds, 0.0), _PING_SECONDS)))
                tried = True
        except OSError as error:
            raise SocketLostError(text("{server}: the websocket was closed.", server=self._name)) from error

    def abort(self) -> None:
        """End the wait that is under way; from another thread."""
        hang_up(self._socket)

    def close(self) -> None:
        """Say goodbye; nobody waits for an answer."""
        with suppress(OSError, WebSocketException):
            self._protocol.send_close()
            self._send()
        self._hang_up()

    def _open(self, client: Client) -> None:
        server, until = client.server, time.monotonic() + TIMEOUT_SECONDS
        self._socket = socket.create_connection((server.host, server.port), TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if client.tls is not None:
            self._socket = client.tls.wrap_socket(self._socket, server_hostname=server.host)
        request = self._protocol.connect()
        request.headers["User-Agent"] = "gpuwatch"
        for name, value in server.headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        self._send()
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            if (left_seconds := until - time.monotonic()) <= 0:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            self._receive(left_seconds)
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc

    def _message(self, frame: Frame) -> Mapping[str, Any] | None:
        """What a message says that is whole with this frame; None where it is not, or says nothing to us."""
        if frame.opcode is Opcode.TEXT or (frame.opcode is Opcode.CONT and self._pieces):
            self._pieces.append(bytes(frame.data))
            if frame.fin:
                whole, self._pieces = b"".join(self._pieces), []
                with suppress(ValueError, RecursionError):
                    value = json.loads(whole)
                    return value if isinstance(value, dict) else None
        return None  # binary ones are preview images

    def _receive(self, timeout_seconds: float) -> bool:
        """Take what has come, or comes in time; whether anything did."""
        assert self._socket is not None  # noqa: S101 - opening would have raised
        self._socket.settimeout(timeout_seconds)
        try:
            data = self._socket.recv(_PIECE_BYTES)
        except _WAITS:
            return False
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._frames.extend(event for event in self._protocol.events_received() if isinstance(event, Frame))
        self._send()
        return True

    def _keep_alive(self, *, received: bool) -> None:
        """Ask for a sign of life where none came of itself: a server that is gone closes nothing."""
        now = time.monotonic()
        if received:
            self._asked_at, self._awaits_answer = now, False
        elif now - self._asked_at >= _PING_SECONDS:
            if self._awaits_answer:
                raise TimeoutError
            self._protocol.send_ping(b"")
            self._send()
            self._asked_at, self._awaits_answer = now, True

    def _send(self) -> None:
        """Send what the protocol has to say: requests, answers to pings, goodbyes."""
        assert self._socket is not None  # noqa: S101 - opening would have raised
        for piece in self._protocol.data_to_send():
            self._socket.settimeout(TIMEOUT_SECONDS)
            if piece:
                self._socket.sendall(piece)
            else:  # the end of all that we say
                self._socket.shutdown(socket.SHUT_WR)

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
