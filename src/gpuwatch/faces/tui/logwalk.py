"""Where the log's view stands among the rows, and how it moves: it follows the end, or stays on a row while others come.

The rows in view are read from the book and cut into the lines of the screen here; how they look is in `logview`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from gpuwatch.faces.tui.entry import Entry
from gpuwatch.faces.tui.hunt import Sheet
from gpuwatch.faces.tui.logbook import Logbook
from gpuwatch.faces.tui.logline import Piece, gutter_width, parts_of

_STEP = 8
_ENTRIES_AT_HAND = 400


class LogWalk(Widget, can_focus=True):
    """A place in the log."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", show=False),
        Binding("k,up", "move(-1)", show=False),
        Binding("left", "sideways(-1)", show=False),
        Binding("right", "sideways(1)", show=False),
        Binding("0", "sideways(-1000)", show=False),
        Binding("g,home", "to_begin", show=False),
        Binding("G,end", "follow", show=False),
        Binding("ctrl+d,pagedown", "page(1)", show=False),
        Binding("ctrl+u,pageup", "page(-1)", show=False),
        Binding("r", "raw", show=False),
        Binding("w", "wrap", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="log-view")
        self.book = Logbook()
        self.sheet = Sheet(self.book)
        self.following = True
        self.current: int | None = None
        """The row that is marked."""
        self.mark_from: int | None = None
        """The other end of what is selected."""
        self.raw = False
        self.wrap = False
        self.left = 0
        self._top = 0
        """The row at the top while the view stays."""
        self._part = 0
        self._seen = 0
        self._pieces: list[Piece] = []
        self._entries: OrderedDict[int, Entry] = OrderedDict()

    def update(self) -> None:
        """Lay out what is in view; draw it where it is not the same as before."""
        raise NotImplementedError

    @property
    def unseen(self) -> int:
        """Rows that came since the view ceased to follow."""
        return 0 if self.following else max(self.sheet.count - self._seen, 0)

    def _first_place(self) -> int:
        return self.sheet.rank(self._pieces[0].entry.number) if self._pieces else 0

    @property
    def gutter_width(self) -> int:
        """Cells before a line's words."""
        return gutter_width(self.size.width, self.book)

    # -- layout ----------------------------------------------------------------------------------------------------------

    def _lay(self) -> None:
        """Read the rows that are in view."""
        height = self.size.height
        if not self.following:
            self._pieces = self._down(self.sheet.rank(self._top), self._part, height)
            if len(self._pieces) >= height or (self._pieces and self._first_place() == 0 and not self._part):
                return
        self._pieces = self._up(height)

    def _down(self, place: int, part: int, height: int) -> list[Piece]:
        pieces: list[Piece] = []
        for number in range(place, min(place + height, self.sheet.count)):
            pieces += self._pieces_of(self.sheet.row(number))[part if number == place else 0 :]
            if len(pieces) >= height:
                return pieces[:height]
        if (half := self._half()) is not None:
            pieces += self._parts(half)
        return pieces[:height]

    def _up(self, height: int) -> list[Piece]:
        """What stands at the end."""
        half = self._half()
        pieces = self._parts(half) if half is not None else []
        for number in range(self.sheet.count - 1, max(self.sheet.count - 1 - height, -1), -1):
            if len(pieces) >= height:
                break
            pieces = [*self._pieces_of(self.sheet.row(number)), *pieces]
        return pieces[-height:]

    def _half(self) -> Entry | None:
        return self.book.half() if type(self.sheet) is Sheet else None

    def _pieces_of(self, number: int) -> list[Piece]:
        entry = self.entry(number)
        return self._parts(entry) if entry is not None else []

    def entry(self, number: int) -> Entry | None:
        """A row; the last few hundred are at hand."""
        if (known := self._entries.get(number)) is not None:
            return known
        entry = self.book.at(number)
        if entry is not None:
            self._entries[number] = entry
            if len(self._entries) > _ENTRIES_AT_HAND:
                self._entries.popitem(last=False)
        return entry

    def _parts(self, entry: Entry) -> list[Piece]:
        words = entry.words(raw=self.raw)
        if not self.wrap:
            self.book.longest = max(self.book.longest, len(words))
            return [Piece(entry, 0, words, 0)]
        return parts_of(entry, words, max(self.size.width - 1 - self.gutter_width, 8))

    # -- moving ----------------------------------------------------------------------------------------------------------

    def action_move(self, steps: int) -> None:
        """Down or up by lines of the screen."""
        self._scroll(steps)

    def _scroll(self, steps: int) -> None:
        if not self._pieces or (self.following and steps > 0):
            return
        height, first = self.size.height, self._pieces[0]
        if self.following and len(self._pieces) < height:
            return  # all of it is in view
        place, part = self.sheet.rank(first.entry.number), first.part + steps
        if self.wrap:
            while part < 0 and place > 0:
                place -= 1
                part += len(self._pieces_of(self.sheet.row(place)))
            while part and place < self.sheet.count and part >= (size := len(self._pieces_of(self.sheet.row(place)))):
                part -= max(size, 1)
                place += 1
        else:
            place, part = place + part, 0
        place, part = max(place, 0), max(part, 0)
        self._stay(place, part)
        if len(self._down(place, part, height + 1)) <= height and steps > 0:
            self.set_following(following=True)
        else:
            self.update()

    def _stay(self, place: int, part: int = 0) -> None:
        if self.following:
            self._seen = self.sheet.count
        self.following = False
        self._top, self._part = self.sheet.row(place), part

    def action_page(self, pages: int) -> None:
        """A page down or up."""
        self.action_move(pages * max(self.size.height - 2, 1))

    def action_to_begin(self) -> None:
        """The first line that is kept."""
        self._stay(0)
        self.update()

    def action_follow(self) -> None:
        """Follow the end."""
        self.current = self.mark_from = None
        self.set_following(following=True)

    def set_following(self, *, following: bool) -> None:
        """Follow the end, or stay where the view is."""
        if following:
            self.following = True
        elif self._pieces:
            self._stay(self._first_place(), self._pieces[0].part)
        else:
            self._stay(self.sheet.count)
        self.update()

    def action_sideways(self, steps: int) -> None:
        """Scroll sideways."""
        room = max(self.size.width - 1 - self.gutter_width, 1)
        self.left = 0 if self.wrap else min(max(self.left + steps * _STEP, 0), max(2 * self.book.longest - room, 0))
        self.update()

    def show_row(self, number: int) -> None:
        """Bring a row to a third of the height and mark it."""
        self.current, self.mark_from = number, None
        place = max(self.sheet.rank(number) - self.size.height // 3, 0)
        self._stay(min(place, max(self.sheet.count - self.size.height, 0)) if not self.wrap else place)
        self.update()

    def action_raw(self) -> None:
        """Show lines as they were printed, or tidied."""
        self.raw = not self.raw
        self.update()

    def action_wrap(self) -> None:
        """Break long lines, or let them go on beyond the edge."""
        self.wrap, self.left = not self.wrap, 0
        self._part = 0
        self.update()
