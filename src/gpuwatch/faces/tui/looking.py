"""Where a person looks: which page and panes are in view, what the log is asked for. The keys and clicks that change that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events, on
from textual.geometry import Size

from gpuwatch.faces.tui.body import Body
from gpuwatch.faces.tui.pages import PAGES, Page, TabLine
from gpuwatch.faces.tui.pane import Sized
from gpuwatch.faces.tui.shell import Shell

if TYPE_CHECKING:
    from gpuwatch.core.snapshot import Snapshot
    from gpuwatch.faces.tui.log import Asked

_TABS_FROM = 20


class Looking(Shell):
    """An app with pages and panes."""

    snapshot: Snapshot
    body: Body
    tabs: TabLine
    _draw_due = False

    def arrange(self, size: Size | None = None) -> None:
        """Put the panes where they go now."""
        if not self.body.is_attached:
            return
        size = size or self.size
        self.tabs.display = size.height >= _TABS_FROM
        self.body.place_panes(size, calm=not self.snapshot.incidents)
        self.draw_soon()

    def look_at(self, name: str) -> None:
        """Bring a pane into view and give it the keys."""
        self.body.looked_at, self.body.page = name, "home"
        self.arrange()

    def action_pane(self, step: int) -> None:
        """Go to the next or previous pane."""
        self.look_at(self.body.neighbour(step))

    def action_page(self, page: Page) -> None:
        """Open a page, or go back from it."""
        self.body.page = "home" if self.body.page == page else page
        self.arrange()

    def action_turn(self, step: int) -> None:
        """The next or previous page."""
        names = [name for name, _key, _title in PAGES]
        self.body.page = names[(names.index(self.body.page) + step) % len(names)]
        self.arrange()

    def action_zoom(self) -> None:
        """This pane alone, or all."""
        self.body.zoomed = not self.body.zoomed
        self.arrange()

    @on(Sized)
    def draw_soon(self) -> None:
        """Draw once what changed has its place."""
        if not self._draw_due:
            self._draw_due = True
            self.call_after_refresh(self._draw_due_now)

    def _draw_due_now(self) -> None:
        self._draw_due = False
        self.draw()

    def on_descendant_focus(self) -> None:
        """Show where the keys go now."""
        self.draw()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A click is a look at its pane. The focus alone is none: a pane that has no room any more hands it on by itself."""
        widget, _region = self.get_widget_at(event.screen_x, event.screen_y)
        self.body.clicked(widget, calm=not self.snapshot.incidents)
        self.draw_soon()

    def on_resize(self, event: events.Resize) -> None:
        """Arrange the panes for the new size; the app's own is the old one until its other handler ran."""
        self.arrange(event.size)

    def action_follow(self) -> None:
        """Follow the log's end."""
        self.body.log_pane.view.action_follow()

    def action_search(self) -> None:
        """Type what to search."""
        self._ask("search")

    def _ask(self, what: Asked) -> None:
        self.look_at("log")
        self.body.log_pane.ask(what)

    def action_only(self) -> None:
        """Type what the lines must hold that are shown."""
        self._ask("only")

    def action_without(self) -> None:
        """Type what the lines must not hold that are shown."""
        self._ask("without")

    def action_go(self) -> None:
        """Type where to go."""
        self._ask("go")

    def action_histogram(self) -> None:
        """Show when how much was said."""
        self.body.log_pane.toggle_histogram()

    def action_found(self, forward: bool) -> None:
        """Go to the next or previous line that holds what is searched."""
        self.body.log_pane.step_found(forward=forward)
