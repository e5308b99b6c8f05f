"""How one line of the log is drawn: broken into parts where lines are wrapped, its margin, its words with what was found."""

from __future__ import annotations

from dataclasses import dataclass

from gpuwatch.core.incidents import Incident
from gpuwatch.faces.tui.entry import Entry
from gpuwatch.faces.tui.logbook import Logbook
from gpuwatch.faces.tui.paint import Row, Span, crop, cut_front, padded, row
from gpuwatch.faces.tui.search import Search
from gpuwatch.faces.tui.themes import Back, Tone
from gpuwatch.faces.tui.wording import SEVERITY_SIGN

_LEVEL: dict[str | None, tuple[str, Tone]] = {
    None: (" ", "text"), "debug": ("D", "dim"), "info": (" ", "text"), "warning": ("W", "warning"),
    "error": ("E", "error"), "critical": ("C", "critical"),
}  # fmt: skip
_SOURCE_CELLS = 10
_NARROW = 40


@dataclass(frozen=True, slots=True)
class Piece:
    """One line of the screen: a row, or a part of one that is wrapped."""

    entry: Entry
    part: int
    words: str
    start: int
    """Where the part's words begin in the row's."""


def parts_of(entry: Entry, words: str, width: int) -> list[Piece]:
    """A row's words in pieces of that many cells."""
    pieces: list[Piece] = []
    start = 0
    while start < len(words) or not pieces:
        part = crop(words[start : start + width], width) or words[start : start + 1]
        pieces.append(Piece(entry, len(pieces), part, start))
        start += max(len(part), 1)
    return pieces


def gutter_width(width: int, book: Logbook) -> int:
    """Cells before a line's words; hardly any where there is hardly room for the words."""
    if width < _NARROW:
        return 2
    return 4 + (9 if book.stamped else 0) + (_SOURCE_CELLS + 1 if len(book.sources) > 1 else 0)


def gutter_spans(piece: Piece, width: int, book: Logbook, *, bookmarked: bool) -> list[Span]:
    """What stands before a line's words: whether it failed there, a bookmark, the time, the log, the level."""
    entry = piece.entry
    if piece.part:
        return [(" " * (width - 2) + "↪ ", "faint")]
    incident = book.marks.get(entry.number)
    sign, tone = SEVERITY_SIGN[incident.severity] if incident else (" ", "text")
    mark: Span = ("◆", "accent") if bookmarked else (" ", "text")
    letter, level_tone = _LEVEL[entry.level]
    if width == 2:
        return [(sign, tone), (letter, level_tone)]
    spans: list[Span] = [(sign, tone), mark]
    if book.stamped:
        spans.append((padded(entry.clock(), 9), "dim"))
    if len(book.sources) > 1:
        spans.append((padded(cut_front(entry.source, _SOURCE_CELLS), _SOURCE_CELLS + 1), "dim"))
    return [*spans, (letter + " ", level_tone)]


def words_row(piece: Piece, incident: Incident | None, search: Search | None, *, chosen: bool) -> Row:
    """A line's words; what was found in them stands out."""
    entry, words = piece.entry, piece.words
    tone: Tone = "dim" if entry.is_bar else _LEVEL[entry.level][1]
    if incident is not None:
        tone = SEVERITY_SIGN[incident.severity][1]
    back: Back = "current" if chosen else "marked" if incident is not None else ""
    spans: list[Span] = []
    end = 0
    for start, stop in search.places(words) if search is not None else ():
        spans += [(words[end:start], tone), (words[start:stop], "found")]
        end = stop
    return row(*spans, (words[end:], tone), back=back)
