"""A row of the screen's log: a line as it was printed, and what a person sees of it.

Lines are cut only when they come into view. What a line's words are here is for reading; what they mean is the engine's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpuwatch.core.records import Cutter, Level, LogRecord
from gpuwatch.texts import visible

LONGEST_SHOWN = 4_000
"""Characters of a line that are shown."""
LONGEST_LINE_BYTES = 64 * 1024
"""Bytes of a line without an end that are kept."""
_COLOURS = re.compile(rb"\x1b\[[0-9;:]*m")
_CLOCK = re.compile(rb"\d\d:\d\d:\d\d")
_TAGS = ((b"ERROR", 0), (b"CRITICAL", 0), (b"FATAL", 0), (b"WARN", 1))
_TAG_WITHIN = 80
_AFTER_TAG = frozenset(b"]: -|\x1b\tI")


def tagged_lines(piece: bytes) -> tuple[int, int]:
    """How many lines say by a tag near their begin that they are errors, and how many that they are warnings."""
    counts = [0, 0]
    for tag, kind in _TAGS:
        place = piece.find(tag)
        while place >= 0:
            begin = piece.rfind(b"\n", 0, place) + 1
            after = piece[place + len(tag) : place + len(tag) + 1]
            if place - begin < _TAG_WITHIN and after and after[0] in _AFTER_TAG:
                counts[kind] += 1
                end = piece.find(b"\n", place)
                if end < 0:
                    break
                place = piece.find(tag, end)
            else:
                place = piece.find(tag, place + len(tag))
    return counts[0], counts[1]


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: a line of one log, cut into what it says."""

    number: int
    source: str
    raw: bytes
    """As it was printed, escape codes and all; its first and last bytes where it is very long."""
    text: bytes
    """Without escape codes, stamps and tags; what was printed onto a bar, or else the bar's last frame."""
    level: Level | None = None
    stamp: bytes | None = None
    is_bar: bool = False
    long: bool = False

    @classmethod
    def of(cls, number: int, source: str, raw: bytes, *, long: bool = False) -> Entry:
        """The row that a line makes."""
        cutter = Cutter()
        records: list[LogRecord] = [*cutter.feed(raw.rstrip(b"\r")), *cutter.flush()]
        told = [record for record in records if record.text.strip()]
        if not told and cutter.bar:
            return cls(number, source, raw, cutter.bar, is_bar=True, long=long)
        level = next((record.level for record in records if record.level is not None), None)
        stamp = next((record.stamp for record in records if record.stamp is not None), None)
        text = b"\r".join(record.text for record in told)
        return cls(number, source, raw, text, level, stamp, long=long or any(record.long for record in records))

    def clock(self) -> str:
        """The time of day it was printed with; empty where it has none."""
        found = _CLOCK.search(self.stamp) if self.stamp else None
        return found[0].decode() if found else ""

    def words(self, *, raw: bool = False) -> str:
        """What the screen shows of it.

        Colour codes are dropped. Stamps and level tags have their own columns. Where a line holds other escape codes, or
        where `raw` asks for it, it is shown as it was printed, every code as a visible sign.
        """
        shown = _COLOURS.sub(b"", self.raw)
        if not raw and (b"\x1b" not in shown or b"%|" in shown):
            shown = self.text
        words = visible(shown[: 4 * LONGEST_SHOWN].decode("utf-8", "replace"))
        if len(words) > LONGEST_SHOWN or self.long or len(shown) > 4 * LONGEST_SHOWN:
            words = words[:LONGEST_SHOWN] + " …"
        return words


def squeezed(half: bytes) -> bytes:
    """A half line without the frames of bars that were drawn over."""
    *before, last = half.split(b"\r")
    kept = [piece for piece in before if b"%|" not in piece and piece.strip()]
    shown = last if last.strip() or not before else before[-1]
    return b"\r".join([*kept, shown, b""] if shown is not last else [*kept, shown])
