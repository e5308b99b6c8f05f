"""A whole log, once, in order, looked through before the engine reads it.

What comes as a stream is cut to whole lines and scanned piece by piece. A plain file is read in blocks that need nothing of one
another, so that several processes can look through it, each on a core that has at hand what it read. So little is read ahead that
memory stays the same at any length of log.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from io import FileIO
from pathlib import Path

from gpuwatch.adapters.forked import in_order
from gpuwatch.adapters.newlines import newline_counter
from gpuwatch.adapters.sources.decoding import Decoder, decoded
from gpuwatch.adapters.sources.opening import CHUNK_BYTES, is_plain, opened, read_file_chunks
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.matching.scan import Hit, Scan
from gpuwatch.core.rejoining import LONGEST_PASTED_BYTES, rejoined
from gpuwatch.errors import unreadable

_LONGEST_LINE_BYTES = 1 << 20
"""Of a longer line, no whole is waited for: it is given in pieces, unscanned."""
_PIECE_BYTES = 64 << 10
"""Pieces of at least so many bytes: much larger ones would not stay in a core's own cache while they are read, cut and scanned."""
_FULL_BYTES = 16 << 10
"""A shorter chunk ends what is there for now: nothing is waited for."""
_BLOCK_BYTES = 256 << 10
_OVER_BYTES = 4 << 10
"""Read beyond a block, for the end of its last line: longer lines take a second read."""
_MANY_BYTES = 64 << 20
"""From here on a second process repays its start."""

Piece = bytes | Scan
"""Bytes that were not looked through, or whole lines that were."""
_Found = tuple[int, int, int, int, Sequence[Hit], bool, bool, bool]
"""A block: where in the file its bytes begin; where in them its lines begin and end; their newlines and hits; whether escape
sequences stand in them; whether all is ASCII, or need not be; whether what follows has to be read in order, because the file ends
or a line is too long to be waited for."""


def scanned(chunks: Iterable[bytes], matcher: Matcher) -> Iterator[Piece]:
    """A stream's bytes in order, in other pieces: whole lines scanned, and what belongs to no whole line as it is."""
    for piece, whole in whole_lines(chunks):
        yield matcher.scan(piece, 0, len(piece)) if whole and matcher.skips else piece


def scanned_file(path: str, matcher: Matcher, workers: int | None = None) -> Iterator[Piece]:
    """A whole file's bytes in order, unpacked and in UTF-8. With two `workers` or more that many processes look through it.

    By default two do where the file is large and there are two cores. Raises UsageError as `read_file_chunks` does.
    """
    if not matcher.skips or not is_plain(path):
        yield from scanned(as_printed(read_file_chunks(path)), matcher)
        return
    place = Path(path)
    with opened(place) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if workers is None:
            workers = 2 if size_bytes >= _MANY_BYTES and _cores() > 1 else 1
        try:
            if size_bytes <= LONGEST_PASTED_BYTES:
                written = os.pread(file.fileno(), LONGEST_PASTED_BYTES, 0)
                if (printed := rejoined(written)) != written:
                    yield from scanned(decoded([printed]), matcher)
                    return
            yield from _Blocks(file, matcher).scanned(workers)
        except OSError as error:
            raise unreadable(place, error) from error


def as_printed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes; a short log as it was before a window's edge cut its lines."""
    held: list[bytes] = []
    size_bytes = 0
    coming = iter(chunks)
    try:
        for chunk in coming:
            held.append(chunk)
            size_bytes += len(chunk)
            if size_bytes > LONGEST_PASTED_BYTES:
                break
    except Exception:  # an input that fails half-way has told something by then
        yield from held
        raise
    yield from held if size_bytes > LONGEST_PASTED_BYTES else [rejoined(b"".join(held))]
    yield from coming


def _cores() -> int:
    """How many this process may use, where the system says."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def whole_lines(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The same bytes, cut at line ends: each piece, and whether it is whole lines."""
    held: list[bytes] = []
    size_bytes = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            size_bytes += len(chunk)
            if size_bytes < _PIECE_BYTES and len(chunk) >= _FULL_BYTES:
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


class _Blocks:
    """A plain file in blocks. A line belongs to the block that its first byte lies in."""

    def __init__(self, file: FileIO, matcher: Matcher) -> None:
        self._file = file
        self._matcher = matcher
        self._count = newline_counter()
        self._decoder = Decoder()
        self._kept = b""
        """The block that was read last in this process."""

    def scanned(self, workers: int) -> Iterator[Piece]:
        """The whole file, block by block, and in order from where that no longer serves."""
        read_to = 0
        for number, found in enumerate(in_order(self._found, workers)):
            at, begin, end, newlines, hits, escaped, plain, last = found
            held: bytes | Callable[[], bytes] = self._kept or partial(self._again, at, end)
            if last and callable(held):  # while the file is open, for who looks back on it later
                held = held()
            self._kept = b""
            scan = Scan(held, begin, end, newlines, hits, escaped, self._count)
            read_to = max(read_to, at + end)
            if not self._decoder.settled and not (plain and number):
                lines = scan.lines
                if (given := self._decoder.feed(lines)) != lines:
                    yield given
                    break
            if begin < end:
                yield scan
        yield from scanned(decoded(self._chunks(read_to), self._decoder), self._matcher)

    def _chunks(self, at: int) -> Iterator[bytes]:
        while chunk := os.pread(self._file.fileno(), CHUNK_BYTES, at):
            at += len(chunk)
            yield chunk

    def _found(self, number: int) -> _Found:
        """Read one block and scan it."""
        at = max(number * _BLOCK_BYTES - 1, 0)  # the byte before tells whether a line begins with the block
        edge = (number + 1) * _BLOCK_BYTES - 1 - at
        """The block's last byte: the first newline from here on ends its last line."""
        data, whole = self._read(at, edge + 1 + _OVER_BYTES)
        begin = data.find(b"\n", 0, edge) + 1 if number else 0
        last = len(data) <= edge + 1
        if number and not begin:
            end = begin = 0
        else:
            end = data.find(b"\n", edge) + 1
            while not end and not whole and len(data) < _LONGEST_LINE_BYTES:
                more, whole = self._read(at + len(data), len(data))
                data += more
                end = data.find(b"\n", edge) + 1
            if not end:
                last, end = True, data.rfind(b"\n") + 1
            end = max(end, begin)
        self._kept = data
        plain = self._decoder.settled or data.isascii()
        if begin == end:
            return at, begin, end, 0, [], False, plain, last
        scan = self._matcher.scan(data, begin, end, self._count)
        return at, begin, end, scan.newlines, scan.hits, scan.escaped, plain, last

    def _read(self, at: int, most: int) -> tuple[bytes, bool]:
        """At most so many bytes from there, and whether the file ends with them."""
        data = os.pread(self._file.fileno(), most, at)
        while len(data) < most:
            more = os.pread(self._file.fileno(), most - len(data), at + len(data))
            if not more:
                return data, True
            data += more
        return data, False

    def _again(self, at: int, size_bytes: int) -> bytes:
        """Lines that another process has scanned. Where the file was emptied or written anew meanwhile they are still lines."""
        data = b""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the file is closed by now
            data, _ = self._read(at, size_bytes)
        if not data.endswith(b"\n"):  # who looks for the end of a line finds one
            data = data[:-1]
        return data.ljust(size_bytes, b"\n")
