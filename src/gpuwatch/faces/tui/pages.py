"""The pages beside the failures, and the line that names them: the GPUs, the jobs, our own runner. Each takes the whole room."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual import events
from textual.binding import Binding, BindingType

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.gpu_page import gpu_page
from gpuwatch.faces.tui.jobs_page import jobs_page
from gpuwatch.faces.tui.paint import Span, row, width_of
from gpuwatch.faces.tui.pane import OneLine, Pane, Rows, Sized
from gpuwatch.faces.tui.runner_page import runner_page
from gpuwatch.faces.tui.traced import TraceDesk
from gpuwatch.texts import Text, render, text
from gpuwatch.texts import translate as _

Page = Literal["home", "gpu", "jobs", "runner"]
PAGES: tuple[tuple[Page, str, Text], ...] = (
    ("home", "H", text("Failures")),
    ("gpu", "p", text("GPU")),
    ("jobs", "J", text("Jobs")),
    ("runner", "R", text("Runner")),
)
_SORTS = ("memory", "pid", "name")


class TabLine(OneLine):
    """The pages by name; a click goes there."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._places: list[tuple[int, int, Page]] = []

    def draw(self, page: Page, unsolved: int) -> None:
        """Draw the names, the open page's marked; and how many failures are unsolved, whichever page is open."""
        spans: list[Span] = []
        self._places = []
        for name, key, title in PAGES:
            start = width_of(spans)
            here = name == page
            spans += [
                (" ▌" if here else "  ", "accent"),
                (key + " ", "key"),
                (render(title) + " ", "strong" if here else "dim"),
            ]
            if name == "home" and unsolved:
                spans.append((f"✗{unsolved} ", "error"))
            self._places.append((start, width_of(spans), name))
        hint = _("[ ] turn the page") + " "
        gap = self.size.width - width_of(spans) - width_of([(hint, "dim")])
        if gap > 0:
            spans += [(" " * gap, "text"), (hint, "faint")]
        self.show(row(*spans, back="quiet"))

    async def on_click(self, event: events.Click) -> None:
        """Go to the page."""
        for start, end, name in self._places:
            if start <= event.x < end:
                await self.app.run_action(f"page('{name}')")


class PageRows(Rows):
    """The rows of a page that can be sorted."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("s", "sort", show=False)]

    sort = 0

    def action_sort(self) -> None:
        """Sort the processes by something else."""
        self.sort = (self.sort + 1) % len(_SORTS)
        self.app.call_later(getattr(self.app, "draw", lambda: None))


class PagePane(Pane):
    """The page that is open, where it is not the failures."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        self.rows = PageRows()
        super().__init__(self.rows, id=id)
        self._traces = TraceDesk(lambda: self.post_message(Sized()))

    def draw(self, snapshot: Snapshot, page: Page, predicted_bytes: int | None) -> None:
        """Draw it."""
        if page == "gpu":
            rows = gpu_page(snapshot, self.width, self.rows.size.height, _SORTS[self.rows.sort], predicted_bytes)
        elif page == "jobs":
            rows = jobs_page(snapshot, self.width)
        else:
            report = snapshot.run.report if snapshot.run is not None else None
            rows = runner_page(snapshot, self.width, self._traces.of(report or {}))
        self.rows.show(rows)
        title = next(title for name, _key, title in PAGES if name == page)
        self.heading.write(render(title), (), focused=self.focused)
