"""The answer: why it failed in one sentence, what helps with numbers, and below that what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from time import monotonic

from textual import on

from gpuwatch.core.diagnosis import Fix
from gpuwatch.core.incidents import Incident
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.calm import calm_rows
from gpuwatch.faces.tui.card import card_rows
from gpuwatch.faces.tui.charts import chart_rows
from gpuwatch.faces.tui.consent import LOOK_SECONDS, Consent, Question
from gpuwatch.faces.tui.mend import Mend
from gpuwatch.faces.tui.mend_rows import MEND, held_rows, mend_rows, next_spans
from gpuwatch.faces.tui.paint import (
    Row,
    Span,
    cut,
    filling,
    memory_ratio,
    need_spans,
    paragraph,
    row,
    spread,
    width_of,
    wrapped,
)
from gpuwatch.faces.tui.pane import Pane, Rows
from gpuwatch.faces.tui.themes import Tone
from gpuwatch.faces.tui.wording import (
    FITS,
    SAFETY,
    SEVERITY,
    SEVERITY_SIGN,
    clock,
    fact_name,
    fact_value,
    node_of,
    said,
    state_of,
    state_tone,
)
from gpuwatch.texts import Text, render, show_bytes, text, visible
from gpuwatch.texts import translate as _

_WIDEST = 110
"""Cells of a line of prose; longer lines are hard to read."""
_AROUND_NOTE = 7
"""Cells of a heading beside its title and its note; what a key does is more to the point than the title."""
_FIX = "fix:"
_CHART_MARGIN = 14
"""Cells that a curve's scale takes; a cell shows two samples."""
_MINUTE = timedelta(seconds=60)
_AFTER = timedelta(seconds=3)

Offer = tuple[str, Text]
"""A key and what it does here; an empty key where the words are to be known before anything is done."""


class Detail(Pane):
    """The pane."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        self.rows = Rows()
        super().__init__(self.rows, id=id)
        self._drawn: str | None = None
        self._last: tuple[Snapshot, Incident | None, int, Mend | None, Offer | None] | None = None
        self._consent = Consent()

    def draw(
        self,
        snapshot: Snapshot,
        incident: Incident | None,
        chosen_fix: int,
        mend: Mend | None = None,
        offer: Offer | None = None,
    ) -> None:
        """Explain an incident, or say what is watched where there is none. `offer`: what else a person can do."""
        self._last = (snapshot, incident, chosen_fix, mend, offer)
        width = self.width
        note, title = tuple[Span, ...](), _("Why, and what helps")
        plan = mend.proposal if mend is not None and mend.stage == "asked" else None
        asked = self._consent.ask(plan, monotonic())
        if incident is None:
            self.rows.show(calm_rows(snapshot, width))
        else:
            mending = offer_rows(offer, prose_width(width)) if offer is not None else []
            if (held := snapshot.held(incident)) is not None:
                mending = [row(), *held_rows(held, prose_width(width), snapshot.at)]
            if mend is not None:
                question = self.question(mend)
                mending, note = mend_rows(mend, prose_width(width), question, snapshot.at), next_spans(mend, question)
                title = cut(title, max(width - width_of(note) - _AROUND_NOTE, 0)) if note else title
                if offer is not None and not offer[0]:
                    mending += offer_rows(offer, prose_width(width))
            self.rows.show(incident_detail(incident, chosen_fix, width, snapshot, mending))
            note = note or confidence_note(incident)
        if self._drawn != (incident.id if incident else None):
            self._drawn = incident.id if incident else None
            self.rows.scroll_home(animate=False)
        self.heading.write(title if incident else _("Watching"), note, focused=self.focused)
        if asked:
            self.call_after_refresh(self._show_plan)

    # -- a plan that is asked about --------------------------------------------------------------------------------------

    def question(self, mend: Mend | None) -> Question:
        """How a plan stands before the person: what of it was never in view, and whether it may be agreed to."""
        return self._consent.question(mend.proposal if mend is not None else None, monotonic())

    def read_on(self) -> None:
        """Bring more of what is asked about into view."""
        self.rows.scroll_relative(y=max(self.rows.size.height - 1, 1), animate=False)

    def _plan_rows(self) -> list[int]:
        return [place for place, line in enumerate(self.rows.rows) if line.key == MEND]

    def _show_plan(self) -> None:
        """From the top where all of it fits, else from its own first line."""
        places = self._plan_rows()
        if places:
            fits = places[-1] < self.rows.size.height
            self.rows.scroll_to(y=0 if fits else places[1], animate=False, immediate=True)
            self._see_plan()
            self.set_timer(LOOK_SECONDS, self._draw_anew)

    @on(Rows.Scrolled)
    def _scrolled(self, event: Rows.Scrolled) -> None:
        event.stop()
        self._see_plan()

    def _see_plan(self) -> None:
        places = self._plan_rows()
        if self._consent.plan is not None and places and self._consent.see(places[-1] + 1, self.rows.bottom):
            self._draw_anew()

    def _draw_anew(self) -> None:
        if self._last is not None:
            self.draw(*self._last)

    def show_start(self) -> None:
        """Scroll to the top, where a job's mending stands."""
        self.rows.scroll_home(animate=False)

    def show_fix(self, chosen_fix: int) -> None:
        """Scroll to a fix."""
        self.rows.keep_in_view(f"{_FIX}{chosen_fix}")


def fix_of(key: str) -> int | None:
    """The fix that a clicked row stands for."""
    return int(key.removeprefix(_FIX)) if key.startswith(_FIX) else None


def card_bytes(snapshot: Snapshot, incident: Incident) -> int | None:
    """How much the card has: as the failure told it, else as the driver does where there is only one card."""
    told = incident.facts.get("total_bytes")
    if isinstance(told, int) and told > 0:
        return told
    newest = [samples[-1] for samples in snapshot.gpus.values() if samples]
    return newest[0].total_bytes if len(newest) == 1 else None


def confidence_note(incident: Incident) -> tuple[Span, ...]:
    """How sure the cause is, modestly."""
    if incident.diagnosis is None:
        return ()
    sure = incident.diagnosis.confidence
    words = _("nearly certain") if sure >= 0.9 else _("fairly sure") if sure >= 0.7 else _("a likely cause")
    return ((f"{words} ({sure * 100:.0f} %)", "dim"),)


def incident_detail(
    incident: Incident, chosen_fix: int, width: int, snapshot: Snapshot, mending: Sequence[Row] = ()
) -> list[Row]:
    """Everything about an incident, the answer first. `mending`: the rows of its job's."""
    prose = prose_width(width)
    total_bytes = card_bytes(snapshot, incident)
    cause = incident.diagnosis.cause if incident.diagnosis else incident.rule.why
    rows = [title_row(incident, width), *paragraph(said(cause), prose, "strong", 1)]
    rows += [*place_rows(incident, width, snapshot), *mending]
    fixes = incident.diagnosis.fixes if incident.diagnosis else ()
    if fixes:
        rows += section(_("What helps"))
        for place, fix in enumerate(fixes):
            rows += fix_rows(fix, place, total_bytes, prose, chosen=place == chosen_fix)
    rows += minute_rows(incident, snapshot, prose)
    if incident.facts:
        rows += section(_("The numbers"))
        if card := card_rows(incident.facts, prose):
            rows += [*card, row()]
        rows += fact_rows(incident, prose)
    if incident.diagnosis and incident.diagnosis.evidence:
        rows += section(_("What this rests on"))
        for evidence in incident.diagnosis.evidence:
            rows += bullet(evidence, prose)
    if incident.excerpt:
        rows += section(_("From the log"))
        rows += [row((" │ ", "faint"), (visible(line), "dim")) for line in incident.excerpt]
    if incident.rule.references:
        rows += section(_("Read more"))
        rows += [row((" " + visible(reference), "dim")) for reference in incident.rule.references]
    return rows


def offer_rows(offer: Offer, width: int) -> list[Row]:
    """Which key mends it, or what to know before, in the place where its mending will stand."""
    key, words = offer
    first, *rest = wrapped(said(words), width - 3)
    lead: Span = (f" {key} ", "key") if key else (" ▲ ", "warning")
    return [row(), row(lead, (first, "text")), *(row(("   ", "text"), (line, "text")) for line in rest)]


def prose_width(width: int) -> int:
    """Cells for a line of prose in a pane of that width."""
    return min(width - 2, _WIDEST)


def section(title: str) -> list[Row]:
    """An empty line and a title."""
    return [row(), row((" " + title, "title"))]


def title_row(incident: Incident, width: int) -> Row:
    """What it is, how often, whether it is over."""
    sign, tone = SEVERITY_SIGN[incident.severity]
    title: list[Span] = [(f" {sign} ", tone), (said(incident.title), tone)]
    title.append((f"  {render(SEVERITY[incident.severity])}", "dim"))
    if incident.count > 1:
        title.append((f"  ×{incident.count}", "warning"))
    state: list[Span] = [(state_of(incident), state_tone(incident)), (" ", "text")]
    return row(*spread(title, state, width))


def place_rows(incident: Incident, width: int, snapshot: Snapshot) -> list[Row]:
    """Where and when it was told."""
    place = [node_of(incident)] if node_of(incident) else []
    if incident.node.id:
        place.append(render(text("node {id}", id=visible(incident.node.id))))
    source = visible(incident.source)
    line = text("line {line} of {source}", line=f"{incident.line:,}", source=source)
    place.append(render(line) if incident.line else source)
    if not incident.fresh:  # when it was is not known: what came with it is only when we read of it
        place.append(_("from before gpuwatch was started"))
    elif incident.count > 1:
        place.append(f"{clock(incident.first_at, snapshot.at)} – {clock(incident.last_at, snapshot.at)}")
    else:
        place.append(clock(incident.first_at, snapshot.at))
    if incident.mute is not None:
        why = [said(incident.mute.subject), visible(incident.mute.note or ""), visible(incident.mute.where)]
        place.append(render(text("muted: {why}", why=", ".join(part for part in why if part))))
    return paragraph(" · ".join(place), width, "dim", 3)


def fix_rows(fix: Fix, place: int, total_bytes: int | None, width: int, *, chosen: bool) -> list[Row]:
    """One fix: what to do, what it will need, what it costs, what to type."""
    key = f"{_FIX}{place}"
    safety, safety_tone = SAFETY[fix.safety]
    lines = wrapped(said(fix.title), width - 6)
    lead: list[Span] = [("▌" if chosen else " ", "accent"), (f" {place + 1} ", "key" if chosen else "dim")]
    tone: Tone = "strong" if chosen else "text"
    rows = [row(*lead, (" ", "text"), (lines[0], tone), key=key)]
    margin: Span = ("▌" if chosen else " ", "accent")
    inset: Span = ("    ", "text")
    rows += [row(margin, inset, (line, tone), key=key) for line in lines[1:]]
    if fix.predicted is not None:
        rows.append(row(margin, inset, *prediction_spans(fix, total_bytes, width - 6), key=key))
    cost: list[Span] = [(render(safety), safety_tone)]
    note = said(fix.note)
    if note and width_of([*cost, (note, "dim")]) + 8 <= width:
        cost += [("  " + note, "dim")]
        note = ""
    rows.append(row(margin, inset, *cost, key=key))
    if note:
        rows += [row(margin, inset, (line, "dim"), key=key) for line in wrapped(note, width - 6)]
    if fix.command:
        rows += [
            row(margin, inset, ("$ " if not number else "  ", "faint"), (line, "info"), key=key)
            for number, line in enumerate(wrapped(fix.command, width - 8))
        ]
    return rows


def prediction_spans(fix: Fix, total_bytes: int | None, width: int) -> list[Span]:
    """The need as a bar against the card, and the verdict in words."""
    if fix.predicted is None:
        return []
    sign, verdict, tone = FITS[fix.predicted.fits]
    words: list[Span] = [(f"{sign} {render(verdict)}", tone)]
    need = show_bytes(fix.predicted.peak_bytes)
    if not total_bytes:
        return [*words, ("  " + render(text("needs up to {need}", need=need)), "text")]
    numbers = render(text("up to {need} of {total}", need=need, total=show_bytes(total_bytes)))
    return need_spans(fix.predicted.peak_bytes / total_bytes, numbers, words, width)


def minute_rows(incident: Incident, snapshot: Snapshot, width: int) -> list[Row]:
    """The card's memory over the minute before the failure; nothing where no card was looked at then."""
    histories = [samples for samples in snapshot.gpus.values() if samples]
    if len(histories) != 1 or not incident.fresh:
        return []
    begin = incident.first_at - _MINUTE
    near = [one for one in histories[0] if begin <= one.at <= incident.first_at + _AFTER]
    known = [memory_ratio(one) for one in near]
    total = near[-1].total_bytes if near else None
    if sum(one is not None for one in known) < 3 or not total:
        return []
    worst = max(one for one in known if one is not None)
    rows = chart_rows(
        known, min(width, len(known) // 2 + _CHART_MARGIN), 3, filling(worst), labels=(show_bytes(total), "0")
    )
    told = render(text("up to {used} held on the card", used=show_bytes(worst * total)))
    return [*section(_("Memory over the minute before")), *rows, row(("   " + told, "dim"))]


def fact_rows(incident: Incident, width: int) -> list[Row]:
    """The facts in a table; two columns where there is room."""
    names = [(fact_name(name), fact_value(name, value)) for name, value in incident.facts.items()]
    widest = min(max(width_of([(name, "dim")]) for name, _value in names), width // 2)
    rows = []
    for name, value in names:
        gap = " " * max(widest - width_of([(name, "dim")]), 0)
        first, *rest = wrapped(value, width - widest - 4)
        rows.append(row((f"   {name}{gap}  ", "dim"), (first, "text")))
        rows += [row((" " * (widest + 5), "dim"), (line, "text")) for line in rest]
    return rows


def bullet(words: Text, width: int) -> list[Row]:
    """A sentence with a mark before it."""
    lines = wrapped(said(words), width - 4)
    return [row((" · " if not number else "   ", "faint"), (line, "text")) for number, line in enumerate(lines)]
