"""The log's lines: the last records, drawn one by one as they come into view; follow, marks, what was found.

Textual's own log widgets keep rendered lines and freeze at a few thousand a second; this draws only what is in view. The
last column is a map of the whole book: where the view is, and where the incidents are.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from gpuwatch.core.rules import SEVERITIES
from gpuwatch.faces.tui.logbook import Entry, Logbook
from gpuwatch.faces.tui.paint import Row, Span, cut_front, padded, row, strip_of
from gpuwatch.faces.tui.pane import palette_of
from gpuwatch.faces.tui.search import Search
from gpuwatch.faces.tui.themes import Back, Tone
from gpuwatch.faces.tui.wording import SEVERITY_SIGN

_LEVEL: dict[str | None, tuple[str, Tone]] = {
    None: (" ", "text"), "debug": ("D", "dim"), "info": (" ", "text"), "warning": ("W", "warning"),
    "error": ("E", "error"), "critical": ("C", "critical"),
}  # fmt: skip
_STEP = 8
_SOURCE_CELLS = 10


class LogView(ScrollView, can_focus=True):
    """The lines."""

    class FollowChanged(Message):
        """The view began or ceased to follow, or new lines came while it does not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", show=False),
        Binding("k,up", "scroll_up", show=False),
        Binding("h,left", "sideways(-1)", show=False),
        Binding("right", "sideways(1)", show=False),
        Binding("0", "sideways(-1000)", show=False),
        Binding("g,home", "scroll_home", show=False),
        Binding("G,end", "follow", show=False),
        Binding("ctrl+d", "page_down", show=False),
        Binding("ctrl+u", "page_up", show=False),
        Binding("r", "raw", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="log-view")
        self.book = Logbook()
        self.following = True
        self.unseen = 0
        self.current: int | None = None
        self.search: Search | None = None
        self.raw = False
        self._moving = False

    # -- what comes in ---------------------------------------------------------------------------------------------------

    def settle(self, gone: int, came: int) -> None:
        """The book changed: keep the view on its lines, or on the end."""
        if self.search is not None:
            self.search.forget_before(self.book.first)
            self.search.look(self.book.since(self.book.next - came, raw=self.raw))
        self._resize()
        if self.following:
            self._to(self.max_scroll_y)
        else:
            self.unseen = min(self.unseen + came, len(self.book))
            if gone:
                self._to(max(self.scroll_y - gone, 0))
        self.refresh()
        self.post_message(self.FollowChanged())

    def _resize(self) -> None:
        self.virtual_size = Size(max(self.book.longest + self.gutter_width, 1), len(self.book))

    def on_resize(self) -> None:
        """Stay at the end while following."""
        if self.following:
            self.call_after_refresh(self._to_end)

    def on_show(self) -> None:
        """Likewise when it comes into view."""
        self.on_resize()

    def _to_end(self) -> None:
        if self.following:
            self._to(self.max_scroll_y)

    def _to(self, y: float) -> None:
        self._moving = True
        try:
            self.scroll_to(y=y, animate=False, force=True)  # it may not know yet that it can scroll
        finally:
            self._moving = False

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """A person scrolls: up ceases to follow, the end begins it."""
        super().watch_scroll_y(old_value, new_value)
        clamped = old_value > self.max_scroll_y
        if self._moving or clamped or not self.is_attached:
            return
        self.set_following(following=new_value >= self.max_scroll_y)

    def set_following(self, *, following: bool) -> None:
        """Follow the end, or stay."""
        if following:
            self.unseen = 0
            self._to(self.max_scroll_y)
        if following != self.following:
            self.following = following
            self.post_message(self.FollowChanged())
        self.refresh()

    # -- where to look ---------------------------------------------------------------------------------------------------

    def show_entry(self, number: int) -> None:
        """Bring an entry to a third of the height and mark it."""
        self.current = number
        self.set_following(following=False)
        self._to(min(max(self.book.row_of(number) - self.size.height // 3, 0), self.max_scroll_y))
        self.refresh()

    def find(self, search: Search | None) -> None:
        """Look for something in the whole book; nothing where None."""
        self.search = search
        if search is not None:
            search.look(self.book.since(self.book.first, raw=self.raw))
        self.refresh()

    def step_found(self, forward: bool) -> int | None:
        """Go to the next or previous line that holds it; give which of them it is, from 1."""
        if self.search is None or not self.search.found:
            return None
        found = self.search.found
        here = self.current if self.current is not None else self.book.first + self.scroll_offset.y - 1
        if self.following and self.current is None:
            here = self.book.next
        if forward:
            place = next((place for place, number in enumerate(found) if number > here), 0)
        else:
            place = next((place for place in range(len(found) - 1, -1, -1) if found[place] < here), len(found) - 1)
        self.show_entry(found[place])
        return place + 1

    def action_sideways(self, steps: int) -> None:
        """Scroll sideways."""
        self.scroll_to(x=max(self.scroll_x + steps * _STEP, 0), animate=False, force=True)

    def action_follow(self) -> None:
        """Follow the end."""
        self.current = None
        self.set_following(following=True)

    def action_raw(self) -> None:
        """Show lines as they were printed, or tidied."""
        self.raw = not self.raw
        if self.search is not None:
            self.find(Search.of(self.search.words))
        self.refresh()
        self.post_message(self.FollowChanged())

    # -- drawing ---------------------------------------------------------------------------------------------------------

    @property
    def gutter_width(self) -> int:
        """Cells before a line's words."""
        return 4 + (9 if self.book.stamped else 0) + (_SOURCE_CELLS + 1 if len(self.book.sources) > 1 else 0)

    def render_line(self, y: int) -> Strip:
        """One line of what is in view, and its cell of the map."""
        width, palette = self.size.width, palette_of(self)
        entry = self.book.at(y + self.scroll_offset.y)
        edge = self._map_cell(y)
        if entry is None:
            return strip_of(row((" " * (width - 1), "text"), edge), width, palette)
        gutter, words = self._gutter(entry), self._words(entry)
        back = words.back
        left = strip_of(row(*gutter, back=back), min(self.gutter_width, width - 1), palette)
        room = max(width - 1 - self.gutter_width, 0)
        start = self.scroll_offset.x
        body = strip_of(words, start + room, palette).crop(start, start + room)
        return Strip.join([left, body, strip_of(row(edge), 1, palette)])

    def _gutter(self, entry: Entry) -> list[Span]:
        incident = self.book.marks.get(entry.number)
        sign, tone = SEVERITY_SIGN[incident.severity] if incident else (" ", "text")
        letter, level_tone = _LEVEL[entry.level]
        spans: list[Span] = [(sign + " ", tone)]
        if self.book.stamped:
            spans.append((padded(entry.clock(), 9), "dim"))
        if len(self.book.sources) > 1:
            spans.append((padded(cut_front(entry.source, _SOURCE_CELLS), _SOURCE_CELLS + 1), "dim"))
        return [*spans, (letter + " ", level_tone)]

    def _words(self, entry: Entry) -> Row:
        """A line's words; what was found in them stands out."""
        incident = self.book.marks.get(entry.number)
        tone: Tone = _LEVEL[entry.level][1]
        if incident is not None:
            tone = SEVERITY_SIGN[incident.severity][1]
        back: Back = "current" if entry.number == self.current else "marked" if incident is not None else ""
        words = entry.words(raw=self.raw)
        spans: list[Span] = []
        end = 0
        for start, stop in self.search.places(words) if self.search is not None else ():
            spans += [(words[end:start], tone), (words[start:stop], "found")]
            end = stop
        return row(*spans, (words[end:], tone), back=back)

    def _map_cell(self, y: int) -> Span:
        """One cell of the map: a sign's colour where incidents are, else the view's extent."""
        height, total = max(self.size.height, 1), len(self.book)
        if total <= height:
            return (" ", "faint")
        first, last = y * total // height, max((y + 1) * total // height, y * total // height + 1)
        worst = self._worst(first, last)
        in_view = last > self.scroll_offset.y and first < self.scroll_offset.y + height
        if worst is not None:
            return ("◂", SEVERITY_SIGN[SEVERITIES[worst]][1])
        return ("▐", "dim") if in_view else ("│", "faint")

    def _worst(self, first: int, last: int) -> int | None:
        lowest = self.book.first
        severities = [
            SEVERITIES.index(incident.severity)
            for number, incident in self.book.marks.items()
            if first <= number - lowest < last
        ]
        return max(severities, default=None)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A press on the map goes there; on a line it marks the line."""
        if event.x >= self.size.width - 1:
            self.scroll_to(
                y=event.y * len(self.book) // max(self.size.height, 1) - self.size.height // 2, animate=False
            )
        elif (entry := self.book.at(event.y + self.scroll_offset.y)) is not None:
            self.current = entry.number
            self.refresh()
