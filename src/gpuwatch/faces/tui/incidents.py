"""The list of failures, the newest first: what it was, where, how often, and whether it is over."""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import datetime
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.choice import Listed
from gpuwatch.faces.tui.paint import Row, Span, row, spread
from gpuwatch.faces.tui.pane import Pane, Rows
from gpuwatch.faces.tui.themes import Back
from gpuwatch.faces.tui.wording import SEVERITY_SIGN, beside, clock, node_of, said, state_of, state_tone, unsolved
from gpuwatch.texts import render, text
from gpuwatch.texts import translate as _

_ONE_LINE_FROM = 60


class IncidentRows(Rows):
    """The rows; moving in them chooses."""

    class Moved(Message):
        """The person asks for another incident: so many down, or to an end."""

        def __init__(self, steps: int) -> None:
            super().__init__()
            self.steps = steps

    class Entered(Message):
        """The person wants to see the chosen incident in the log."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", show=False),
        Binding("k,up", "move(-1)", show=False),
        Binding("g,home", "move(-1000000)", show=False),
        Binding("G,end", "move(1000000)", show=False),
        Binding("pagedown,ctrl+d", "move(5)", show=False),
        Binding("pageup,ctrl+u", "move(-5)", show=False),
        Binding("enter", "enter", show=False),
    ]

    def action_move(self, steps: int) -> None:
        """Choose another."""
        self.post_message(self.Moved(steps))

    def action_enter(self) -> None:
        """Show it in the log."""
        self.post_message(self.Entered())


class IncidentList(Pane):
    """The pane."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        self.rows = IncidentRows()
        super().__init__(self.rows, id=id)

    def draw(self, snapshot: Snapshot, incidents: Sequence[Listed], chosen: str | None, seen: Set[str]) -> None:
        """Draw the list, and how many there are beside those that are listed."""
        before = self.rows.rows
        every = snapshot.incidents.values()
        muted = sum(incident.muted for incident in every)
        if snapshot.at is None:  # the log may tell of a failure that nobody has judged yet
            self.rows.show([row(("  ○ ", "dim"), (_("Nothing is judged yet."), "dim"))])
        elif muted and not incidents:
            self.rows.show([row(("  · ", "dim"), (_("Only muted failures; M lists them."), "dim"))])
        else:
            rows = incident_rows(incidents, chosen, self.width, snapshot.at, seen, focused=self.focused)
            height = self.rows.size.height
            if self.width < _ONE_LINE_FROM and len(rows) > height and height % 2:
                rows.append(row())  # so that scrolled to its end it begins with a whole failure
            self.rows.show(rows)
        if chosen is not None and self.rows.rows is not before:
            self.rows.keep_in_view(chosen)
        left = sum(unsolved(incident) for incident in every)
        note: tuple[Span, ...] = ()
        if every:
            known = render(text("{left} unsolved, {count} in all", left=left, count=len(every)))
            if muted:
                known += render(text(", {count} muted", count=muted))
            note = ((known, "warning" if left else "dim"),)
        self.heading.write(_("Failures"), note, focused=self.focused)


def incident_rows(
    incidents: Sequence[Listed],
    chosen: str | None,
    width: int,
    now: datetime | None,
    seen: Set[str] = frozenset(),
    *,
    focused: bool,
) -> list[Row]:
    """One line each where there is room, two where not."""
    if not incidents:
        return [row(("  ✓ ", "good"), (_("No failure seen."), "dim"))]
    rows: list[Row] = []
    for listed in incidents:
        incident = listed.incident
        here = incident.id == chosen
        back: Back = ("selected" if focused else "quiet") if here else ""
        sign, tone = SEVERITY_SIGN[incident.severity]
        loud = unsolved(incident) and incident.id not in seen
        title: list[Span] = [
            ("▌" if here else " ", "accent"),
            (sign + " ", tone if loud else "dim"),
            (said(incident.title), "dim" if not loud else "strong" if here else "text"),
        ]
        if listed.count > 1:
            title.append((f"  ×{listed.count}", "warning" if loud else "dim"))
        told = beside(state_of(incident), text("seen")) if incident.id in seen else state_of(incident)
        state: Span = (told, state_tone(incident) if loud or incident.fix_outcome == "held" else "dim")
        when: Span = (f" {clock(listed.last_at, now) if incident.fresh else _('earlier')} ", "dim")
        node: Span = (node_of(incident), "dim")
        if width >= _ONE_LINE_FROM:
            if node[0]:
                title += [("  ", "text"), node]
            rows.append(row(*spread(title, [state, (" ", "text"), when], width), back=back, key=incident.id))
        else:
            rows.append(row(*spread(title, [when], width), back=back, key=incident.id))
            lead: list[Span] = [("▌" if here else " ", "accent"), ("  ", "text"), state]
            if node[0]:
                lead += [(" · ", "faint"), node]
            if incident.line:
                lead += [(" · ", "faint"), (render(text("line {line}", line=f"{incident.line:,}")), "dim")]
            rows.append(row(*spread(lead, [(" ", "text")], width), back=back, key=incident.id))
    return rows
