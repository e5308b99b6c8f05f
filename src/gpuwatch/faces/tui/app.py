"""The screen's app: puts the panes together, passes on what the pipeline tells, and knows the keys.

It keeps what a person chose (incident, fix, pane, language, look) and nothing else: what is shown comes from the snapshot
and the records, what it means was decided before.
"""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message
from textual.widgets import Input

from gpuwatch.core.incidents import Incident
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.detail import Detail, fix_of
from gpuwatch.faces.tui.feed import Feed
from gpuwatch.faces.tui.health import HealthBar
from gpuwatch.faces.tui.incidents import IncidentList, IncidentRows
from gpuwatch.faces.tui.keys import KEYS, Help, KeyBar
from gpuwatch.faces.tui.layout import PANES, arrange
from gpuwatch.faces.tui.log import LogPane
from gpuwatch.faces.tui.logview import LogView
from gpuwatch.faces.tui.machine import Machine
from gpuwatch.faces.tui.paint import row, wrapped
from gpuwatch.faces.tui.pane import OneLine, Pane, Rows, Sized
from gpuwatch.faces.tui.themes import DARK, PALETTES
from gpuwatch.faces.tui.wording import said
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import LANGUAGES, Text, current, render, text, use
from gpuwatch.texts import translate as _

_REPAINT_SECONDS = 1 / 12
_ACTIONS = {"pane", "fix"} | {key.action.partition("(")[0] for key in KEYS}


class WatchApp(App[None]):
    """Shows a pipeline."""

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key.keys, key.action, show=False, priority=True) for key in KEYS),
        Binding("tab", "pane(1)", show=False, priority=True),
        Binding("shift+tab", "pane(-1)", show=False, priority=True),
        Binding("ctrl+c", "quit", show=False, priority=True),
        *(Binding(str(number), f"fix({number - 1})", show=False, priority=True) for number in range(1, 10)),
    ]

    class Arrived(Message):
        """Something happened in the pipeline."""

    def __init__(
        self, pipeline: Pipeline, *, metrics_address: str | None = None, title: str = "", notice: Text | None = None
    ) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.snapshot = Snapshot()
        self.chosen: str | None = None
        """The incident that the person chose; None: the newest that matters."""
        self.chosen_fix = 0
        self._explained: str | None = None
        self._metrics_address = metrics_address
        self._source_title = title
        self._notice = notice
        self._looked_at = "incidents"
        self._zoomed = False
        self._painted_at = 0.0
        self._feed = Feed(lambda: self.post_message(self.Arrived()))
        self._started = False
        self._draw_due = False
        pipeline.subscribe(self._feed)
        self.health = HealthBar(id="health")
        self.notice_line = OneLine(id="notice")
        self.incidents = IncidentList(id="incidents")
        self.detail = Detail(id="detail")
        self.machine = Machine(id="machine")
        self.log_pane = LogPane(id="log")
        self.keys = KeyBar(id="keys")
        self.body = Container(id="body")
        self.animation_level = "none"

    def compose(self) -> ComposeResult:
        """Health on top, keys below, the panes between."""
        yield self.health
        yield self.notice_line
        with self.body:
            yield self.incidents
            yield self.detail
            yield self.machine
            yield self.log_pane
        yield self.keys

    def on_mount(self) -> None:
        """Begin to watch."""
        for palette in PALETTES.values():
            self.register_theme(palette.theme())
        self.theme = DARK.name
        self.title = "gpuwatch"
        self.notice_line.display = self._notice is not None
        self._arrange()
        self._started = True
        self.pipeline.start()

    async def on_unmount(self) -> None:
        """Cease to watch; a source may need a moment to end."""
        if self._started:
            self._started = False
            await asyncio.to_thread(self.pipeline.stop)

    # -- what the pipeline tells -----------------------------------------------------------------------------------------

    @on(Arrived)
    def _arrived(self) -> None:
        wait = self._painted_at + _REPAINT_SECONDS - time.monotonic()
        if wait > 0:
            self.set_timer(wait, self._take)
        else:
            self._take()

    def _take(self) -> None:
        self._painted_at = time.monotonic()
        news = self._feed.take()
        self.snapshot = news.snapshot
        self.log_pane.take(news)
        if news.incidents:
            self._arrange()
        self.draw()

    def draw(self) -> None:
        """Bring every pane in view up to date; each redraws only what changed."""
        if not self._started:
            return
        incidents = self.listed
        incident = self.incident
        if incident is not None and incident.id != self._explained:
            self._explained, self.chosen_fix = incident.id, 0
        self.health.draw(self.snapshot, self._metrics_address, self._source_title)
        self.keys.draw()
        if self._notice is not None:
            words = wrapped(said(self._notice), max(self.size.width - 4, 8))[0]
            self.notice_line.show(row((" ▲ ", "warning"), (words, "text"), back="quiet"))
        if self.incidents.display:
            self.incidents.draw(self.snapshot, incidents, incident.id if incident else None)
        if self.detail.display:
            self.detail.draw(self.snapshot, incident, self.chosen_fix)
        if self.machine.display:
            self.machine.draw(self.snapshot)
        if self.log_pane.display:
            self.log_pane.draw(self.snapshot)

    # -- what is chosen --------------------------------------------------------------------------------------------------

    @property
    def listed(self) -> tuple[Incident, ...]:
        """The incidents in the order of the list."""
        return self.snapshot.newest_incidents

    @property
    def incident(self) -> Incident | None:
        """The incident that a person chose, else the one that matters most."""
        chosen = self.snapshot.incidents.get(self.chosen) if self.chosen is not None else None
        return chosen or self.newest_that_matters

    @property
    def newest_that_matters(self) -> Incident | None:
        """The newest that is a failure and not over; where there is none, the newest."""
        listed = self.listed
        grave = (one for one in listed if one.active and one.severity in {"error", "critical"})
        return next(grave, listed[0] if listed else None)

    def choose(self, incident_id: str | None) -> None:
        """Explain this incident. Who chooses the one that matters most will see the next one that does."""
        newest = self.newest_that_matters
        self.chosen = None if newest is not None and newest.id == incident_id else incident_id
        self.draw()

    @on(IncidentRows.Moved)
    def _moved(self, event: IncidentRows.Moved) -> None:
        listed, incident = self.listed, self.incident
        if incident is not None:
            here = next((place for place, one in enumerate(listed) if one.id == incident.id), 0)
            self.choose(listed[min(max(here + event.steps, 0), len(listed) - 1)].id)

    @on(IncidentRows.Entered)
    def _entered(self) -> None:
        if self.incident is not None:
            self._show_in_log(self.incident)

    @on(Rows.Clicked)
    def _clicked(self, event: Rows.Clicked) -> None:
        fix = fix_of(event.key)
        if fix is not None:
            self.action_fix(fix)
        elif event.key in self.snapshot.incidents:
            self.choose(event.key)

    @on(LogView.FollowChanged)
    def _follow_changed(self) -> None:
        if self.log_pane.display:
            self.log_pane.draw(self.snapshot)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's name
        """Whether a key means this now: not while something is typed, nor under another page.

        The keys have priority so that they act before the next one is handed to a pane: `/words` may come all at once.
        """
        if action not in _ACTIONS:
            return True
        return len(self.screen_stack) == 1 and not isinstance(self.focused, Input)

    def action_leave(self) -> None:
        """End."""
        self.exit()

    def action_incident(self, step: int) -> None:
        """Go to the next or previous incident in time, round the end; the log goes along."""
        in_time = tuple(reversed(self.listed))
        incident = self.incident
        if incident is None:
            self.notify(_("No failure seen."), timeout=2)
            return
        here = next((place for place, one in enumerate(in_time) if one.id == incident.id), 0)
        at_newest = here == len(in_time) - 1 and self.log_pane.view.following
        target = in_time[here if step < 0 and at_newest else (here + step) % len(in_time)]
        self.choose(target.id)
        self._show_in_log(target)

    def _show_in_log(self, incident: Incident) -> None:
        place = self.log_pane.view.book.place_of(incident.id)
        if place is None:
            self.notify(_("Its line is no longer in the log kept here."), timeout=3)
            return
        self.log_pane.view.show_entry(place)

    def action_fix(self, number: int) -> None:
        """Choose a fix."""
        incident = self.incident
        if incident is None or incident.diagnosis is None or number >= len(incident.diagnosis.fixes):
            return
        self.chosen_fix = number
        self.draw()
        self.detail.show_fix(number)

    def action_copy(self) -> None:
        """Copy the chosen fix's command."""
        fixes = self.incident.diagnosis.fixes if self.incident and self.incident.diagnosis else ()
        if not fixes:
            self.notify(_("There is nothing to copy."), timeout=2)
            return
        command = fixes[min(self.chosen_fix, len(fixes) - 1)].command
        if command is not None:
            self.copy_to_clipboard(command)
            self.notify(_("Copied the command of this fix."), timeout=3, markup=False)
            return
        other = next((place for place, fix in enumerate(fixes, 1) if fix.command), None)
        if other is None:
            self.notify(_("These fixes have no command to copy."), timeout=3)
        else:
            words = text(
                "Fix {here} has no command; fix {other} has: press {other}, then c.",
                here=self.chosen_fix + 1,
                other=other,
            )
            self.notify(render(words), timeout=4, markup=False)

    # -- where to look ---------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        calm = not self.snapshot.incidents
        wanted = "detail" if calm and self._looked_at == "incidents" else self._looked_at
        chosen = arrange(self.size.width, self.size.height, wanted, zoomed=self._zoomed, calm=calm)
        self.body.set_classes(chosen.name + (" -calm" if calm else ""))
        for name in PANES:
            self._pane(name).display = name in chosen.panes
        main = self.body.screen
        if main.focused is not self.log_pane.field:
            main.set_focus(self._pane(wanted).body, scroll_visible=False)  # at once: the next key may be here already
        self._draw_soon()

    @on(Sized)
    def _draw_soon(self) -> None:
        if not self._draw_due:
            self._draw_due = True
            self.call_after_refresh(self._draw_due_now)

    def _draw_due_now(self) -> None:
        self._draw_due = False
        self.draw()

    def _pane(self, name: str) -> Pane:
        panes: dict[str, Pane] = {
            "incidents": self.incidents, "detail": self.detail, "machine": self.machine, "log": self.log_pane,
        }  # fmt: skip
        return panes[name]

    def _look_at(self, name: str) -> None:
        self._looked_at = name
        self._arrange()

    def action_pane(self, step: int) -> None:
        """Go to the next or previous pane."""
        self._look_at(PANES[(PANES.index(self._looked_at) + step) % len(PANES)])

    def action_machine(self) -> None:
        """Look at the machine, or back at the answer."""
        self._look_at("detail" if self._looked_at == "machine" else "machine")

    def action_zoom(self) -> None:
        """This pane alone, or all."""
        self._zoomed = not self._zoomed
        self._arrange()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A click moves the focus too."""
        for name in PANES:
            here = event.widget is self._pane(name).body and event.widget is self.body.screen.focused
            if here and (self.snapshot.incidents or name != "detail"):
                self._looked_at = name
        self.draw()

    def on_resize(self) -> None:
        """Arrange the panes for the new size; every row is made anew."""
        self.call_next(self._arrange)  # the app's own size is the old one until its other handler ran

    def action_follow(self) -> None:
        """Follow the log's end."""
        self.log_pane.view.action_follow()

    def action_search(self) -> None:
        """Type what to search."""
        self._look_at("log")
        self.log_pane.open_search()

    def action_found(self, forward: bool) -> None:
        """Go to the next or previous line that holds what is searched."""
        self.log_pane.step_found(forward=forward)

    def action_dismiss(self) -> None:
        """End the zoom, the search or the notice, one at a time."""
        if self._zoomed:
            self.action_zoom()
        elif self.log_pane.view.search is not None:
            self.log_pane.view.find(None)
            self.log_pane.draw(self.snapshot)
        else:
            self.notice_line.display = False

    # -- how it looks ----------------------------------------------------------------------------------------------------

    async def action_help(self) -> None:
        """Show every key."""
        await self.push_screen(Help())

    def action_language(self) -> None:
        """The other language."""
        use(LANGUAGES[(LANGUAGES.index(current()) + 1) % len(LANGUAGES)])
        self.draw()

    def action_theme(self) -> None:
        """The next look."""
        names = list(PALETTES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)]
        self.draw()
        for widget in self.screen.walk_children():
            widget.refresh()
        self.notify(self.theme.removeprefix("gpuwatch-"), timeout=1.5)
