"""From words to cells: spans of text with a tone, cut, wrapped and measured, and made into Textual's strips.

Everything on screen passes through here as plain text with a tone beside it. No markup is parsed anywhere, because most of
what is shown was printed by other programs. `texts.visible` makes what a terminal might obey into signs that it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.segment import Segment
from textual.strip import Strip

from gpuwatch.core.observations import GpuSample
from gpuwatch.faces.tui.themes import Back, Palette, Tone
from gpuwatch.texts import visible

Span = tuple[str, Tone]

_SHORTEST_BAR, _LONGEST_BAR = 8, 32
_SPARKS = " ▁▂▃▄▅▆▇█"
_WIDE = "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U0001f000-\U0003ffff"
_CLOSING = "，。、；：！？）】》」』”’%"
_TOKEN = re.compile(rf"\s+|[{_WIDE}][{_CLOSING}]*|[^\s{_WIDE}]+[{_CLOSING}]*")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a pane."""

    spans: tuple[Span, ...] = ()
    back: Back = ""
    key: str = ""
    """What a click on the row chooses; empty where it chooses nothing."""


def row(*spans: Span, back: Back = "", key: str = "") -> Row:
    """A row of spans."""
    return Row(spans, back, key)


def width_of(spans: Iterable[Span]) -> int:
    """How many cells the spans take."""
    return sum(cell_len(words) for words, _ in spans)


def cut(words: str, width: int) -> str:
    """The words in at most so many cells, an ellipsis where some were left out."""
    if cell_len(words) <= width:
        return words
    return crop(words, width - 1) + "…" if width > 0 else ""


def cut_front(words: str, width: int) -> str:
    """The end of the words, an ellipsis in front where some were left out: for paths."""
    if cell_len(words) <= width:
        return words
    return "…" + crop(words[::-1], width - 1)[::-1] if width > 0 else ""


def crop(words: str, width: int) -> str:
    """As many characters from the front as fit."""
    used = 0
    for place, character in enumerate(words):
        used += cell_len(character)
        if used > width:
            return words[:place]
    return words


def padded(words: str, width: int) -> str:
    """The words in exactly so many cells."""
    words = cut(words, width)
    return words + " " * max(width - cell_len(words), 0)


def flushed(words: str, width: int) -> str:
    """The words at the right end of so many cells."""
    words = cut(words, width)
    return " " * max(width - cell_len(words), 0) + words


def wrapped(words: str, width: int) -> list[str]:
    """The words in lines of at most so many cells: broken at spaces, between CJK characters, and inside only where it must."""
    width = max(width, 2)
    lines: list[str] = []
    for paragraph in words.split("\n"):
        line, used = "", 0
        for token in _TOKEN.findall(visible(paragraph)):
            size = cell_len(token)
            if used + size > width and line:
                lines.append(line.rstrip())
                line, used = "", 0
                if token.isspace():
                    continue
            while size > width:
                head = crop(token, width)
                lines.append(head)
                token = token[len(head) :]  # noqa: PLW2901 - the rest of a token that is longer than a line
                size = cell_len(token)
            line, used = line + token, used + size
        lines.append(line.rstrip())
    return lines


def paragraph(words: str, width: int, tone: Tone, indent: int = 0) -> list[Row]:
    """Wrapped words as rows."""
    return [row((" " * indent, "text"), (line, tone)) for line in wrapped(words, width - indent)]


def spread(left: Sequence[Span], right: Sequence[Span], width: int) -> tuple[Span, ...]:
    """Spans at both ends of a line; the left gives way where both do not fit."""
    room = width - width_of(right)
    if room < 0:
        return tuple(clipped(left, width))
    kept = clipped(left, max(room - 1, 0))
    return (*kept, (" " * (room - width_of(kept)), "text"), *right)


def clipped(spans: Sequence[Span], width: int) -> list[Span]:
    """The spans in at most so many cells."""
    kept: list[Span] = []
    for words, tone in spans:
        size = cell_len(words)
        if size > width:
            kept.append((cut(words, width), tone))
            break
        kept.append((words, tone))
        width -= size
    return kept


def bar(ratio: float, width: int, tone: Tone) -> tuple[Span, Span]:
    """A bar: heavy for what is taken, light for the rest, so that it reads without colour too."""
    ratio = min(max(ratio, 0.0), 1.0)
    taken = round(ratio * width)
    if ratio > 0:
        taken = max(taken, 1)
    return ("━" * taken, tone), ("─" * (width - taken), "faint")


def need_spans(ratio: float, numbers: str, verdict: Sequence[Span], width: int) -> list[Span]:
    """A need as a bar against the card, in numbers, and the verdict; the bar goes where room is short: it is not the answer."""
    told: list[Span] = [(numbers, "text"), ("  ", "text"), *verdict]
    room = min(width - width_of(told) - 2, _LONGEST_BAR)
    if room < _SHORTEST_BAR:
        return told
    return [*bar(ratio, room, verdict[0][1]), ("  ", "text"), *told]


def filling(ratio: float) -> Tone:
    """The tone of a memory bar: calm, then a warning when little is left, then an alarm."""
    return "error" if ratio >= 0.97 else "warning" if ratio >= 0.85 else "accent"


def sparkline(ratios: Sequence[float], width: int) -> list[Span]:
    """The last values, one cell each, oldest left."""
    kept = ratios[-width:]
    spans: list[Span] = [(" " * (width - len(kept)), "text")]
    for tone, group in groupby(kept, key=filling):
        spans.append(("".join(_SPARKS[min(max(round(ratio * 8), 1), 8)] for ratio in group), tone))
    return spans


def memory_ratio(sample: GpuSample) -> float | None:
    """How full the card is; None where the driver does not say."""
    if sample.used_bytes is None or not sample.total_bytes:
        return None
    return sample.used_bytes / sample.total_bytes


def strip_of(line: Row, width: int, palette: Palette) -> Strip:
    """The row as cells, exactly so many."""
    segments = [Segment(words, palette.style(tone, line.back)) for words, tone in line.spans if words]
    return Strip(segments).adjust_cell_length(width, palette.style("text", line.back))
