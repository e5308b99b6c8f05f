"""The log pane: the lines, the progress bar that runs now, and the field to search in."""

from __future__ import annotations

import re

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Input

from gpuwatch.core.snapshot import Snapshot, SourceStatus
from gpuwatch.errors import UsageError
from gpuwatch.faces.tui.feed import News
from gpuwatch.faces.tui.logview import LogView
from gpuwatch.faces.tui.paint import Row, Span, bar, cut, row, width_of
from gpuwatch.faces.tui.pane import OneLine, Pane
from gpuwatch.faces.tui.search import Search
from gpuwatch.faces.tui.wording import is_live
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _

_TQDM = re.compile(r"^(.*?):?\s*(\d{1,3})%\|[^|]*\|\s*(.*)$")


class SearchField(Input):
    """Where the search is typed; Escape leaves it."""

    BINDINGS = [Binding("escape", "leave", show=False)]  # noqa: RUF012 - as Textual declares it

    def action_leave(self) -> None:
        """Close the field and forget the search."""
        self.value = ""
        self.post_message(self.Submitted(self, ""))


class LogPane(Pane):
    """The pane."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        self.view = LogView()
        super().__init__(self.view, id=id)
        self.field = SearchField(id="search", compact=True)
        self.bars = OneLine(id="bars")
        self._found: int | None = None
        self._trouble = ""

    def compose(self) -> ComposeResult:
        """The heading, the lines, the bar and the field."""
        yield from super().compose()
        yield self.bars
        yield self.field

    def take(self, news: News) -> None:
        """Put what was read into the book."""
        book = self.view.book
        gone = came = 0
        for source, records in news.records:
            gone += book.extend(source, records)
            came += len(records)
        for incident in news.incidents.values():
            book.mark(incident)
        if came or news.incidents:
            self.view.settle(gone, came)

    def draw(self, snapshot: Snapshot) -> None:
        """Draw the heading and the bar; the lines draw themselves."""
        running = [source for source in snapshot.sources.values() if source.bar and not is_over(source, snapshot)]
        newest = max(running, key=lambda source: (source.last_at is not None, source.last_at), default=None)
        self.bars.display = newest is not None
        if newest is not None:
            live = is_live(newest.last_at, snapshot.at) and newest.state == "up"
            self.bars.show(bar_row(newest, self.bars.size.width, live=live))
        self.heading.write(_("Log"), self._note(), focused=self.focused or self.field.has_focus)

    def _note(self) -> tuple[Span, ...]:
        view, notes = self.view, list[Span]()
        if self._trouble:
            notes.append((self._trouble, "error"))
        elif view.search is not None:
            notes += self._search_note(view.search)
        if view.raw:
            notes.append((_("as printed"), "dim"))
        if view.following:
            notes.append(("● " + _("follows"), "good"))
        elif view.unseen:
            notes.append((render(text("{count} new", count=f"{view.unseen:,}")) + " · f ↓", "warning"))
        else:
            notes.append((_("stays here") + " · f ↓", "dim"))
        spaced: list[Span] = []
        for note in notes:
            spaced += [("   ", "text"), note] if spaced else [note]
        return tuple(spaced)

    def _search_note(self, search: Search) -> list[Span]:
        words = cut(visible(search.words), 24)
        if not search.found:
            return [(render(text("“{words}” is not there", words=words)), "warning")]
        place = f"{self._found}/" if self._found else ""
        more = "+" if search.cut_short else ""
        return [(f"“{words}” {place}{len(search.found):,}{more}", "accent")]

    # -- search ----------------------------------------------------------------------------------------------------------

    def open_search(self) -> None:
        """Show the field."""
        self.field.display = True
        self.field.placeholder = _("plain words, or re:PATTERN   Enter finds, Esc ends the search")
        self.screen.set_focus(self.field, scroll_visible=False)  # at once: what is typed next belongs here

    @on(Input.Submitted)
    def _search(self, event: Input.Submitted) -> None:
        event.stop()
        self.field.display = False
        self.screen.set_focus(self.view, scroll_visible=False)
        self._trouble, self._found = "", None
        try:
            self.view.find(Search.of(event.value) if event.value else None)
        except UsageError as error:
            self.view.find(None)
            self._trouble = visible(str(error))
        self.step_found(forward=False)

    @property
    def searching(self) -> bool:
        """Whether the note speaks of a search."""
        return self.view.search is not None or bool(self._trouble)

    def end_search(self) -> None:
        """Forget the search."""
        self._trouble, self._found = "", None
        self.view.find(None)
        self.view.post_message(LogView.FollowChanged())

    def step_found(self, *, forward: bool) -> None:
        """Go to the next or previous line that holds what is searched."""
        self._found = self.view.step_found(forward=forward)
        self.view.post_message(LogView.FollowChanged())


def is_over(source: SourceStatus, snapshot: Snapshot) -> bool:
    """Whether a bar reached its end a while ago; one that stands still before its end stays in view."""
    finished = "100%" in source.bar or source.state != "up"
    return finished and not is_live(source.last_at, snapshot.at)


def bar_row(source: SourceStatus, width: int, *, live: bool) -> Row:
    """A progress bar of a log, drawn anew; as it was printed where it is no bar we know."""
    words = visible(source.bar).strip()
    found = _TQDM.match(words)
    if found is None:
        return row((" ", "text"), (cut(words, max(width - 2, 1)), "dim"))
    title, percent, rest = found[1].strip(), int(found[2]), found[3].strip()
    head: list[Span] = [
        (" " + (cut(title, 30) + " " if title else ""), "text"),
        (f"{percent:3d} % ", "text" if live else "dim"),
    ]
    tail: Span = (" " + cut(rest, max(width // 2, 8)), "dim")
    room = min(max(width - width_of(head) - width_of([tail]) - 1, 0), 60)
    return row(*head, *bar(percent / 100, room, "accent" if live else "dim"), tail)
