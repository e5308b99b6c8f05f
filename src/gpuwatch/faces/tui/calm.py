"""What stands in the answer's place while nothing failed: what is watched, what of it does not answer, which keys matter."""

from __future__ import annotations

from collections.abc import Sequence

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import SourceStatus
from gpuwatch.faces.tui.health import INSTRUMENTS
from gpuwatch.faces.tui.paint import Row, Span, paragraph, row, width_of
from gpuwatch.faces.tui.wording import said
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _

_WIDEST = 84


def calm_rows(snapshot: Snapshot, width: int) -> list[Row]:
    """Nothing is wrong, as far as is known; what could not be watched is said first."""
    prose = min(width - 2, _WIDEST)
    watched = [source for source in snapshot.sources.values() if source.kind not in INSTRUMENTS]
    if snapshot.at is None:
        rows = [row(), row((" ○ ", "dim"), (_("Starting: the rules are made ready."), "strong"))]
    elif any(source.state == "failed" for source in watched):
        rows = [row(), row((" ✗ ", "error"), (_("Not everything can be watched."), "strong")), row()]
    else:
        rows = [row(), row((" ✓ ", "good"), (_("Nothing wrong so far."), "strong")), row()]
    for source in watched:
        rows += source_rows(source, prose)
    if not watched and snapshot.at is not None:
        rows += paragraph(_("No log is read yet."), prose, "dim", 1)
    rows.append(row())
    rows += paragraph(
        _("When a job fails, the reason and what to do about it stand here. Start a prompt in ComfyUI and leave this open."),
        prose, "dim", 1,
    )  # fmt: skip
    keys = [("?", _("every key")), ("/", _("search the log")), ("l", "中文/English"), ("q", _("quit"))]
    return [*rows, row(), *key_rows(keys, width)]


def source_rows(source: SourceStatus, width: int) -> list[Row]:
    """One log or server: that it is read, or why not."""
    name = visible(source.name)
    if source.state == "up":
        return [row((" ✓ ", "good"), (render(text("reading {source}", source=name)), "text"))]
    why = said(source.reason)
    told = why if why.startswith(name) else f"{name}: {why}"
    first, *rest = paragraph(told, width, "text" if source.state == "failed" else "dim", 3)
    sign: Span = (" ✗ ", "error") if source.state == "failed" else (" ■ ", "dim")
    rows = [row(sign, *first.spans[1:]), *rest]
    if source.state == "failed" and source.kind == "comfyui":
        rows += paragraph(_("It is asked again until it answers; nothing needs to be done here."), width, "dim", 3)
    return rows


def key_rows(keys: Sequence[tuple[str, str]], width: int) -> list[Row]:
    """Keys and what they do, on as many lines as it takes."""
    rows: list[Row] = []
    spans: list[Span] = []
    for key, meaning in keys:
        entry: list[Span] = [(f" {key} ", "key"), (meaning + "  ", "dim")]
        if spans and width_of([*spans, *entry]) > width:
            rows.append(row(*spans))
            spans = []
        spans += entry
    return [*rows, row(*spans)]
