"""The log pane: the lines, what is said above them, the progress bar that runs now, and the field to type in."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Input

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.faces.tui.feed import News
from gpuwatch.faces.tui.histogram import HistogramBar
from gpuwatch.faces.tui.hunt import Hunt
from gpuwatch.faces.tui.logview import LogView
from gpuwatch.faces.tui.paint import Row, Span, bar, cut, row, width_of
from gpuwatch.faces.tui.pane import OneLine, Pane
from gpuwatch.faces.tui.search import Search
from gpuwatch.faces.tui.times import histogram, row_for
from gpuwatch.texts import Text, render, text, visible
from gpuwatch.texts import translate as _

_TQDM = re.compile(r"^(.*?):?\s*(\d{1,3})%\|[^|]*\|\s*(.*)$")
_HISTOGRAM_SECONDS = 2.0
_LIVE_SECONDS = 10.0

Asked = Literal["search", "only", "without", "go"]
_ASKS: dict[Asked, Text] = {
    "search": text("search: plain words, or re:PATTERN   Enter finds, Esc ends the search"),
    "only": text("show only lines with: words or re:PATTERN   empty shows all"),
    "without": text("hide lines with: words or re:PATTERN   empty shows all"),
    "go": text("go to: a line's number, 10:42, 10:42:05, or -5m"),
}


class AskField(Input):
    """Where words are typed; Escape leaves it."""

    BINDINGS = [Binding("escape", "leave", show=False)]  # noqa: RUF012 - as Textual declares it

    def action_leave(self) -> None:
        """Close the field; what it asked for ends."""
        self.value = ""
        self.post_message(self.Submitted(self, ""))


class LogPane(Pane):
    """The pane."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        self.view = LogView()
        super().__init__(self.view, id=id)
        self.field = AskField(id="ask", compact=True)
        self.bars = OneLine(id="bars")
        self.histogram = HistogramBar(id="histogram")
        self.asked: Asked = "search"
        self.shows_histogram = False
        self._trouble = ""
        self._wanted: Search | None = None
        self._unwanted: Search | None = None
        self._counted_at = 0.0
        self._counting = False

    def compose(self) -> ComposeResult:
        """The heading, the lines, the bar and the field."""
        yield self.heading
        yield self.histogram
        yield self.body
        yield self.bars
        yield self.field

    def take(self, news: News) -> None:
        """Mark what failed and bring the lines up to date."""
        for incident in news.incidents.values():
            self.view.book.mark(incident)
        if self.display:
            self.view.settle()

    def draw(self, snapshot: Snapshot) -> None:
        """Draw the heading, the bar and the histogram; the lines draw themselves."""
        now = time.time()
        up = {source.name for source in snapshot.sources.values() if source.state == "up"}
        gone = {source.name for source in snapshot.sources.values() if source.state != "up"}
        running = [
            (at, frame)
            for name, frame, at in self.view.book.bars()
            if not (name in gone and name not in up) and ("100%" not in frame or now - at < _LIVE_SECONDS)
        ]
        self.bars.display = bool(running)
        if running:
            at, frame = max(running)
            self.bars.show(bar_row(frame, self.bars.size.width, live=now - at < _LIVE_SECONDS))
        self.heading.write(_("Log"), self._note(snapshot), focused=self.focused or self.field.has_focus)
        if self.histogram.display and not self._counting and time.monotonic() - self._counted_at > _HISTOGRAM_SECONDS:
            self._counting = True
            self.run_worker(self._count(), exit_on_error=False)

    async def _count(self) -> None:
        try:
            columns = max(self.histogram.size.width - 2, 1)
            self.histogram.show(await asyncio.to_thread(histogram, self.view.book, columns))
        finally:
            self._counting, self._counted_at = False, time.monotonic()

    def _note(self, snapshot: Snapshot) -> tuple[Span, ...]:
        view, notes = self.view, list[Span]()
        if view.book.spool.trouble is not None:
            words = render(
                text("not on disk ({why}): only the last lines are kept", why=visible(view.book.spool.trouble))
            )
            notes.append((words, "warning"))
        if self._trouble:
            notes.append((self._trouble, "error"))
        elif view.search is not None and view.hunt is not None:
            notes.append(self._search_note(view.search, view.hunt))
        if self._wanted is not None:
            notes.append((render(text("only “{words}”", words=short(self._wanted))), "accent"))
        if self._unwanted is not None:
            notes.append((render(text("without “{words}”", words=short(self._unwanted))), "accent"))
        if view.filter is not None:
            notes.append((f"{view.sheet.count:,}{view.filter.progress}", "accent"))
        if view.raw:
            notes.append((_("as printed"), "dim"))
        if view.mark_from is not None and view.mark_from != view.current:
            notes.append((_("y copies"), "accent"))
        notes.append(self._place_note(snapshot))
        spaced: list[Span] = []
        for note in notes:
            spaced += [("   ", "text"), note] if spaced else [note]
        return tuple(spaced)

    def _place_note(self, snapshot: Snapshot) -> Span:
        """Whether it follows, and how far what is read is behind; else how much is new."""
        view = self.view
        if view.following:
            vitals = snapshot.vitals
            if vitals.most_waiting and vitals.waiting > vitals.most_waiting // 2:
                return "● " + _("follows") + " · " + render(
                    text("{count} pieces wait to be read", count=vitals.waiting)
                ), "warning"
            return "● " + _("follows"), "good"
        if view.unseen:
            return render(text("{count} new", count=f"{view.unseen:,}")) + " · f ↓", "warning"
        return _("stays here") + " · f ↓", "dim"

    def _search_note(self, search: Search, hunt: Hunt) -> Span:
        words = short(search)
        count = len(hunt.hits)
        if not count:
            if not hunt.done:
                return render(text("looks for “{words}” …", words=words)), "accent"
            if hunt.cut_short:
                return render(text("“{words}” takes too long", words=words)), "warning"
            return render(text("“{words}” is not there", words=words)), "warning"
        place = self.view.found_place
        return f"“{words}” {f'{place:,}/' if place else ''}{count:,}{hunt.progress}", "accent"

    # -- what is typed ---------------------------------------------------------------------------------------------------

    def ask(self, what: Asked) -> None:
        """Show the field."""
        self.asked = what
        self.field.value = ""
        self.field.display = True
        self.field.placeholder = render(_ASKS[what])
        self.screen.set_focus(self.field, scroll_visible=False)  # at once: what is typed next belongs here

    @on(Input.Submitted)
    async def _typed(self, event: Input.Submitted) -> None:
        event.stop()
        self.field.display = False
        self.screen.set_focus(self.view, scroll_visible=False)
        self._trouble = ""
        try:
            await self._do(self.asked, event.value)
        except UsageError as error:
            self._trouble = visible(str(error))
            if self.asked == "search":
                self.view.find(None)
        self.view.post_message(LogView.Changed())

    async def _do(self, asked: Asked, typed: str) -> None:
        search: Callable[[], Search | None] = lambda: Search.of(typed) if typed else None  # noqa: E731 - two uses below
        if asked == "search":
            self.view.find(search())
        elif asked == "go":
            if typed:
                self.view.show_row(await asyncio.to_thread(row_for, self.view.book, typed))
        else:
            if asked == "only":
                self._wanted = search()
            else:
                self._unwanted = search()
            self.view.show_only(self._wanted, self._unwanted)

    @property
    def searching(self) -> bool:
        """Whether the note speaks of a search or of what is hidden."""
        return self.view.search is not None or bool(self._trouble) or self.view.filter is not None

    def end_search(self) -> None:
        """Forget the search; when there is none, what is hidden."""
        if self._trouble or self.view.search is not None:
            self._trouble = ""
            self.view.find(None)
        else:
            self._wanted = self._unwanted = None
            self.view.show_only(None, None)
        self.view.post_message(LogView.Changed())

    def step_found(self, *, forward: bool) -> None:
        """Go to the next or previous line that holds what is searched."""
        self.view.step_found(forward=forward)

    def toggle_histogram(self) -> None:
        """Show when how much was said, or no longer."""
        self.shows_histogram = self.histogram.display = not self.shows_histogram
        self._counted_at = 0.0
        self.view.post_message(LogView.Changed())


def short(search: Search) -> str:
    """What is looked for, in a few words."""
    return cut(visible(search.words), 24)


def bar_row(frame: str, width: int, *, live: bool) -> Row:
    """A progress bar of a log, drawn anew; as it was printed where it is no bar we know."""
    words = visible(frame).strip()
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
