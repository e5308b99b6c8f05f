"""Cuts a long log to whole lines and scans them before the engine reads them, on threads of its own where that is asked for.

The pieces come out in order, each with what was found in it. So little is scanned ahead that memory stays the same at any length
of log.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.matching.scan import CountNewlines, Scan, count_newlines

if TYPE_CHECKING:
    from concurrent.futures import Future

_LONGEST_LINE_BYTES = 1 << 20
"""Of a longer line, no whole is waited for: it is given in pieces, unscanned."""
_PIECE_BYTES = 64 << 10
"""Pieces of at least so many bytes: larger ones would not stay in a core's own cache while they are read, cut and scanned."""
_FULL_BYTES = 16 << 10
"""A shorter chunk ends what is there for now: nothing is waited for."""
_BATCH_BYTES = 1 << 20
"""What a thread is given at once: handing over costs more than a small piece."""
_AHEAD = 2
"""Pieces a thread that may be scanned and not yet taken."""
_MANY_BYTES = 128 << 20
"""From here on numpy, where it is installed, repays its import: it counts newlines ten times as fast as Python."""

Scanned = tuple[bytes, Scan | None]


def scanned(chunks: Iterable[bytes], matcher: Matcher, threads: int = 0) -> Iterator[Scanned]:
    """The bytes in order, in other pieces: whole lines with their scan, and what belongs to no whole line with none.

    `threads` scan ahead; with 0 this one scans, which is not slower on two cores: what a core has read, it has at hand.
    """
    pieces = whole_lines(chunks, _BATCH_BYTES if threads else _PIECE_BYTES)
    if not matcher.skips:
        yield from ((piece, None) for piece, _ in pieces)
        return
    count = Newlines()

    if threads == 0:
        yield from ((piece, matcher.scan(piece, count) if whole else None) for piece, whole in pieces)
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - it brings logging

    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        waiting: deque[tuple[bytes, Future[Scan] | None]] = deque()
        try:
            for piece, whole in pieces:
                waiting.append((piece, pool.submit(matcher.scan, piece, count) if whole else None))
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
        self._count: CountNewlines = count_newlines

    def __call__(self, data: bytes, begin: int, end: int) -> int:
        """How many stand there."""
        if self._left >= 0:
            self._left -= end - begin
            if self._left < 0:
                self._count = _counter()
        return self._count(data, begin, end)


def _counter() -> CountNewlines:
    try:
        import numpy as np  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - an extra's, and slow to import
    except ImportError:
        return count_newlines
    kept = threading.local()

    def count(data: bytes, begin: int, end: int) -> int:
        size = end - begin
        found = getattr(kept, "found", None)
        if found is None or len(found) < size:
            found = kept.found = np.empty(max(size, 2 * _PIECE_BYTES), np.bool_)
        np.equal(np.frombuffer(data, np.uint8, size, begin), ord("\n"), out=found[:size])
        return int(np.count_nonzero(found[:size]))

    return count
