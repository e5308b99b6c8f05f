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


@dataclass(frozen=True, slots=True)
class Scan:
    """Whole lines, and where in them something may be told."""

    lines: bytes
    newlines: int
    hits: Sequence[Hit]
    """By rising offset in `lines`."""
    escaped: bool
    """Whether escape sequences stand in them."""
    count: CountNewlines = count_newlines
