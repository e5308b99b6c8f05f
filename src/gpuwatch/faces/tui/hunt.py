"""Looks through the whole log on a thread of its own: backwards from the end, then along with what comes.

The newest lines are found first, because they are what a person looks at. The screen never waits for it; what was found so
far can be asked at any time. Also here: which rows are shown when only some are.
"""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import Protocol

from gpuwatch.adapters.spool import BLOCK_BYTES, Gone, Spool
from gpuwatch.faces.tui.search import Search

MOST_HITS = 4_000_000
_PIECE_BYTES = 4 * BLOCK_BYTES
_TELL_SECONDS = 0.1


class Hits:
    """Row numbers in order; they are found at both ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._back, self._ahead = array("Q"), array("Q")

    def __len__(self) -> int:
        return len(self._back) + len(self._ahead)

    def at(self, place: int) -> int:
        """The row at a place, from 0."""
        with self._lock:
            before = len(self._back)
            return self._back[before - 1 - place] if place < before else self._ahead[place - before]

    def rank(self, row: int) -> int:
        """How many are before this row."""
        with self._lock:
            before = len(self._back)
            if before and row <= self._back[0]:
                low, high = 0, before  # the first place, counted from the oldest, that is not before the row
                while low < high:
                    middle = (low + high) // 2
                    if self._back[before - 1 - middle] < row:
                        low = middle + 1
                    else:
                        high = middle
                return low
            return before + bisect_left(self._ahead, row)

    def holds(self, row: int) -> bool:
        """Whether the row is one of them."""
        place = self.rank(row)
        try:
            return self.at(place) == row
        except IndexError:
            return False

    def add_before(self, rows: list[int]) -> None:
        """Older ones, in order."""
        with self._lock:
            self._back.extend(reversed(rows))

    def add_after(self, rows: list[int]) -> None:
        """Newer ones, in order."""
        with self._lock:
            self._ahead.extend(rows)

    def forget_before(self, row: int) -> None:
        """The rows before this one are gone."""
        gone = self.rank(row)
        if gone:
            with self._lock:
                of_back = min(gone, len(self._back))
                del self._back[len(self._back) - of_back :]
                del self._ahead[: gone - of_back]


class Hunt:
    """One look through the log, and on through what comes."""

    def __init__(
        self,
        spool: Spool,
        wanted: Search | None,
        unwanted: Search | None = None,
        tell: Callable[[], object] = lambda: None,
    ) -> None:
        self.wanted, self.unwanted = wanted, unwanted
        self.hits = Hits()
        self.done = False
        """Whether everything that was there at first was looked at."""
        self.cut_short = False
        """Whether there are more than are counted, or a pattern took too long too often."""
        self._spool = spool
        self._tell = tell
        self._told_at = 0.0
        self._stop = threading.Event()
        self._news = threading.Event()
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was found stays."""
        self._stop.set()
        self._news.set()

    def wake(self) -> None:
        """More has come."""
        self._news.set()

    @property
    def progress(self) -> str:
        """A sign for the count: more may be found."""
        return "+" if self.cut_short else "" if self.done else "…"

    def _run(self) -> None:
        place = self._look_back()
        self.done = True
        self._tell()
        while not self._stop.is_set() and not self.cut_short:
            if place >= self._spool.end:
                self._news.wait()
                self._news.clear()
                continue
            place = self._look_on(place)

    def _look_back(self) -> int:
        """From the end to the begin; give where the end was."""
        spool = self._spool
        end_row = spool.rows
        last = end = spool.line_start(end_row)
        while end > spool.begin and not self._stop.is_set() and not self.cut_short:
            try:
                row = max(spool.row_at(max(end - _PIECE_BYTES, spool.begin)), spool.first_row)
                begin = spool.line_start(row)
                if begin >= end:
                    break
                found = self._rows_in(spool.read(begin, end - begin))
            except Gone:
                break
            self.hits.add_before([row + place for place in found])
            end = begin
            self._tell_soon()
        return last

    def _look_on(self, place: int) -> int:
        spool = self._spool
        end = min(spool.end, place + _PIECE_BYTES)
        try:
            row, end_row = spool.row_at(place), spool.row_at(end)
            whole = spool.line_start(end_row)
            if whole <= place:  # a line that is longer than a piece
                whole = spool.line_start(end_row + 1)
            found = self._rows_in(spool.read(place, whole - place))
        except Gone:
            self.hits.forget_before(spool.first_row)
            return spool.line_start(spool.first_row)
        self.hits.add_after([row + number for number in found])
        if found:
            self._tell_soon()
        return whole

    def _rows_in(self, lines: bytes) -> list[int]:
        if self.wanted is None:
            found = self.unwanted.rows_in(lines) if self.unwanted is not None else []
        else:
            found = self.wanted.rows_in(lines)
            if found and self.unwanted is not None:
                without = set(self.unwanted.rows_in(lines))
                found = [row for row in found if row not in without]
        over = any(search is not None and search.given_up for search in (self.wanted, self.unwanted))
        self.cut_short = over or len(self.hits) + len(found) > MOST_HITS
        return found

    def _tell_soon(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_SECONDS:
            self._told_at = now
            self._tell()


class Rowed(Protocol):
    """What knows its oldest row and the one that comes next."""

    @property
    def first(self) -> int:
        """The oldest."""

    @property
    def end(self) -> int:
        """The next."""


class Sheet:
    """Every row of a book, in order: place and row are the same but for the begin."""

    def __init__(self, book: Rowed) -> None:
        self.book = book

    @property
    def count(self) -> int:
        """How many rows are shown."""
        return max(self.book.end - self.book.first, 0)

    def row(self, place: int) -> int:
        """The row that is shown at a place; the next to come beyond the last."""
        return min(self.book.first + max(place, 0), self.book.end)

    def rank(self, row: int) -> int:
        """How many rows are shown before this one."""
        return min(max(row - self.book.first, 0), self.count)


class Only(Sheet):
    """The rows that were found."""

    def __init__(self, book: Rowed, hits: Hits) -> None:
        super().__init__(book)
        self.hits = hits

    @property
    def count(self) -> int:
        """How many were found."""
        return len(self.hits)

    def row(self, place: int) -> int:
        """The row that is shown at a place."""
        try:
            return self.hits.at(max(place, 0))
        except IndexError:
            return self.book.end

    def rank(self, row: int) -> int:
        """How many were found before this row."""
        return self.hits.rank(row)


class Without(Only):
    """The rows that were not found."""

    @property
    def count(self) -> int:
        """How many are left."""
        return max(self.book.end - self.book.first - len(self.hits), 0)

    def rank(self, row: int) -> int:
        """How many are left before this row."""
        return max(row - self.book.first - self.hits.rank(row), 0)

    def row(self, place: int) -> int:
        """The row that is shown at a place: the first one that has so many before it and is left."""
        low, high = self.book.first, self.book.end
        while low < high:
            middle = (low + high) // 2
            if self.rank(middle + 1) <= max(place, 0):
                low = middle + 1
            else:
                high = middle
        return low
