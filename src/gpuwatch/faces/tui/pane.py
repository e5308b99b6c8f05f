"""What the panes have in common: a heading with a rule, and rows that scroll.

A pane's rows are made when the snapshot, the width, the language or the theme changes, and drawn line by line; a row that is
the same as before is not drawn again.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from gpuwatch.faces.tui.paint import Row, Span, row, strip_of, width_of
from gpuwatch.faces.tui.themes import DARK, PALETTES, Palette


def palette_of(widget: Widget) -> Palette:
    """The palette in use."""
    return PALETTES.get(widget.app.theme, DARK)


class Sized(Message):
    """A part of the screen has a new size: its rows must be made anew."""


class OneLine(Widget):
    """A widget that is one row: a heading, the health bar, the keys."""

    can_focus = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._row = row()

    def show(self, line: Row) -> None:
        """Draw this row; nothing where it stands already."""
        if line != self._row:
            self._row = line
            self.refresh()

    def on_resize(self) -> None:
        """Ask for a row of the new width."""
        self.post_message(Sized())

    @property
    def shown(self) -> str:
        """What stands there, as text."""
        return "".join(words for words, _ in self._row.spans)

    def render_line(self, y: int) -> Strip:
        """The row."""
        return strip_of(self._row if y == 0 else row(), self.size.width, palette_of(self))


class Heading(OneLine):
    """A pane's title on a rule, with a note at the right end."""

    def write(self, title: str, note: tuple[Span, ...], *, focused: bool) -> None:
        """Draw the title and the note."""
        left: list[Span] = [("━ " if focused else "─ ", "accent" if focused else "faint")]
        left.append((title + " ", "title" if focused else "dim"))
        right: tuple[Span, ...] = ((" ", "text"), *note, (" ─", "faint")) if note else ()
        room = self.size.width - width_of(left) - width_of(right)
        if room < 0:
            right, room = (), self.size.width - width_of(left)
        rule: Span = (("━" if focused else "─") * max(room, 0), "accent" if focused else "faint")
        self.show(row(*left, rule, *right))


class Rows(ScrollView, can_focus=True):
    """Rows that scroll."""

    class Clicked(Message):
        """A row with a key was clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    class Scrolled(Message):
        """Other rows are in view."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", show=False),
        Binding("k,up", "scroll_up", show=False),
        Binding("g,home", "scroll_home", show=False),
        Binding("G,end", "scroll_end", show=False),
        Binding("ctrl+d", "page_down", show=False),
        Binding("ctrl+u", "page_up", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.rows: list[Row] = []

    def show(self, rows: list[Row]) -> None:
        """Draw these rows; nothing where they stand already."""
        if len(rows) == len(self.rows):
            changed = [place for place, (before, now) in enumerate(zip(self.rows, rows, strict=True)) if before != now]
            self.rows = rows
            for place in changed:
                self.refresh_line(place)
            return
        self.rows = rows
        self.virtual_size = Size(self.size.width, len(rows))
        self.refresh(layout=self.styles.height is not None and self.styles.height.is_auto)

    def on_resize(self) -> None:
        """Ask for rows of the new width."""
        self.post_message(Sized())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Tell that it was scrolled."""
        super().watch_scroll_y(old_value, new_value)
        self.post_message(self.Scrolled())

    @property
    def bottom(self) -> int:
        """The row after the last one that is in view."""
        return int(self.scroll_offset.y) + int(self.size.height)

    @property
    def shown(self) -> str:
        """All rows as text, also those that are scrolled away."""
        return "\n".join("".join(words for words, _ in line.spans).rstrip() for line in self.rows)

    def render_line(self, y: int) -> Strip:
        """One row of what is in view."""
        place = y + self.scroll_offset.y
        line = self.rows[place] if place < len(self.rows) else row()
        return strip_of(line, self.scrollable_content_region.width, palette_of(self))

    def on_click(self, event: events.Click) -> None:
        """Choose what the row stands for."""
        place = event.y + self.scroll_offset.y
        if place < len(self.rows) and self.rows[place].key:
            self.post_message(self.Clicked(self.rows[place].key))

    def keep_in_view(self, key: str) -> None:
        """Scroll as little as shows the rows with this key."""
        places = [place for place, line in enumerate(self.rows) if line.key == key]
        if not places:
            return
        top, height = self.scroll_offset.y, self.size.height
        if places[0] < top:
            self.scroll_to(y=places[0], animate=False)
        elif places[-1] >= top + height:
            first = min(places[-1] - height + 1, places[0])
            while 0 < first < places[0] and self.rows[first].key and self.rows[first].key == self.rows[first - 1].key:
                first += 1  # not in the middle of what belongs together
            self.scroll_to(y=first, animate=False)


class Pane(Vertical):
    """A heading over something that scrolls."""

    def __init__(self, body: Widget, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.heading = Heading(classes="heading")
        self.body = body

    def compose(self) -> ComposeResult:
        """The heading and the body."""
        yield self.heading
        yield self.body

    @property
    def focused(self) -> bool:
        """Whether the keys go here."""
        return self.body.has_focus

    @property
    def width(self) -> int:
        """Cells that a row has."""
        return max(self.body.scrollable_content_region.width, 1)
