"""What a person does with the chosen failure: choose a fix, mend its job, copy, write it to a file, mute it, acknowledge it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from gpuwatch.adapters.clock import utc_now
from gpuwatch.core.incidents import Incident
from gpuwatch.core.mutes import Mute
from gpuwatch.core.reloads import MutesLoaded
from gpuwatch.errors import GpuwatchError
from gpuwatch.faces.tui.choice import Choice
from gpuwatch.faces.tui.consent import LOOK_SECONDS
from gpuwatch.faces.tui.export import copied_file, export_incident
from gpuwatch.faces.tui.keeping import Keeping
from gpuwatch.faces.tui.looking import Looking
from gpuwatch.faces.tui.mend import Mend, Mends
from gpuwatch.faces.tui.mute import MuteBar
from gpuwatch.faces.tui.notice import NoticeLine
from gpuwatch.faces.tui.wording import said
from gpuwatch.texts import render, text
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.pipeline import Pipeline

ONLY_SHOWS = text("This screen only shows; `gpuwatch web --allow-actions` starts one that may act.")


class Desk(Looking):
    """An app whose keys act on the failure that is chosen."""

    pipeline: Pipeline
    choice: Choice
    mends: Mends
    mute_bar: MuteBar
    read_only: bool
    keeping: Keeping
    notice_line: NoticeLine
    _asked_at: float | None = None
    """When it was asked whether to queue a server's jobs again."""
    _tells_lost = False
    """Whether the notice speaks of such jobs."""

    def _only_shows(self) -> bool:
        """Whether nothing may be done from here; says so."""
        if self.read_only:
            self.notify(said(ONLY_SHOWS), timeout=5)
        return self.read_only

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
        from gpuwatch.adapters.mute_file import add_mute, remove_mute  # noqa: PLC0415 - YAML, once something is muted

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

    def action_mend(self) -> None:
        """Plan to queue the chosen failure's job anew; again, where the plan is in view: do it."""
        self._mend(with_alike=False)

    def action_mend_alike(self) -> None:
        """The same; and agree for the jobs that failed alike, too."""
        self._mend(with_alike=True)

    def _mend(self, *, with_alike: bool) -> None:
        if self._only_shows():
            return
        incident = self.choice.incident(self.snapshot)
        if incident is None:
            self.notify(_("No failure seen."), timeout=2)
            return
        mend, detail = self.mends.of(incident.id), self.body.detail
        in_view = detail.display
        if not in_view:
            self.look_at("detail")
        if mend is not None and mend.stage == "asked":
            if in_view:
                self._agree(mend, with_alike=with_alike)
            return
        if mend is None or not (mend.under_way or mend.stage == "planning"):
            if (obstacle := self.mends.obstacle(incident)) is not None:
                self.notify(said(obstacle), timeout=6)
            else:
                listed = self.choice.listed(self.snapshot)
                members = next((row.members for row in listed if row.incident.id == incident.id), ())
                self.mends.plan(incident, [each for each in members if each.id != incident.id])
                self.choice.mend(incident.id)
        self.draw()
        detail.show_start()

    def _agree(self, mend: Mend, *, with_alike: bool) -> None:
        """Queue what is asked about once all of it was seen; until then show more of it."""
        question = self.body.detail.question(mend)
        if question.hidden_rows:
            self.body.detail.read_on()
        elif question.ready:
            self.mends.agree(mend.incident_id, with_alike=with_alike)
            self.draw()
            self.body.detail.show_start()

    def _look_at_queues(self) -> None:
        """Keep what waits on the servers, and say so when one of them forgot it."""
        lost_on = self.keeping.look(self.snapshot)
        if lost_on is not None and (lost := self.keeping.lost()) is not None:
            words = text(
                "Jobs that waited on {server} when it was restarted: {count}. Q queues them again.",
                count=lost[1], server=lost[0],
            )  # fmt: skip
            self.notice_line.tell(words)
            self._tells_lost = True
        if (told := self.keeping.told or self.mends.told) is not None:
            self.notice_line.tell(told, good=True)
            self.keeping.told = self.mends.told = None
            self._tells_lost = False
        elif self._tells_lost and self.keeping.lost() is None:
            self.notice_line.tell(None)  # another gpuwatch queued them again
            self._tells_lost = False

    def action_put_back(self) -> None:
        """Ask whether to queue again what a restart took; again: do it."""
        if self._only_shows():
            return
        lost, asked_at = self.keeping.lost(), self._asked_at
        self._asked_at = None
        if lost is None:
            self.notify(_("No job is known that a restart took out of the queue."), timeout=4)
        elif asked_at is not None and monotonic() - asked_at >= LOOK_SECONDS:
            self.notice_line.tell(text("queueing {count} jobs again …", count=lost[1]))
            self.keeping.put_back(lost[0])
            self.draw()
        else:
            self._asked_at = monotonic()
            words = text(
                "Queue {count} jobs again on {server}, in their order, without the one that ran? Q again does it.",
                count=lost[1], server=lost[0],
            )  # fmt: skip
            self.notice_line.tell(words)
            self.draw()

    def action_acknowledge(self) -> None:
        """The person has seen the chosen failure: another one matters more from now on."""
        incident = self.choice.incident(self.snapshot)
        if incident is None:
            self.notify(_("No failure seen."), timeout=2)
            return
        self.choice.acknowledge(self.snapshot, incident.id)
        self.draw()
