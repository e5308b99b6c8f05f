"""Where in whole lines of a log something may be told: what looking ahead over them found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Hit = tuple[int, int]
"""An offset on the line that a probe was found on, and the probe's place."""

CountNewlines = Callable[[bytes, int, int], int]
"""How many newlines stand in these bytes from here to there."""


def count_newlines(data: bytes, begin: int, end: int) -> int:
    """The plain way."""
    return data.count(b"\n", begin, end)


@dataclass(slots=True)
class Scan:
    """Whole lines, and where in them something may be told."""

    held: bytes | Callable[[], bytes]
    """The lines, and perhaps more on either side: to cut them out would cost a copy of the log. Or what gets them."""
    begin: int
    end: int
    newlines: int
    hits: Sequence[Hit]
    """By rising offset in `data`; only of the lines."""
    escaped: bool
    """Whether escape sequences stand in them, or spaces that no program prints."""
    count: CountNewlines = count_newlines

    @property
    def data(self) -> bytes:
        """The bytes that `begin` and `end` speak of; fetched when they are first asked for, which in a calm log is seldom."""
        if not isinstance(self.held, bytes):
            self.held = self.held()
        return self.held

    @property
    def lines(self) -> bytes:
        """The lines alone."""
        return self.data[self.begin : self.end]

    @property
    def size_bytes(self) -> int:
        """Of the lines."""
        return self.end - self.begin
