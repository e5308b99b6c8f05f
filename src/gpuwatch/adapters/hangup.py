"""Ending what another thread waits for on a socket: its read returns at once, and only that thread closes it."""

from __future__ import annotations

import socket
from contextlib import suppress


def hang_up(connection: socket.socket | None) -> None:
    """End a connection whose wait is under way; of one that is not open, nothing."""
    if connection is not None:
        with suppress(OSError):
            # Not TLS's own: that takes the session away from under the thread that reads.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
