"""Wakes who waits for a file to grow, where Linux tells of it; elsewhere, and where it stays silent, time alone does.

A log that is quiet is looked at seldom, and what is then written in a burst should not wait for the next look. Network and
overlay mounts tell nothing, so that nobody may rest on this alone.
"""

from __future__ import annotations

import ctypes
import os
import select
import sys
import threading
from contextlib import suppress

_MODIFIED = 0x2
_FLAGS = os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0) if sys.platform == "linux" else 0
_EVENTS_BYTES = 4096


class Notices:
    """Waits for writes to one file at a time."""

    def __init__(self) -> None:
        self._library = _library()
        self._descriptor = self._watched = -1

    def watch(self, path: str) -> None:
        """Hear of writes to the file that is at this path now, in the place of the one before."""
        if self._library is None:
            return
        if self._descriptor < 0:
            self._descriptor = self._library.inotify_init1(_FLAGS)
        elif self._watched >= 0:
            self._library.inotify_rm_watch(self._descriptor, self._watched)
        self._watched = self._library.inotify_add_watch(self._descriptor, os.fsencode(path), _MODIFIED)

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait for so long, or until something was written; without notices, or until told to stop."""
        if self._descriptor < 0 or self._watched < 0:
            stop.wait(seconds)
            return
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        if waiting.poll(1000 * seconds):
            with suppress(OSError):
                os.read(self._descriptor, _EVENTS_BYTES)

    def close(self) -> None:
        """Hear of nothing more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = self._watched = -1


def _library() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL(None, use_errno=True)
        _ = library.inotify_init1, library.inotify_add_watch, library.inotify_rm_watch
    except (OSError, AttributeError):
        return None
    return library
