"""The panes between the health bar and the keys: which are in view, and which of them the person looks at."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Size
from textual.widget import Widget

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.choice import Choice
from gpuwatch.faces.tui.detail import Detail
from gpuwatch.faces.tui.incidents import IncidentList
from gpuwatch.faces.tui.keeping import Keeping
from gpuwatch.faces.tui.layout import PANES, arrange
from gpuwatch.faces.tui.log import LogPane
from gpuwatch.faces.tui.machine import Machine
from gpuwatch.faces.tui.mend import Mends
from gpuwatch.faces.tui.pages import PAGES, Page, PagePane
from gpuwatch.faces.tui.pane import Pane
from gpuwatch.faces.tui.remembered import Remembered


class Body(Container):
    """The panes."""

    def __init__(self) -> None:
        super().__init__(id="body")
        self.looked_at = "incidents"
        self.zoomed = False
        self.page: Page = "home"
        self.incidents = IncidentList(id="incidents")
        self.detail = Detail(id="detail")
        self.machine = Machine(id="machine")
        self.log_pane = LogPane(id="log")
        self.page_pane = PagePane(id="page")

    def compose(self) -> ComposeResult:
        """In the order that Tab goes."""
        yield self.incidents
        yield self.detail
        yield self.machine
        yield self.log_pane
        yield self.page_pane

    def restore(self, chosen: Remembered) -> None:
        """As it was left last time."""
        self.page = next((name for name, _key, _title in PAGES if name == chosen.page), "home")
        self.zoomed = chosen.zoomed
        self.looked_at = chosen.looked_at if chosen.looked_at in PANES else "incidents"
        self.log_pane.view.wrap = chosen.wrap
        self.log_pane.shows_histogram = self.log_pane.histogram.display = chosen.histogram

    def describe(self, chosen: Remembered) -> None:
        """Write down how it is left."""
        chosen.page, chosen.zoomed, chosen.looked_at = self.page, self.zoomed, self.looked_at
        chosen.wrap, chosen.histogram = self.log_pane.view.wrap, self.log_pane.shows_histogram

    def pane(self, name: str) -> Pane:
        """The pane of that name."""
        panes: dict[str, Pane] = {
            "incidents": self.incidents, "detail": self.detail, "machine": self.machine, "log": self.log_pane,
        }  # fmt: skip
        return panes[name]

    def place_panes(self, size: Size, *, calm: bool) -> None:
        """Put the panes where they go at this size of the terminal. `calm`: there is no incident to list."""
        self.page_pane.display = self.page != "home"
        if self.page != "home":
            self.set_classes("-one")
            for name in PANES:
                self.pane(name).display = False
            self.screen.set_focus(self.page_pane.rows, scroll_visible=False)
            return
        wanted = "detail" if calm and self.looked_at == "incidents" else self.looked_at
        chosen = arrange(size.width, size.height, wanted, zoomed=self.zoomed, calm=calm)
        self.set_classes(chosen.name + (" -calm" if calm else ""))
        for name in PANES:
            self.pane(name).display = name in chosen.panes
        if self.screen.focused is not self.log_pane.field:
            # at once, not after the next refresh: the next key may be here already
            self.screen.set_focus(self.pane(wanted).body, scroll_visible=False)

    def clicked(self, widget: Widget, *, calm: bool) -> None:
        """The person looks at the pane that holds the widget."""
        if self.page != "home":
            return
        for name in PANES:
            if self.pane(name) in widget.ancestors_with_self and not (calm and name == "detail"):
                self.looked_at = name

    def neighbour(self, step: int) -> str:
        """The next or previous pane."""
        return PANES[(PANES.index(self.looked_at) + step) % len(PANES)]

    def draw(self, snapshot: Snapshot, choice: Choice, mends: Mends, keeping: Keeping) -> None:
        """Bring every pane in view up to date; each redraws only what changed."""
        incident = choice.incident(snapshot)
        if in_view(self.page_pane):
            fixes = choice.fixes(snapshot)
            chosen = fixes[choice.fix].predicted if choice.fix < len(fixes) else None
            self.page_pane.draw(snapshot, self.page, chosen.peak_bytes if chosen is not None else None)
        if in_view(self.incidents):
            self.incidents.draw(snapshot, choice.listed(snapshot), incident.id if incident else None, choice.seen)
        if in_view(self.detail):
            mend = mends.of(incident.id) if incident is not None else None
            word = keeping.word(incident, snapshot) if incident is not None else None
            does = mends.offer(incident) if incident is not None else None
            offer = ("", word) if word is not None else ("a", does) if does is not None else None
            self.detail.draw(snapshot, incident, choice.fix, mend, offer)
        if in_view(self.machine):
            self.machine.draw(snapshot)
        if in_view(self.log_pane):
            self.log_pane.draw(snapshot)


def in_view(pane: Pane) -> bool:
    """Whether it has a place and knows how large that is."""
    return pane.display and pane.size.width > 0
