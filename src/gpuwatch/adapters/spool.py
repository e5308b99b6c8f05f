"""Whole lines of text on disk, for whoever shows a log that is longer than memory is large.

One file without a name, used as a ring: what is read goes round in it, the oldest bytes go first, and the file ends with the
process however that ends. Beside it stands an index with a few numbers for every 64 KiB, so that any line is found by one
search in it and one look into a block. Where the disk is full, the last lines are kept in memory instead, and `trouble`
says so. What the lines mean is not known here.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

BLOCK_BYTES = 64 * 1024
MOST_BYTES = 2 << 30
MEMORY_BYTES = 8 << 20
"""What is kept where there is no disk to keep it on."""
_FREE_SHARE = 2
"""At most a half of what is free when the spool is made."""
_BLOCKS_AT_HAND = 16

Counter = Callable[[bytes], tuple[int, int]]
"""How many lines of a piece are errors, and how many are warnings."""


class Gone(LookupError):  # noqa: N818 - it is no mistake of anybody's
    """The bytes were there once and were written over."""


def nothing_counted(_piece: bytes) -> tuple[int, int]:
    """For lines whose levels nobody asks for."""
    return 0, 0


class Spool:
    """The lines. One thread appends, any number read."""

    def __init__(
        self, most_bytes: int = MOST_BYTES, folder: Path | None = None, count_levels: Counter = nothing_counted
    ) -> None:
        self.trouble: str | None = None
        """Why the lines are in memory and not on disk."""
        self.end = 0
        """Bytes that were ever appended: the offset where the next ones go."""
        self.rows = 0
        """Lines that were ever appended."""
        self._lock = threading.RLock()
        self._count_levels = count_levels
        self._file: int | None = None
        self._let_go: Callable[[], object] = lambda: None
        self._memory = bytearray()
        self.most_bytes = MEMORY_BYTES
        self._first_block = 0
        self._lines = array("q", [0])
        """Newlines before each block that is kept."""
        self._errors, self._warnings = array("I", [0]), array("I", [0])
        self._at_hand: OrderedDict[tuple[int, int], tuple[bytes, array[int]]] = OrderedDict()
        self._open(max(most_bytes, 2 * BLOCK_BYTES), folder)

    def _open(self, most_bytes: int, folder: Path | None) -> None:
        folder = folder or spool_folder()
        try:
            with suppress(AttributeError):
                free = os.statvfs(folder)
                most_bytes = max(min(most_bytes, free.f_bavail * free.f_frsize // _FREE_SHARE), 2 * BLOCK_BYTES)
            self._file, path = tempfile.mkstemp(prefix="gpuwatch-", dir=folder)
            self._let_go = weakref.finalize(self, os.close, self._file)
            Path(path).unlink()
        except OSError as error:
            self._to_memory(error)
        else:
            self.most_bytes = most_bytes // BLOCK_BYTES * BLOCK_BYTES

    def close(self) -> None:
        """Give the disk's room back."""
        with self._lock:
            if self._file is not None:
                self._let_go()
                self._file = None
                self._memory = bytearray()
                self._first_block = self.end // BLOCK_BYTES + 1

    # -- writing ---------------------------------------------------------------------------------------------------------

    def append(self, lines: bytes) -> None:
        """Add whole lines; the last byte is a newline."""
        place = 0
        while place < len(lines):
            piece = lines[place : place + BLOCK_BYTES - self.end % BLOCK_BYTES]
            self._append_piece(piece)
            place += len(piece)

    def _append_piece(self, piece: bytes) -> None:
        """Add bytes that lie in one block."""
        errors, warnings = self._count_levels(piece)
        newlines = piece.count(b"\n")
        with self._lock:
            self._make_room(len(piece))
            try:
                self._write(self.end, piece)
            except OSError as error:
                self._to_memory(error)
                self._write(self.end, piece)
            block = self.end // BLOCK_BYTES - self._first_block
            self._errors[block] += errors
            self._warnings[block] += warnings
            self.end += len(piece)
            self.rows += newlines
            if self.end % BLOCK_BYTES == 0:
                self._lines.append(self.rows)
                self._errors.append(0)
                self._warnings.append(0)

    def _write(self, offset: int, piece: bytes) -> None:
        """Put bytes that lie in one block where they belong."""
        place = offset % self.most_bytes
        if self._file is None:
            if len(self._memory) < place + len(piece):
                self._memory.extend(bytes(place + len(piece) - len(self._memory)))
            self._memory[place : place + len(piece)] = piece
            return
        written = 0
        while written < len(piece):
            written += os.pwrite(self._file, piece[written:], place + written)

    def _make_room(self, size: int) -> None:
        """Forget the blocks that the next bytes are written over."""
        self._forget_before(-(-(self.end + size - self.most_bytes) // BLOCK_BYTES))

    def _forget_before(self, block: int) -> None:
        if (gone := block - self._first_block) > 0:
            for column in (self._lines, self._errors, self._warnings):
                del column[:gone]
            self._first_block = block

    def _to_memory(self, error: OSError) -> None:
        """Keep the last lines in memory, and give back what was taken of the disk."""
        self.trouble = error.strerror or str(error)
        self._forget_before(-(-(self.end - MEMORY_BYTES) // BLOCK_BYTES) + 1)
        begin = self.begin
        try:
            kept = self.read(begin, self.end - begin)
        except (OSError, Gone):  # nothing of it can be read: empty lines stand for those of the block that is open
            self._forget_before(self.end // BLOCK_BYTES)
            begin = self.begin
            kept = (b"\n" * (self.rows - self._lines[0])).rjust(self.end - begin)
        if self._file is not None:
            self._let_go()
            self._file = None
        self.most_bytes = MEMORY_BYTES
        self._memory = bytearray()
        self._at_hand.clear()
        for place in range(0, len(kept), BLOCK_BYTES):
            self._write(begin + place, kept[place : place + BLOCK_BYTES])

    # -- reading ---------------------------------------------------------------------------------------------------------

    @property
    def begin(self) -> int:
        """The offset of the oldest byte that is kept."""
        return min(self._first_block * BLOCK_BYTES, self.end)

    @property
    def first_row(self) -> int:
        """The oldest line that is kept whole."""
        with self._lock:
            return 0 if not self._first_block else min(self._lines[0] + 1, self.rows)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes as they were appended; Gone where the ring has gone over them."""
        pieces = []
        end = min(offset + size, self.end)
        begin = offset
        while offset < end:
            place = offset % self.most_bytes
            length = min(end - offset, self.most_bytes - place)
            piece = self._piece(place, length)
            if not piece:
                raise Gone
            pieces.append(piece)
            offset += len(piece)
        if begin < self._first_block * BLOCK_BYTES:
            raise Gone
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, place: int, length: int) -> bytes:
        if self._file is None:
            return bytes(self._memory[place : place + length])
        return os.pread(self._file, length, place)

    def line_start(self, row: int) -> int:
        """The offset where a line begins; the end for the one that comes next."""
        with self._lock:
            if row <= 0 and not self._first_block:
                return 0
            if row >= self.rows:
                return self.end
            place = bisect_left(self._lines, row) - 1
            if place < 0:
                raise Gone
            block, before = self._first_block + place, self._lines[place]
            _data, newlines = self._block(block)
            return block * BLOCK_BYTES + newlines[row - before - 1] + 1

    def line(self, row: int, most_bytes: int) -> tuple[bytes, int]:
        """A line without its newline, at most so many bytes of it, and how long it is."""
        with self._lock:
            if not self.first_row <= row < self.rows:
                raise Gone
            start = self.line_start(row)
            length = self.line_start(row + 1) - 1 - start
            block, place = divmod(start, BLOCK_BYTES)
            wanted = min(length, most_bytes)
            if place + wanted <= BLOCK_BYTES:
                return self._block(block)[0][place : place + wanted], length
            return self.read(start, wanted), length

    def row_at(self, offset: int) -> int:
        """The line that holds this byte."""
        with self._lock:
            offset = min(max(offset, self.begin), self.end)
            place = offset // BLOCK_BYTES - self._first_block
            if offset >= self.end:
                return self.rows
            _data, newlines = self._block(offset // BLOCK_BYTES)
            return self._lines[place] + bisect_left(newlines, offset % BLOCK_BYTES)

    def _block(self, block: int) -> tuple[bytes, array[int]]:
        """A block's bytes and where its newlines are; the last few are at hand."""
        length = min(self.end - block * BLOCK_BYTES, BLOCK_BYTES)
        key = (block, length)
        if (known := self._at_hand.get(key)) is not None:
            self._at_hand.move_to_end(key)
            return known
        data = self.read(block * BLOCK_BYTES, length)
        known = data, array("H", newline_places(data))
        self._at_hand[key] = known
        if len(self._at_hand) > _BLOCKS_AT_HAND:
            self._at_hand.popitem(last=False)
        return known

    # -- what the index tells --------------------------------------------------------------------------------------------

    def levels(self, first_row: int, end_row: int) -> tuple[int, int]:
        """Errors and warnings in the blocks that hold these lines, or begin among them."""
        with self._lock:
            first = max(bisect_right(self._lines, first_row) - 1, 0)
            last = max(bisect_left(self._lines, end_row), first + 1)
            return sum(self._errors[first:last]), sum(self._warnings[first:last])

    @property
    def blocks(self) -> int:
        """How many blocks are kept."""
        return len(self._lines)

    def tallies(self) -> Iterator[tuple[int, int, int, int]]:
        """Of each block: the line that goes on or begins in it first, lines that end in it, errors, warnings."""
        with self._lock:
            lines, rows, errors, warnings = self._lines[:], self.rows, self._errors[:], self._warnings[:]
        for place, begin in enumerate(lines):
            end = lines[place + 1] if place + 1 < len(lines) else rows
            if end > begin:
                yield begin, end - begin, errors[place], warnings[place]


def newline_places(data: bytes) -> Iterator[int]:
    """Where the newlines are."""
    place = data.find(b"\n")
    while place >= 0:
        yield place
        place = data.find(b"\n", place + 1)


def spool_folder() -> Path:
    """Where a large temporary file belongs: where TMPDIR says, else /var/tmp, because /tmp is often memory."""
    if os.environ.get("TMPDIR"):
        return Path(tempfile.gettempdir())
    large = Path("/var/tmp")  # noqa: S108 - the file has no name there
    return large if os.access(large, os.W_OK) else Path(tempfile.gettempdir())
