"""A failed job's mending as rows: each value before and after, what it then needs, what a key does next, what became of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from gpuwatch.faces.tui.consent import Question
from gpuwatch.faces.tui.mend import Mend
from gpuwatch.faces.tui.paint import Row, Span, need_spans, paragraph, row, width_of, wrapped
from gpuwatch.faces.tui.themes import Tone
from gpuwatch.faces.tui.wording import FITS, clock, said
from gpuwatch.faces.wording import held_words
from gpuwatch.texts import render, show_bytes, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:  # plans come once a person asks for one
    from gpuwatch.adapters.comfyui.mending import Proposal
    from gpuwatch.core.observations import FixTried
    from gpuwatch.core.workflow.changes import Change, Outlook, Plan

MEND = "mend"
"""The key of its rows, by which they are found among the others."""


def mend_rows(mend: Mend, width: int, question: Question, now: datetime | None = None) -> list[Row]:
    """All that is to be said of it, under a title."""
    return [replace(line, key=MEND) for line in told_rows(mend, width, question, now)]


def told_rows(mend: Mend, width: int, question: Question, now: datetime | None) -> list[Row]:
    """The same, without the key."""
    rows = [row(), row((" " + title_of(mend), "title"))]
    if mend.held is not None and mend.stage != "held":
        rows += held_rows(mend.held, width, now)
    if mend.stage == "planning":
        return [*rows, row((" · ", "faint"), (render(text("asking {server} …", server=visible(mend.server))), "dim"))]
    from gpuwatch.faces.mending import shown_plan  # noqa: PLC0415 - it brings what acts on a server

    # What a key does now stands first: it is in view on a small screen too.
    rows += [row((" ", "text"), *line.spans) for line in next_rows(mend, width - 1, question)]
    if mend.proposal is not None:
        rows += plan_rows(shown_plan(mend.proposal), width)
        if mend.proposal.retry.repeats:
            rows += unchanged_rows(mend.proposal, width)
        if mend.proposal.retry.frees:
            rows += paragraph(_("Memory is freed, and the same prompt is queued again."), width, "text", 3)
    return rows


def title_of(mend: Mend) -> str:
    """What stands above it."""
    if mend.stage == "asked" and mend.proposal is not None and mend.proposal.retry.repeats:
        return _("Queue the job again as it was?")
    if mend.stage in {"planning", "asked"}:
        return _("Queue the job again like this?")
    if mend.stage == "refused" and mend.held is None:
        return _("Nothing is queued")
    return _("The job, queued again")


def unchanged_rows(proposal: Proposal, width: int) -> list[Row]:
    """What comes before a job is queued again as it was: nothing in it is different, so something else has to be."""
    first = proposal.first
    if first is None:
        return paragraph(_("ComfyUI was restarted since. Nothing in the job changes."), width, "text", 3)
    rows = paragraph(said(text("First: {step}", step=first.title)), width, "warning", 3)
    if first.command:
        rows += [row(("   ", "text"), (line, "info")) for line in wrapped("$ " + first.command, width - 4)]
    told = _("Nothing in the job changes: until that is done it fails again.")
    return [*rows, *paragraph(told, width, "text", 3)]


def held_rows(tried: FixTried, width: int, now: datetime | None) -> list[Row]:
    """The fix that held: when, and what was set for it."""
    first, *rest = wrapped(said(held_words(tried, clock(tried.at, now))), width - 4)
    return [row((" ✓ ", "good"), (first, "good")), *(row(("   ", "text"), (line, "good")) for line in rest)]


def plan_rows(plan: Plan, width: int) -> list[Row]:
    """The difference, node by node, and the need of each."""
    nodes = {change.node.id: change.node for change in plan.changes}
    nodes |= {outlook.node.id: outlook.node for outlook in plan.outlooks}
    rows: list[Row] = []
    for node in nodes.values():
        rows.append(row((" ● ", "accent"), (visible(node.type), "strong"), (f"  #{visible(node.id)}", "dim")))
        for change in (change for change in plan.changes if change.node.id == node.id):
            rows += change_rows(change, width)
        rows += [
            need_row(outlook, outlook.need_bytes.high, outlook.room_bytes, width)
            for outlook in plan.outlooks
            if outlook.node.id == node.id and outlook.need_bytes is not None and outlook.room_bytes
        ]
    for words in (*plan.unfixable, *plan.notes):
        rows += paragraph(said(words), width, "dim", 3)
    return rows


def change_rows(change: Change, width: int) -> list[Row]:
    """A value before and after, on one line where both fit, else each on its own: nothing of it may be out of view."""
    from gpuwatch.faces.fix_page import shown  # noqa: PLC0415 - as above

    name, before, after = visible(change.input), shown(change.before), shown(change.after)
    line = row((f"   {name}  ", "dim"), (before, "error"), ("  →  ", "dim"), (after, "good"))
    if width_of(line.spans) <= width:
        return [line]
    rows = paragraph(name, width, "dim", 3)
    told: tuple[tuple[str, str, Tone], ...] = (("− ", before, "error"), ("+ ", after, "good"))
    for sign, words, tone in told:
        first, *rest = wrapped(words, width - 7)
        rows += [row(("     " + sign, tone), (first, tone)), *(row(("       ", "text"), (each, tone)) for each in rest)]
    return rows


def need_row(outlook: Outlook, need_bytes: float, room_bytes: float, width: int) -> Row:
    """The need as a bar against what the card has, and the verdict in words."""
    sign, verdict, tone = FITS[outlook.fits]
    numbers = render(text("up to {need} of {total}", need=show_bytes(need_bytes), total=show_bytes(room_bytes)))
    verdict_spans: list[Span] = [(f"{sign} {render(verdict)}", tone)]
    return row(("   ", "text"), *need_spans(need_bytes / room_bytes, numbers, verdict_spans, width - 4))


def tone_of(mend: Mend) -> Tone:
    """How loud it is what became of it; that there is no other way is no trouble where one held."""
    if mend.stage == "held":
        return "good"
    return "error" if mend.stage == "failed" else "dim" if mend.held is not None else "warning"


def next_spans(mend: Mend, question: Question) -> tuple[Span, ...]:
    """What the key does next that planned it: show the rest of the plan, or queue it; nothing while it is not to be agreed to."""
    if mend.stage != "asked":
        return ()
    if question.hidden_rows:
        more = render(text("{count} more lines ↓", count=question.hidden_rows))
        return ((" a ", "key"), (more, "warning"))
    return ((" a ", "key"), (_("again: queue it in front"), "text")) if question.ready else ()


def next_rows(mend: Mend, width: int, question: Question) -> list[Row]:
    """What a key does now, or how it stands."""
    if mend.stage == "asked":
        leave: tuple[Span, ...] = ((" Esc ", "key"), (_("leave it"), "dim"))
        spans = next_spans(mend, question)
        rows = [row(*spans, ("  ", "text"), *leave) if spans else row(*leave)]
        if mend.alike and question.ready:
            others = text("queue {count} more that failed alike, too, where this plan is theirs", count=len(mend.alike))
            rows.append(row((" A ", "key"), (render(others), "text")))
        return rows
    if mend.stage == "queueing":
        return [row((_("queueing it …"), "dim"))]
    rows = []
    if mend.queued is not None:
        rows += paragraph(said(text("queued as {id}", id=mend.queued.id)), width, "text")
        if mend.queued.dropped is not None:
            told = text("Some of its outputs are invalid and left out: {why}", why=mend.queued.dropped)
            rows += paragraph(said(told), width, "warning")
    if mend.words is not None:
        rows += paragraph(said(mend.words), width, tone_of(mend))
    return rows
