"""The screen's app: puts the panes together, passes on what the pipeline tells, and knows the keys.

It keeps what a person chose (incident, fix, pane, language, look) and nothing else: what is shown comes from the snapshot
and the records, what it means was decided before.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.mute_file import add_mute, remove_mute
from gpuwatch.core.incidents import Incident
from gpuwatch.core.mutes import Mute
from gpuwatch.core.reloads import MutesLoaded
from gpuwatch.core.snapshot import Reload, Snapshot
from gpuwatch.errors import GpuwatchError
from gpuwatch.faces.tui.body import Body
from gpuwatch.faces.tui.choice import Choice
from gpuwatch.faces.tui.detail import fix_of
from gpuwatch.faces.tui.export import copied_file, export_incident
from gpuwatch.faces.tui.feed import Feed
from gpuwatch.faces.tui.health import HealthBar
from gpuwatch.faces.tui.incidents import IncidentRows
from gpuwatch.faces.tui.keys import KEYS, Help, KeyBar, keys_of
from gpuwatch.faces.tui.log import Asked
from gpuwatch.faces.tui.logview import LogView
from gpuwatch.faces.tui.mend import MakeMender, Mend, Mends
from gpuwatch.faces.tui.mute import MuteBar
from gpuwatch.faces.tui.pages import PAGES, Page, TabLine
from gpuwatch.faces.tui.paint import row, wrapped
from gpuwatch.faces.tui.pane import OneLine, Rows, Sized
from gpuwatch.faces.tui.remembered import Remembered
from gpuwatch.faces.tui.terminal import draw_on_output
from gpuwatch.faces.tui.themes import ANSI, DARK, PALETTES
from gpuwatch.faces.tui.wording import said
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import LANGUAGES, Text, current, render, text, use, visible
from gpuwatch.texts import translate as _

_REPAINT_SECONDS = 1 / 12
_TABS_FROM = 20
_SIZE_SECONDS = 3.0
FIRST_HINT = text("? lists every key, e goes to the next failure, / searches, q quits. Esc hides this line.")
ONLY_SHOWS = text("This screen only shows; `gpuwatch web --allow-actions` starts one that may act.")
_ACTIONS = {"pane", "fix"} | {key.action.partition("(")[0] for key in KEYS}


class WatchApp(App[None]):
    """Shows a pipeline."""

    CSS_PATH = "app.tcss"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key.keys, key.action, show=False, priority=True) for key in KEYS),
        Binding("tab", "pane(1)", show=False, priority=True),
        Binding("shift+tab", "pane(-1)", show=False, priority=True),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
        *(Binding(str(number), f"fix({number - 1})", show=False, priority=True) for number in range(1, 10)),
    ]

    class Arrived(Message):
        """Something happened in the pipeline."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        metrics_address: str | None = None,
        title: str = "",
        notice: Text | None = None,
        remembers: Path | None = None,
        language_asked: bool = False,
        menders: Mapping[str, MakeMender] | None = None,
        read_only: bool = False,
    ) -> None:
        """`remembers`: the file of what was chosen last time. `language_asked`: the command line named a language.

        `menders`: what queues failed jobs anew, by the server's name; without any, nothing is queued from here.
        `read_only`: nothing is written and no server is asked for anything; what was chosen last time is read, not kept.
        """
        draw_on_output()
        super().__init__()
        self.read_only = read_only
        self._remembers = remembers
        self._chosen = (Remembered.read(remembers) if remembers is not None else None) or Remembered()
        if remembers is not None and not remembers.exists() and notice is None:
            notice = FIRST_HINT
        if not language_asked and self._chosen.language in LANGUAGES:
            use("zh" if self._chosen.language == "zh" else "en")
        self.pipeline = pipeline
        self.snapshot = Snapshot()
        self.choice = Choice()
        self._metrics_address = metrics_address
        self._source_title = title
        self._notice = notice
        self._painted_at = 0.0
        self._feed = Feed(lambda: self.post_message(self.Arrived()))
        self.mends = Mends(
            (not read_only and menders) or {},
            pipeline.emit,
            lambda: self.post_message(self.Arrived()),
            self._known_incidents,
        )
        self._started = False
        self._draw_due = False
        pipeline.subscribe(self._feed)
        self.health = HealthBar(id="health")
        self.notice_line = OneLine(id="notice")
        self.tabs = TabLine(id="tabs")
        self.body = Body()
        pipeline.overhear(self.body.log_pane.view.book.take)
        self.mute_bar = MuteBar(id="mute")
        self.keys = KeyBar(id="keys", read_only=read_only)
        self.animation_level = "none"

    def compose(self) -> ComposeResult:
        """Health on top, keys below, the panes between."""
        yield self.health
        yield self.tabs
        yield self.notice_line
        yield self.body
        yield self.mute_bar
        yield self.keys

    def on_mount(self) -> None:
        """Begin to watch."""
        for palette in PALETTES.values():
            self.register_theme(palette.theme())
        self.theme = self._first_theme()
        self.body.restore(self._chosen)
        self.title = "gpuwatch"
        self.notice_line.display = self._notice is not None
        self._arrange()
        self._started = True
        self.app_resume_signal.subscribe(self, lambda _app: self._draw_everything())
        self.pipeline.start()
        if self._driver is not None and not self._driver.is_headless:
            self.set_interval(_SIZE_SECONDS, self._look_at_size)

    async def on_unmount(self) -> None:
        """Cease to watch; a source may need a moment to end."""
        if self._started:
            self._started = False
            self._remember()
            self.mends.close()
            await asyncio.to_thread(self.pipeline.stop)

    def _first_theme(self) -> str:
        """The look of last time; on a terminal of sixteen colours, one that is made of them."""
        headless = self._driver is None or self._driver.is_headless
        if not headless and self.console.color_system in {"standard", "windows"}:
            return ANSI.name
        return self._chosen.theme if self._chosen.theme in PALETTES else DARK.name

    def _remember(self) -> None:
        if self._remembers is not None and not self.read_only:
            self.body.describe(self._chosen)
            if self.theme != ANSI.name:
                self._chosen.theme = self.theme
            self._chosen.write(self._remembers)

    def _draw_everything(self) -> None:
        """All of it anew: another look, or the terminal showed something else meanwhile."""
        self.draw()
        for widget in self.screen.walk_children():
            widget.refresh()

    def _look_at_size(self) -> None:
        """Terminals and multiplexers under load have been seen to lose the signal that tells of a new size."""
        try:
            size = Size(*os.get_terminal_size(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2))
        except (OSError, ValueError):
            return
        if size.width and size.height:
            self.notice_size(size)

    def notice_size(self, size: Size) -> None:
        """Take this for the terminal's size, where something else was taken for it."""
        if size != self.size:
            self.post_message(events.Resize(size, size))
        elif size != self.screen.size:
            self.screen.post_message(events.Resize(size, size))

    def action_suspend_process(self) -> None:
        """Stop the whole job, as the terminal's own Ctrl-Z does: a producer in the same pipe too, so that the shell comes back."""
        if sys.platform == "win32" or self._driver is None or not self._driver.can_suspend:
            return
        self._suspend_signal()
        os.killpg(os.getpgrp(), signal.SIGTSTP)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: every key by its meaning."""
        del screen
        for key in keys_of(read_only=self.read_only):
            yield SystemCommand(
                f"{render(key.meaning)}  ({key.shown})",
                "",
                lambda action=key.action: self.call_later(self.run_action, action),
            )

    def say(self, words: Text, /, **_fields: object) -> None:
        """Show a word of warning; from any thread."""
        self.call_later(partial(self.notify, visible(render(words)), severity="warning", markup=False))

    def ring(self, signal: str) -> None:
        """Have the terminal ring; from any thread."""
        self.call_later(self._ring, signal)

    def _ring(self, signal: str) -> None:
        if self._driver is not None and not self._driver.is_headless:
            self._driver.write(signal)

    # -- what the pipeline tells -----------------------------------------------------------------------------------------

    @on(Arrived)
    def _arrived(self) -> None:
        wait = self._painted_at + _REPAINT_SECONDS - time.monotonic()
        if wait > 0:
            self.set_timer(wait, self._take)
        else:
            self._take()

    @property
    def _stands(self) -> bool:
        """Whether there is a screen to draw on: while it ends, what is under way still comes in."""
        return self._started and self.body.is_attached

    def _take(self) -> None:
        if not self._stands:
            return
        self._painted_at = time.monotonic()
        news = self._feed.take()
        self._tell_reload(self.snapshot, news.snapshot)
        self.snapshot = news.snapshot
        self.body.log_pane.take(news)
        if news.incidents:
            self._arrange()
        self.draw()

    def _tell_reload(self, before: Snapshot, now: Snapshot) -> None:
        """Say that rules were read anew; what could not be read stays on the screen until it is mended."""
        if now.rules_reload == before.rules_reload and now.mutes_reload == before.mutes_reload:
            return
        if (
            now.rules_reload not in (None, before.rules_reload)
            and now.rules is not before.rules
            and now.rules is not None
        ):
            self.notify(render(text("Rules read anew: {count} in force.", count=len(now.rules.every))), timeout=4)
        trouble = reload_trouble(now.rules_reload, now.mutes_reload)
        if trouble is not None or reload_trouble(before.rules_reload, before.mutes_reload) is not None:
            self._notice = trouble
            self.notice_line.display = trouble is not None

    def draw(self) -> None:
        """Bring everything up to date; each part redraws only what changed."""
        if not self._stands:
            return
        self.health.draw(self.snapshot, self._metrics_address, self._source_title)
        self.keys.draw()
        self.tabs.draw(self.body.page)
        if self._notice is not None:
            words = wrapped(said(self._notice), max(self.size.width - 4, 8))[0]
            self.notice_line.show(row((" ▲ ", "warning"), (words, "text"), back="quiet"))
        self.mute_bar.draw()
        self.body.draw(self.snapshot, self.choice, self.mends)

    @on(Sized)
    def _draw_soon(self) -> None:
        if not self._draw_due:
            self._draw_due = True
            self.call_after_refresh(self._draw_due_now)

    def _draw_due_now(self) -> None:
        self._draw_due = False
        self.draw()

    # -- what is chosen --------------------------------------------------------------------------------------------------

    @on(IncidentRows.Moved)
    def _moved(self, event: IncidentRows.Moved) -> None:
        self.choice.move(self.snapshot, event.steps)
        self.mute_bar.offer(None)
        self.draw()

    @on(IncidentRows.Entered)
    def _entered(self) -> None:
        if (incident := self.choice.incident(self.snapshot)) is not None:
            self._show_in_log(incident.id)

    @on(Rows.Clicked)
    def _clicked(self, event: Rows.Clicked) -> None:
        fix = fix_of(event.key)
        if fix is not None:
            self.action_fix(fix)
        elif event.key in self.snapshot.incidents:
            self.choice.take(self.snapshot, event.key)
            self.mute_bar.offer(None)
            self.draw()

    @on(LogView.Changed)
    def _log_changed(self) -> None:
        if self.body.log_pane.display:
            self.body.log_pane.draw(self.snapshot)

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
        target = self.choice.step(self.snapshot, step, from_end=self.body.log_pane.view.following)
        if target is None:
            self.notify(_("No failure seen."), timeout=2)
            return
        self.mute_bar.offer(None)
        self.draw()
        self._show_in_log(target.id)

    def _show_in_log(self, incident_id: str) -> None:
        place = self.body.log_pane.view.book.place_of(incident_id)
        if place is None:
            self.notify(_("Its line is no longer in the log kept here."), timeout=3)
            return
        self.body.log_pane.view.show_row(place)

    def action_fix(self, number: int) -> None:
        """Choose a fix, or what to mute while that is asked."""
        if self.mute_bar.display:
            self._choose_mute(number)
        elif number < len(self.choice.fixes(self.snapshot)):
            self.choice.fix = number
            self.draw()
            self.body.detail.show_fix(number)

    def action_mute(self) -> None:
        """Ask what to mute of the chosen failure; again: ask no more."""
        if self._only_shows():
            return
        incident = None if self.mute_bar.display else self.choice.incident(self.snapshot)
        if incident is None and not self.mute_bar.display:
            self.notify(_("No failure seen."), timeout=2)
        self.mute_bar.offer(incident)

    def action_show_muted(self) -> None:
        """List muted failures too, or no longer."""
        self.choice.shows_muted = not self.choice.shows_muted
        self.draw()

    def _choose_mute(self, number: int) -> None:
        offered = self.mute_bar.incident
        choices = self.mute_bar.choices()
        if offered is None or number >= len(choices):
            return
        self.mute_bar.offer(None)
        self.run_worker(self._write_mute(choices[number], muted=offered.muted), exit_on_error=False)

    async def _write_mute(self, mute: Mute, *, muted: bool) -> None:
        """Write or take out an entry, and have it in force at once."""
        try:
            mutes = await asyncio.to_thread(remove_mute if muted else add_mute, mute)
        except GpuwatchError as error:
            self.notify(said(error.message), severity="error", timeout=8)
            return
        await asyncio.to_thread(self.pipeline.emit, MutesLoaded(utc_now(), mutes))
        told = (
            text("{subject} is muted no more.", subject=mute.subject)
            if muted
            else text("{subject} is muted; M lists what is.", subject=mute.subject)
        )
        self.notify(said(told), timeout=4)

    def _only_shows(self) -> bool:
        """Whether nothing may be done from here; says so."""
        if self.read_only:
            self.notify(said(ONLY_SHOWS), timeout=5)
        return self.read_only

    def action_copy(self) -> None:
        """Copy the chosen fix's command."""
        fixes = self.choice.fixes(self.snapshot)
        chosen = min(self.choice.fix, len(fixes) - 1)
        other = next((place for place, fix in enumerate(fixes, 1) if fix.command), None)
        if other is None:
            self.notify(_("There is no command to copy."), timeout=3)
        elif (command := fixes[chosen].command) is not None:
            self.copy_to_clipboard(command)
            self.notify(_("Copied the command of this fix."), timeout=3)
        else:
            here = chosen + 1
            words = text("Fix {here} has no command; fix {other} has: press {other}, then c.", here=here, other=other)
            self.notify(render(words), timeout=4)

    def action_copy_lines(self) -> None:
        """Copy the lines that are selected in the log: to the terminal's clipboard, and to a file where that is too much."""
        lines = self.body.log_pane.view.selected()
        if not lines:
            self.notify(_("Mark a line with the mouse or v, then y copies."), timeout=3)
            return
        words = "\n".join(lines) + "\n"
        self.copy_to_clipboard(words)
        if self.read_only:
            self.notify(render(text("Copied {count} lines.", count=len(lines))), timeout=4)
            return
        self.run_worker(self._write_copy(words, len(lines)), exit_on_error=False)

    async def _write_copy(self, words: str, count: int) -> None:
        path = await asyncio.to_thread(copied_file, words)
        told = text("Copied {count} lines; also in {path}", count=count, path=str(path))
        self.notify(said(told if path is not None else text("Copied {count} lines.", count=count)), timeout=4)

    def action_export(self) -> None:
        """Write the chosen failure to a file."""
        if self._only_shows():
            return
        incident = self.choice.incident(self.snapshot)
        if incident is None:
            self.notify(_("No failure seen."), timeout=2)
        else:
            self.run_worker(self._export(incident), exit_on_error=False)

    async def _export(self, incident: Incident) -> None:
        try:
            path = await asyncio.to_thread(export_incident, incident)
        except GpuwatchError as error:
            self.notify(said(error.message), severity="error", timeout=8)
        else:
            self.notify(said(text("Written to {path}", path=str(path))), timeout=6)

    def _known_incidents(self) -> Iterable[Incident]:
        return self.snapshot.incidents.values()

    def action_mend(self) -> None:
        """Plan to queue the chosen failure's job anew; again, where the plan is in view: do it."""
        if self._only_shows():
            return
        incident = self.choice.incident(self.snapshot)
        if incident is None:
            self.notify(_("No failure seen."), timeout=2)
            return
        mend, detail = self.mends.of(incident.id), self.body.detail
        in_view = detail.display
        if not in_view:
            self._look_at("detail")
        if mend is not None and mend.stage == "asked":
            if in_view:
                self._agree(mend)
            return
        if mend is None or not (mend.under_way or mend.stage == "planning"):
            if (obstacle := self.mends.obstacle(incident)) is not None:
                self.notify(said(obstacle), timeout=6)
            else:
                self.mends.plan(incident)
        self.draw()
        detail.show_start()

    def _agree(self, mend: Mend) -> None:
        """Queue what is asked about once all of it was seen; until then show more of it."""
        question = self.body.detail.question(mend)
        if question.hidden_rows:
            self.body.detail.read_on()
        elif question.ready:
            self.mends.agree(mend.incident_id)
            self.draw()
            self.body.detail.show_start()

    def action_acknowledge(self) -> None:
        """The person has seen the chosen failure: another one matters more from now on."""
        incident = self.choice.incident(self.snapshot)
        if incident is None:
            self.notify(_("No failure seen."), timeout=2)
            return
        self.choice.acknowledge(incident.id)
        self.draw()

    # -- where to look ---------------------------------------------------------------------------------------------------

    def _arrange(self, size: Size | None = None) -> None:
        if not self.body.is_attached:
            return
        size = size or self.size
        self.tabs.display = size.height >= _TABS_FROM
        self.body.place_panes(size, calm=not self.snapshot.incidents)
        self._draw_soon()

    def _look_at(self, name: str) -> None:
        self.body.looked_at, self.body.page = name, "home"
        self._arrange()

    def action_pane(self, step: int) -> None:
        """Go to the next or previous pane."""
        self._look_at(self.body.neighbour(step))

    def action_page(self, page: Page) -> None:
        """Open a page, or go back from it."""
        self.body.page = "home" if self.body.page == page else page
        self._arrange()

    def action_turn(self, step: int) -> None:
        """The next or previous page."""
        names = [name for name, _key, _title in PAGES]
        self.body.page = names[(names.index(self.body.page) + step) % len(names)]
        self._arrange()

    def action_zoom(self) -> None:
        """This pane alone, or all."""
        self.body.zoomed = not self.body.zoomed
        self._arrange()

    def on_descendant_focus(self) -> None:
        """Show where the keys go now."""
        self.draw()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A click is a look at its pane. The focus alone is none: a pane that has no room any more hands it on by itself."""
        widget, _region = self.get_widget_at(event.screen_x, event.screen_y)
        self.body.clicked(widget, calm=not self.snapshot.incidents)
        self._draw_soon()

    def on_resize(self, event: events.Resize) -> None:
        """Arrange the panes for the new size; the app's own is the old one until its other handler ran."""
        self._arrange(event.size)

    def action_follow(self) -> None:
        """Follow the log's end."""
        self.body.log_pane.view.action_follow()

    def action_search(self) -> None:
        """Type what to search."""
        self._ask("search")

    def _ask(self, what: Asked) -> None:
        self._look_at("log")
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

    def action_dismiss(self) -> None:
        """End the choice, the zoom, the search or the notice, one at a time."""
        if self.mute_bar.display:
            self.mute_bar.offer(None)
        elif (incident := self.choice.incident(self.snapshot)) is not None and self.mends.leave(incident.id):
            self.draw()
        elif self.body.page != "home":
            self.action_page("home")
        elif self.body.zoomed:
            self.action_zoom()
        elif self.body.log_pane.searching:
            self.body.log_pane.end_search()
        else:
            self.notice_line.display = False

    # -- how it looks ----------------------------------------------------------------------------------------------------

    async def action_help(self) -> None:
        """Show every key."""
        await self.push_screen(Help(read_only=self.read_only))

    def action_language(self) -> None:
        """The other language."""
        use(LANGUAGES[(LANGUAGES.index(current()) + 1) % len(LANGUAGES)])
        self._chosen.language = current()
        self.draw()

    def action_theme(self) -> None:
        """The next look."""
        names = list(PALETTES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)]
        self._draw_everything()
        self.notify(self.theme.removeprefix("gpuwatch-"), timeout=1.5)


def reload_trouble(rules: Reload | None, mutes: Reload | None) -> Text | None:
    """What stands in the person's files and is not in force; None where all is."""
    if rules is not None and rules.refused is not None:
        return text("The rules stay as they were: {reason}", reason=rules.refused)
    if mutes is not None and mutes.refused is not None:
        return text("The mutes stay as they were: {reason}", reason=mutes.refused)
    return None
