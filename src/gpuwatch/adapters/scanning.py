"""Scans a long log ahead of the engine: on threads of its own, for the scanner lets other threads run meanwhile.

The chunks come out in order, cut to whole lines, each with what was found in it. So little is scanned ahead that memory stays
the same at any length of log.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.matching.scan import Scan

_LONGEST_LINE_BYTES = 1 << 20
"""Of a longer line, no whole is waited for: it is given in pieces, unscanned."""
_PIECE_BYTES = 1 << 20
_FULL_BYTES = 64 << 10
"""A shorter chunk ends what is there for now: nothing is waited for."""
_AHEAD = 2
"""Chunks a thread that may be scanned and not yet taken."""
_MANY_BYTES = 128 << 20
"""From here on numpy, where it is installed, repays its import: it counts newlines five times as fast as Python."""
_MOST_THREADS = 4

Scanned = tuple[bytes, Scan | None]


def scanned(chunks: Iterable[bytes], matcher: Matcher, threads: int | None = None) -> Iterator[Scanned]:
    """The bytes in order, in other pieces: whole lines with their scan, and what belongs to no whole line with none.

    `threads`: 0 scans in this one; None takes what the machine has, at most four.
    """
    if threads is None:
        threads = min(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _MOST_THREADS
        )
    lines = whole_lines(chunks)
    if not matcher.skips:
        yield from ((piece, None) for piece, _ in lines)
        return
    count = Newlines()
    if threads == 0:
        yield from ((piece, matcher.scan(piece, count) if whole else None) for piece, whole in lines)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        waiting: deque[tuple[bytes, Future[Scan] | None]] = deque()
        try:
            for piece, whole in lines:
                waiting.append((piece, pool.submit(partial(matcher.scan, piece, count)) if whole else None))
                if len(waiting) > _AHEAD * threads:
                    yield _taken(waiting)
        except Exception:  # an input that fails half-way has told something by then
            while waiting:
                yield _taken(waiting)
            raise
        while waiting:
            yield _taken(waiting)


def _taken(waiting: deque[tuple[bytes, Future[Scan] | None]]) -> Scanned:
    piece, scan = waiting.popleft()
    return piece, scan.result() if scan is not None else None


def whole_lines(chunks: Iterable[bytes], most_bytes: int = _PIECE_BYTES) -> Iterator[tuple[bytes, bool]]:
    """The same bytes, cut at line ends: each piece, and whether it is whole lines."""
    held: list[bytes] = []
    size_bytes = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            size_bytes += len(chunk)
            if size_bytes < most_bytes and len(chunk) >= _FULL_BYTES:
                continue  # more comes at once: a larger piece is scanned sooner than two small ones
            last = chunk if b"\n" in chunk else b"".join(held)
            end = last.rfind(b"\n") + 1
            if end:
                before = held[:-1] if last is chunk else ()
                yield b"".join((*before, memoryview(last)[:end])), True
                held = [last[end:]] if end < len(last) else []
                size_bytes = len(last) - end
            elif size_bytes > _LONGEST_LINE_BYTES:
                yield b"".join(held), False
                held, size_bytes = [], 0
    except Exception:  # an input that fails half-way has told something by then
        yield from _rest(held)
        raise
    yield from _rest(held)


def _rest(held: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    joined = b"".join(held)
    end = joined.rfind(b"\n") + 1
    if end:
        yield joined[:end], True
    if end < len(joined):
        yield joined[end:], False


class Newlines:
    """Counts newlines; after many bytes with numpy, where it is installed."""

    def __init__(self) -> None:
        self._left = _MANY_BYTES
        self._count: Callable[[bytes], int] | None = None

    def __call__(self, data: bytes) -> int:
        """How many there are."""
        if self._count is not None:
            return self._count(data)
        self._left -= len(data)
        if self._left < 0:
            self._count = _counter()
        return data.count(b"\n")


def _counter() -> Callable[[bytes], int]:
    try:
        import numpy as np  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - an extra's, and slow to import
    except ImportError:
        return lambda data: data.count(b"\n")
    newline = np.uint8(ord("\n"))
    return lambda data: int(np.count_nonzero(np.frombuffer(data, np.uint8) == newline))
