"""A log as it was before a window's edge cut its lines, where it was copied out of one.

Old consoles give each row of the screen as a line, so that words are cut in two and no pattern finds them. A line as wide as the
window, the widest of all, goes on in the next. Only what is short enough to have been pasted is looked at.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_PASTED_BYTES = 64 << 10
_WIDTHS = {80, 100, 120, 132, 160}
"""What windows are wide, in columns."""
_FRAMED = re.compile(r"(?:[|│┃┤╮╯┐┘╗╝║]|[-+=#_*~.─═━]{3})\Z")
"""What a row ends in that a table or a rule across the window fills."""
_BEGINNING = re.compile(
    rb"Traceback |!!! |Killed\b|During handling |The above exception|got prompt|Prompt executed| {2,}File \"|"
    rb"[\w.]{1,80}(?:Error|Exception)\b"
)
"""How lines begin that are no line's rest."""


def rejoined(pasted: bytes) -> bytes:
    """The same text with lines that a window cut in two made whole; as many bytes, and what follows on the lines it was on."""
    if len(pasted) > LONGEST_PASTED_BYTES or b"\r" in pasted.replace(b"\r\n", b""):
        return pasted
    end = b"\r\n" if b"\r\n" in pasted else b"\n"
    rows = pasted.split(end)
    widths = [_columns(row) for row in rows]
    width = max(widths)
    if width not in _WIDTHS:
        return pasted
    lines: list[bytes] = []
    owed = 0
    """Rows that became part of a line above: as many empty ones follow it."""
    for number, row in enumerate(rows):
        if number and widths[number - 1] == width and _goes_on(rows[number - 1], row):
            lines[-1] += row
            owed += 1
        else:
            lines += [b""] * owed
            owed = 0
            lines.append(row)
    return end.join([*lines, *[b""] * owed])


def _goes_on(row: bytes, following: bytes) -> bool:
    """Whether a row as wide as the window may have its rest in the next: that has no beginning of its own."""
    from gpuwatch.core.records import unprefixed  # noqa: PLC0415 - few logs have a row as wide as a window

    framed = _FRAMED.search(row.decode("utf-8", "replace")[-3:]) is not None
    begins = _BEGINNING.match(following) is not None or unprefixed(following)[0] != following
    return bool(following) and not framed and not begins


def _columns(row: bytes) -> int:
    """How wide a terminal shows it: Chinese characters take two columns."""
    if row.isascii():
        return len(row)
    return sum(
        2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in row.decode("utf-8", "replace")
    )
