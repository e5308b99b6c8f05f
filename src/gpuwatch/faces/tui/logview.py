"""The log's lines, drawn one by one as they come into view; follow, marks, what was found, what was chosen.

Textual's own log widgets keep rendered lines and freeze at a few thousand a second. This keeps a place, which is in
`logwalk`: rows are read when they come into view, and nothing is drawn again where what is in view is the same. The last
column is a map of the whole log: where the view is, and where the incidents are.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from gpuwatch.faces.tui.hunt import Hunt, Only, Sheet, Without
from gpuwatch.faces.tui.logline import gutter_spans, words_row
from gpuwatch.faces.tui.logmap import map_cells
from gpuwatch.faces.tui.logwalk import LogWalk
from gpuwatch.faces.tui.paint import Span, row, strip_of
from gpuwatch.faces.tui.pane import palette_of
from gpuwatch.faces.tui.search import Search

_WHEEL = 3
_MOST_COPIED = 2_000


class LogView(LogWalk):
    """The lines."""

    class Changed(Message):
        """The view follows or stays, or there is something new to say above it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "bookmark", show=False),
        Binding("B", "next_bookmark", show=False),
        Binding("v", "select", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.search: Search | None = None
        self.hunt: Hunt | None = None
        """The search's."""
        self.filter: Hunt | None = None
        self.bookmarks: set[int] = set()
        self._to_first_hit = False
        self._dragging = False
        self._edge: list[Span] = []
        self._drawn: object = None

    # -- what comes in ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """The book may hold more: keep the view on its rows, or on the end."""
        self.book.settle()
        for hunt in (self.hunt, self.filter):
            if hunt is not None:
                hunt.wake()
                hunt.hits.forget_before(self.book.first)
        if self._to_first_hit and self.hunt is not None and (len(self.hunt.hits) or self.hunt.done):
            self._to_first_hit = False
            if len(self.hunt.hits):
                self.step_found(forward=False)
        self.update()

    def update(self) -> None:
        """Lay out what is in view; draw it where it is not the same as before."""
        if not self.is_attached or not self.size.height:
            return
        self._lay()
        drawn = (
            [(piece.entry.number, piece.part, piece.words) for piece in self._pieces],
            self.left, self.current, self.mark_from, self.raw, self.gutter_width, self.size, self.search,
            {piece.entry.number: self.book.marks.get(piece.entry.number) for piece in self._pieces},
            self.bookmarks & {piece.entry.number for piece in self._pieces}, self.app.theme,
        )  # fmt: skip
        edge = map_cells(self.book, self.sheet, self.size.height, self._first_place(), len(self._pieces))
        if drawn != self._drawn:
            self._drawn, self._edge = drawn, edge
            self.refresh()
        elif edge != self._edge:
            self._edge = edge
            self.refresh(Region(self.size.width - 1, 0, 1, self.size.height))
        self.post_message(self.Changed())

    # -- finding ---------------------------------------------------------------------------------------------------------

    def find(self, search: Search | None) -> None:
        """Look for something in the whole book; nothing where None."""
        if self.hunt is not None:
            self.hunt.stop()
        self.search, self.hunt = search, None
        if search is not None:
            self.hunt = Hunt(self.book.spool, search, tell=self._told)
            self._to_first_hit = True
            self.hunt.start()
        self.update()

    def show_only(self, wanted: Search | None, unwanted: Search | None) -> None:
        """Show only the lines that hold one thing and do not hold another; all of them where both are None."""
        if self.filter is not None:
            self.filter.stop()
        top = self._pieces[0].entry.number if self._pieces else 0
        self.filter, self.sheet = None, Sheet(self.book)
        if wanted is not None or unwanted is not None:
            self.filter = Hunt(self.book.spool, wanted, unwanted, self._told)
            self.sheet = (Only if wanted is not None else Without)(self.book, self.filter.hits)
            self.filter.start()
        self._top, self._part = top, 0
        self.update()

    def _told(self) -> None:
        """A thread found more."""
        if self.is_running:
            self.call_later(self.settle)

    def step_found(self, *, forward: bool) -> None:
        """Go to the next or previous line that holds what is searched; round the end."""
        if self.hunt is None or not len(self.hunt.hits):
            return
        hits = self.hunt.hits
        here = self.current
        if here is None:
            here = self.book.end if self.following or not self._pieces else self._pieces[0].entry.number - forward
        place = hits.rank(here + 1) if forward else hits.rank(here) - 1
        self.show_row(hits.at(place % len(hits)))

    @property
    def found_place(self) -> int | None:
        """Which of the lines that were found is the current one, from 1."""
        if self.hunt is None or self.current is None or not self.hunt.hits.holds(self.current):
            return None
        return self.hunt.hits.rank(self.current) + 1

    # -- bookmarks and selection -----------------------------------------------------------------------------------------

    @property
    def here(self) -> int | None:
        """The row that is meant: the marked one, else the one at the top, else the last."""
        shown = [piece.entry.number for piece in self._pieces]
        if self.current in shown or not shown:
            return self.current
        return shown[-1] if self.following else shown[0]

    def action_bookmark(self) -> None:
        """Put a bookmark here, or take it away."""
        if self.here is not None and self.here < self.book.end:
            self.bookmarks ^= {self.here}
            self.current = self.here
            self.update()

    def action_next_bookmark(self) -> None:
        """Go to the next bookmark; round the end."""
        kept = sorted(number for number in self.bookmarks if number >= self.book.first)
        if kept:
            here = self.current if self.current is not None else -1
            self.show_row(next((number for number in kept if number > here), kept[0]))

    def action_select(self) -> None:
        """Begin to select lines, or end it."""
        if self.mark_from is not None:
            self.mark_from = None
        elif self.here is not None:
            self.set_following(following=False)
            self.current = self.mark_from = self.here
        self.update()

    def action_move(self, steps: int) -> None:
        """Down or up; while lines are selected, the selection's end."""
        if self.mark_from is not None and self.current is not None and not self._dragging:
            self._extend(steps)
            return
        super().action_move(steps)

    def _extend(self, steps: int) -> None:
        place = self.sheet.rank(self.current or 0) + steps
        self.current = self.sheet.row(min(max(place, 0), max(self.sheet.count - 1, 0)))
        place, top = self.sheet.rank(self.current), self._first_place()
        if place < top:
            self._stay(place)
        elif place >= top + self.size.height:
            self._stay(place - self.size.height + 1)
        self.update()

    def selected(self) -> list[str]:
        """The words of the lines that are selected, else of the current one; the first few thousand."""
        if self.current is None:
            return []
        ends = sorted((self.current, self.mark_from if self.mark_from is not None else self.current))
        first, last = (self.sheet.rank(number) for number in ends)
        rows = (self.sheet.row(place) for place in range(first, min(last + 1, first + _MOST_COPIED)))
        entries = (self.entry(number) for number in rows)
        return [entry.words(raw=self.raw) for entry in entries if entry is not None]

    # -- drawing ---------------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line of what is in view, and its cell of the map."""
        width, palette = self.size.width, palette_of(self)
        edge = self._edge[y] if y < len(self._edge) else (" ", "faint")
        if y >= len(self._pieces):
            return strip_of(row((" " * (width - 1), "text"), edge), width, palette)
        piece = self._pieces[y]
        incident = self.book.marks.get(piece.entry.number)
        gutter = gutter_spans(piece, self.gutter_width, self.book, bookmarked=piece.entry.number in self.bookmarks)
        words = words_row(piece, incident, self.search, chosen=self._is_chosen(piece.entry.number))
        left = strip_of(row(*gutter, back=words.back), min(self.gutter_width, width - 1), palette)
        room = max(width - 1 - self.gutter_width, 0)
        body = strip_of(words, self.left + room, palette).crop(self.left, self.left + room)
        return Strip.join([left, body, strip_of(row(edge), 1, palette)])

    def _is_chosen(self, number: int) -> bool:
        if self.current is None or self.mark_from is None:
            return number == self.current
        return min(self.current, self.mark_from) <= number <= max(self.current, self.mark_from)

    # -- the mouse and the size ------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Lay out for the new size."""
        self._drawn = None
        self.update()

    def on_show(self) -> None:
        """Likewise when it comes into view."""
        self.on_resize()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A press on the map goes there; on a line it marks the line, and what it is drawn over selects."""
        if event.x >= self.size.width - 1:
            self._stay(event.y * self.sheet.count // max(self.size.height, 1) - self.size.height // 2)
        elif event.y < len(self._pieces):
            self.set_following(following=False)
            self.current = self.mark_from = self._pieces[min(event.y, len(self._pieces) - 1)].entry.number
            self._dragging = True
            self.capture_mouse()
        self.update()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Select what the mouse is drawn over."""
        if self._dragging and self._pieces:
            self.current = self._pieces[min(max(event.y, 0), len(self._pieces) - 1)].entry.number
            self.update()

    def on_mouse_up(self) -> None:
        """The selection stands; a mere press selects nothing."""
        if self._dragging:
            self._dragging = False
            self.release_mouse()
            if self.mark_from == self.current:
                self.mark_from = None
            self.update()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        event.stop()
        self._scroll(_WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        event.stop()
        self._scroll(-_WHEEL)
