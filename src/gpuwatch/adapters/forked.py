"""A row of things made ahead by processes that share nothing but the machine.

Python's threads take turns, and what looks through a log would wait for its turn after every few microseconds of work. A forked
process holds what its parent held when it asked, so nothing has to be handed to it; what it makes comes back in order through a
pipe, which also keeps it from running far ahead.
"""

from __future__ import annotations

import contextlib
import io
import marshal
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

_BATCH = 4
"""Made and handed over at once."""

Made = tuple[Any, ...]
"""What `marshal` can write; false at its end where more follow, true in the last of all."""


@dataclass(frozen=True, slots=True)
class _Helper:
    pid: int
    pipe: io.BufferedReader


def in_order(make: Callable[[int], Made], workers: int) -> Iterator[Made]:
    """What `make` gives for 0, 1, 2 and so on, to the last.

    With fewer than two workers, on a system that cannot fork, and from where one ended early, it is made here when it is taken.
    """
    number = 0
    helpers = _forked(make, workers) if workers > 1 and hasattr(os, "fork") else []
    try:
        while True:
            batch = _received(helpers[number // _BATCH % workers].pipe) if helpers else None
            if batch is None:
                _end(helpers)
                batch, helpers = [make(number)], []
            for made in batch:
                yield made
                if made[-1]:
                    return
            number += len(batch)
    finally:
        _end(helpers)


def _forked(make: Callable[[int], Made], workers: int) -> list[_Helper]:
    helpers: list[_Helper] = []
    try:
        for worker in range(workers):
            reads, writes = os.pipe()
            pid = os.fork()
            if not pid:
                _help(make, range(worker * _BATCH, 1 << 60, workers * _BATCH), writes, [reads, *_pipes(helpers)])
            os.close(writes)
            helpers.append(_Helper(pid, os.fdopen(reads, "rb")))
    except OSError:  # no more processes or pipes are to be had
        _end(helpers)
        return []
    return helpers


def _help(make: Callable[[int], Made], firsts: range, writes: int, others: Sequence[int]) -> NoReturn:
    """The life of a helper. It ends when all is made, or when nobody reads what it writes."""
    with contextlib.suppress(BaseException):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent is interrupted too, and closes the pipe
        for other in others:
            os.close(other)
        with os.fdopen(writes, "wb") as pipe:
            for first in firsts:
                batch: list[Made] = []
                while len(batch) < _BATCH and not (batch and batch[-1][-1]):
                    batch.append(make(first + len(batch)))
                marshal.dump(batch, pipe)
                pipe.flush()
                if batch[-1][-1]:
                    break
    os._exit(0)


def _received(pipe: io.BufferedReader) -> list[Made] | None:
    """The next that a helper made; None where it ended."""
    try:
        batch: list[Made] = marshal.load(pipe)  # noqa: S302 - a child of this very process wrote it
    except (EOFError, ValueError, TypeError, OSError):
        return None
    return batch


def _pipes(helpers: Sequence[_Helper]) -> list[int]:
    return [helper.pipe.fileno() for helper in helpers]


def _end(helpers: Sequence[_Helper]) -> None:
    for helper in helpers:
        helper.pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(helper.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(helper.pid, 0)
