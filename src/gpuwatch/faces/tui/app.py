"""The screen's app: puts the panes together, passes on what the pipeline tells, and knows the keys.

It keeps what a person chose (incident, fix, pane, language, look) and nothing else: what is shown comes from the snapshot
and the records, what it means was decided before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.message import Message
from textual.widgets import Input

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.body import Body
from gpuwatch.faces.tui.choice import Choice
from gpuwatch.faces.tui.desk import Desk
from gpuwatch.faces.tui.detail import fix_of
from gpuwatch.faces.tui.feed import Feed
from gpuwatch.faces.tui.health import HealthBar
from gpuwatch.faces.tui.incidents import IncidentRows
from gpuwatch.faces.tui.keeping import Keeping, MakeHands
from gpuwatch.faces.tui.keys import KEYS, Help, KeyBar
from gpuwatch.faces.tui.logview import LogView
from gpuwatch.faces.tui.mend import MakeMender, Mends, Recall
from gpuwatch.faces.tui.mute import MuteBar
from gpuwatch.faces.tui.notice import FIRST_HINT, NoticeLine, reload_trouble, rules_are_new
from gpuwatch.faces.tui.pages import TabLine
from gpuwatch.faces.tui.palette import KeyCommands
from gpuwatch.faces.tui.pane import Rows
from gpuwatch.faces.tui.remembered import Remembered
from gpuwatch.faces.tui.terminal import draw_on_output
from gpuwatch.faces.tui.themes import ANSI
from gpuwatch.faces.tui.wording import unsolved
from gpuwatch.texts import LANGUAGES, Text, current, render, text, use
from gpuwatch.texts import translate as _

if TYPE_CHECKING:  # the first screen is drawn before the engine is brought
    from gpuwatch.pipeline import Pipeline

_REPAINT_SECONDS = 1 / 12
_ACTIONS = {"pane", "fix"} | {key.action.partition("(")[0] for key in KEYS}


@dataclass(frozen=True, slots=True)
class Watched:
    """What a screen shows, and what acts for it."""

    pipeline: Pipeline
    metrics_address: str | None = None
    menders: Mapping[str, MakeMender] = field(default_factory=dict)
    recall: Recall | None = None
    hands: Mapping[str, MakeHands] = field(default_factory=dict)
    """What keeps and puts back the queue of each server; not on a screen that only shows."""


class WatchApp(Desk):
    """Shows a pipeline."""

    CSS_PATH = "app.tcss"
    COMMAND_PALETTE_BINDING = "ctrl+p"
    COMMANDS = {KeyCommands}  # noqa: RUF012 - Textual's own shape
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
        pipeline: Pipeline | None = None,
        *,
        metrics_address: str | None = None,
        title: str = "",
        notice: Text | None = None,
        remembers: Path | None = None,
        language_asked: bool = False,
        menders: Mapping[str, MakeMender] | None = None,
        opens: Callable[[], Watched] | None = None,
        read_only: bool = False,
    ) -> None:
        """`remembers`: the file of what was chosen last time. `language_asked`: the command line named a language.

        `menders`: what queues failed jobs anew, by the server's name; without any, nothing is queued from here.
        `opens`: brings what is to be shown, on a thread, once the first screen is drawn; in the place of a pipeline.
        `read_only`: nothing is written and no server is asked for anything; what was chosen last time is read, not kept.
        """
        draw_on_output()
        super().__init__()
        self.read_only = read_only
        self._remembers = remembers
        self._chosen = (Remembered.read(remembers) if remembers is not None else None) or Remembered()
        self.put_on(self._chosen.theme)
        if remembers is not None and not remembers.exists() and notice is None:
            notice = FIRST_HINT
        if not language_asked and self._chosen.language in LANGUAGES:
            use("zh" if self._chosen.language == "zh" else "en")
        self.trouble: BaseException | None = None
        """Why what was to be shown could not be opened."""
        self.snapshot = Snapshot()
        self.choice = Choice()
        self._metrics_address: str | None = None
        self._source_title = title
        self._painted_at = 0.0
        self._feed = Feed(self._tell_arrival)
        self._started = False
        self.health = HealthBar(id="health")
        self.notice_line = NoticeLine(notice, id="notice")
        self.tabs = TabLine(id="tabs")
        self.body = Body()
        self.mute_bar = MuteBar(id="mute")
        self.keys = KeyBar(id="keys", read_only=read_only)
        self.animation_level = "none"
        self.mends = Mends({}, lambda _tried: None, self._tell_arrival)
        self.keeping = Keeping({}, self._tell_arrival)
        self._opens = opens
        self._ahead: Pipeline | None = None
        """The one whose log is shown already."""
        self._watching: Pipeline | None = None
        if pipeline is not None:
            self._take_over(Watched(pipeline, metrics_address, menders or {}))

    def _take_over(self, watched: Watched) -> None:
        """Show this from now on."""
        self.pipeline = watched.pipeline
        self._metrics_address = watched.metrics_address
        menders = {} if self.read_only else watched.menders
        self.mends = Mends(menders, watched.pipeline.emit, self._tell_arrival, lambda: self.snapshot, watched.recall)
        self.keeping = Keeping({} if self.read_only else watched.hands, self._tell_arrival)
        if watched.pipeline is not self._ahead:
            self._hear(watched.pipeline)

    def show_ahead(self, pipeline: Pipeline) -> None:
        """Show the log that is read while what explains it is opened; on the thread that opens."""
        self._ahead = pipeline
        self._hear(pipeline)
        pipeline.read_ahead()

    def _hear(self, pipeline: Pipeline) -> None:
        pipeline.subscribe(self._feed)
        pipeline.overhear(self.body.log_pane.view.book.take)

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
        self.take_terminal()
        self.body.restore(self._chosen)
        self.title = "gpuwatch"
        self.arrange()
        self._started = True
        if self._opens is None:
            self._start()
        else:
            self.call_after_refresh(self.run_worker, self._open(self._opens), exit_on_error=False)

    async def _open(self, opens: Callable[[], Watched]) -> None:
        """Have it opened behind the screen; where that fails there is nothing to show."""
        try:
            self._take_over(await asyncio.to_thread(opens))
        except Exception as error:  # noqa: BLE001 - told where the screen was started, as every failure is
            self.trouble = error
            self.exit()
            return
        if self._started:
            self._start()

    def _start(self) -> None:
        self._watching = self.pipeline
        self._watching.start()

    async def on_unmount(self) -> None:
        """Cease to watch; a source may need a moment to end."""
        if self._started:
            self._started = False
            self._remember()
            self.mends.close()
            self.keeping.close()
            if self._watching is not None:
                await asyncio.to_thread(self._watching.stop)

    def _remember(self) -> None:
        if self._remembers is not None and not self.read_only:
            self.body.describe(self._chosen)
            if self.theme != ANSI.name:
                self._chosen.theme = self.theme
            self._chosen.write(self._remembers)

    def action_command_palette(self) -> None:
        """Open the palette."""
        if len(self.screen_stack) == 1:
            self.push_screen(CommandPalette(id="--command-palette", placeholder=_("what to do …")))

    def _tell_arrival(self) -> None:
        self.post_message(self.Arrived())

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
            self.arrange()
        self._look_at_queues()
        self.choice.attend(self.snapshot, self.mends.is_over(self.choice.mending))
        self.draw()

    def _tell_reload(self, before: Snapshot, now: Snapshot) -> None:
        """Say that rules were read anew; what could not be read stays on the screen until it is mended."""
        if now.rules_reload == before.rules_reload and now.mutes_reload == before.mutes_reload:
            return
        if rules_are_new(before, now) and now.rules is not None:
            self.notify(render(text("Rules read anew: {count} in force.", count=len(now.rules.every))), timeout=4)
        trouble = reload_trouble(now.rules_reload, now.mutes_reload)
        if trouble is not None or reload_trouble(before.rules_reload, before.mutes_reload) is not None:
            self.notice_line.tell(trouble)

    def draw(self) -> None:
        """Bring everything up to date; each part redraws only what changed."""
        if not self._stands:
            return
        self.health.draw(self.snapshot, self._metrics_address, self._source_title)
        self.keys.draw()
        self.tabs.draw(self.body.page, sum(map(unsolved, self.snapshot.incidents.values())))
        self.notice_line.draw(self.size)
        self.mute_bar.draw()
        self.body.draw(self.snapshot, self.choice, self.mends, self.keeping)

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
            self.notice_line.tell(None)
            self.draw()

    # -- how it looks ----------------------------------------------------------------------------------------------------

    async def action_help(self) -> None:
        """Show every key."""
        await self.push_screen(Help(read_only=self.read_only, in_browser=self.is_web))

    def action_language(self) -> None:
        """The other language."""
        use(LANGUAGES[(LANGUAGES.index(current()) + 1) % len(LANGUAGES)])
        self._chosen.language = current()
        self.draw()
