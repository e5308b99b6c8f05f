"""Where in whole lines of a log something may be told: what looking ahead over them found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Hit = tuple[int, int]
"""An offset on the line that a probe was found on, and the probe's place."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Whole lines, and where in them something may be told."""

    lines: bytes
    newlines: int
    hits: Sequence[Hit]
    """By rising offset in `lines`."""
    escaped: bool
    """Whether escape sequences stand in them."""
