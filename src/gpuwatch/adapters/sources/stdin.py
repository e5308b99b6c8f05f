"""Standard input: a program's output piped into gpuwatch.

The screen needs fd 0 for its keys, so a pipe there is moved aside and the terminal put in its place; that has to happen
before anything of Textual is imported, which reads keys from fd 0. Nothing is kept: what was read is handed on at once, in
UTF-8 whatever the program at the other end writes.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.sources import Emit
from gpuwatch.adapters.sources.decoding import decoded
from gpuwatch.core.observations import LogChunk, SourceKind
from gpuwatch.texts import Text, text

CHUNK_BYTES = 256 * 1024

_LOOK_UP_MILLISECONDS = 100
_STANDARD_INPUT = 0


class StdinSource:
    """Reads a pipe to its end.

    A descriptor that is given is closed when the source ends, so that the program at the other end of the pipe ends too.
    """

    kind: SourceKind = "stdin"
    name = "stdin"

    def __init__(self, fd: int | None = None, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._descriptor = fd
        self._clock = clock

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Read until the pipe ends or `stop` is set."""
        descriptor = _STANDARD_INPUT if self._descriptor is None else self._descriptor
        try:
            for data in pipe_chunks(descriptor, stop):
                if data and not emit(LogChunk(self._clock(), self.name, data, self.kind)):
                    break
            else:
                if not stop.is_set():
                    return text("the pipe ended")
            return text("stopped")
        finally:
            if self._descriptor is not None:
                os.close(descriptor)


def pipe_chunks(descriptor: int, stop: threading.Event) -> Iterator[bytes]:
    """What comes through a pipe, in UTF-8, until it ends or `stop` is set; no bytes at all where it was quiet for a while."""
    return decoded(_reads(descriptor, stop))


def _reads(descriptor: int, stop: threading.Event) -> Iterator[bytes]:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while not stop.is_set():
        if not poll.poll(_LOOK_UP_MILLISECONDS):
            yield b""
            continue
        try:
            data = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            continue
        except OSError:
            return  # a terminal that was hung up
        if not data:
            return
        yield data


def take_terminal() -> int | None:
    """Put the terminal in the place of a piped standard input and give the pipe's new descriptor.

    None, and nothing changed, where standard input is a terminal already or there is no terminal to be had.
    """
    if os.isatty(_STANDARD_INPUT):
        return None
    try:
        pipe = os.dup(_STANDARD_INPUT)
    except OSError:
        return None
    terminal = _open_terminal()
    if terminal is None:
        os.close(pipe)
        return None
    os.dup2(terminal, _STANDARD_INPUT)
    os.close(terminal)
    return pipe


def _open_terminal() -> int | None:
    for printed_to in (None, 1, 2):  # without a controlling terminal, the one that we print to
        with suppress(OSError):
            path = "/dev/tty" if printed_to is None else os.ttyname(printed_to)
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    return None
