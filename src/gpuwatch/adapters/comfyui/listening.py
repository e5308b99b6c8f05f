"""The websocket of a server: its queue as it changes, and its log once that is subscribed to."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from gpuwatch.adapters.comfyui.client import TIMEOUT_SECONDS, Client
from gpuwatch.errors import UnreachableError
from gpuwatch.texts import text

_MOST_FRAME_BYTES = 16 << 20
_PING_SECONDS = 20.0
_GOODBYE_SECONDS = 1.0


class SocketLostError(UnreachableError):
    """The socket could not be opened, or is gone."""


class Socket:
    """One connection under a client id of its own: with another's id we would take its place, and it would hear nothing."""

    def __init__(self, client: Client) -> None:
        self.client_id = f"gpuwatch-{uuid.uuid4().hex}"
        self._name = client.server.name
        try:
            opening = connect(
                client.server.socket_url(self.client_id),
                ssl=client.tls,
                additional_headers=dict(client.server.headers),
                compression=None,
                open_timeout=TIMEOUT_SECONDS,
                close_timeout=_GOODBYE_SECONDS,
                ping_interval=_PING_SECONDS,
                ping_timeout=_PING_SECONDS,
                max_size=_MOST_FRAME_BYTES,
                proxy=None,
            )
            self._goodbye = ExitStack()
            self._connection: ClientConnection = self._goodbye.enter_context(opening)
        except (OSError, WebSocketException, ValueError) as error:
            raise SocketLostError(
                text("{server}: its websocket cannot be opened: {error}", server=self._name, error=_words(error))
            ) from error

    def subscribe(self, client: Client) -> None:
        """Ask for the log. Raises NoAnswerError where the server has none to give."""
        client.send("PATCH", "/internal/logs/subscribe", {"clientId": self.client_id, "enabled": True})

    def next(self, timeout_seconds: float) -> Mapping[str, Any] | None:
        """The next frame; None where none came in time, and for one that says nothing to us."""
        try:
            frame = self._connection.recv(max(timeout_seconds, 0.0))
        except TimeoutError:
            return None
        except (OSError, WebSocketException) as error:
            raise SocketLostError(text("{server}: the websocket was closed.", server=self._name)) from error
        if isinstance(frame, bytes):
            return {}  # a preview image
        try:
            value = json.loads(frame)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def close(self) -> None:
        """Say goodbye; nobody waits long for an answer."""
        with suppress(OSError, WebSocketException):
            self._goodbye.close()


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
