"""The page of our own DDColor runner: a run's stages, its speed, its memory, and where the time of its newest trace went."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.machine import run_end_rows, run_head_rows
from gpuwatch.faces.tui.paint import Row, Span, bar, clipped, cut, cut_front, flushed, padded, paragraph, row, width_of
from gpuwatch.faces.tui.traced import Traced
from gpuwatch.faces.tui.wording import said
from gpuwatch.texts import Text, render, show_bytes, show_seconds, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.core.traces.summary import Summary

_NARROW, _ROOMY, _WIDEST = 56, 96, 84
_NAME, _NUMBER, _BAR = 26, 11, 26
_MOST_STAGES, _MOST_WORK = 12, 4
Facts = Sequence[tuple[str, Text, Callable[[float], str]]]

_SPEED: Facts = (
    ("load_seconds", text("load"), show_seconds),
    ("first_seconds", text("first image"), show_seconds),
    ("warm_seconds.p50", text("warm, half below"), show_seconds),
    ("warm_seconds.p95", text("warm, 95 % below"), show_seconds),
    ("images_per_second", text("images a second"), lambda number: f"{number:.2f}"),
)
_MEMORY: Facts = (
    ("peak_allocated_bytes", text("allocated at most"), show_bytes),
    ("peak_reserved_bytes", text("reserved at most"), show_bytes),
    ("peak_device_bytes", text("held on the card at most"), show_bytes),
    ("predicted.process_bytes.high", text("predicted, at most"), show_bytes),
    ("host_rss_bytes", text("host memory"), show_bytes),
)
_WORK: Facts = (
    ("gflop_per_image", text("GFLOP an image"), lambda number: f"{number:,.0f}"),
    ("tokens_per_image", text("tokens an image"), lambda number: f"{number:,.0f}"),
)


def runner_page(snapshot: Snapshot, width: int, traced: Traced | None) -> list[Row]:
    """A run: its stages, its speed, its memory, its trace."""
    if snapshot.run is None:
        return [
            row(),
            *paragraph("○ " + _("No run of gpuwatch's own DDColor runner is watched."), min(width - 1, _WIDEST), "strong", 1),
            *paragraph(
                _("The demo runs one beside a recorded failure; a run of its own prints its report:"),
                min(width - 2, _WIDEST), "dim", 3,
            ),
            row(("   $ ", "faint"), ("gpuwatch demo", "info")),
            row(("   $ ", "faint"), ("gpuwatch run ddcolor PHOTO --profile", "info")),
        ]  # fmt: skip
    report = snapshot.run.report or {}
    rows = run_head_rows(snapshot.run, width)
    job = [visible(str(report[name])) for name in ("variant", "size", "dtype") if report.get(name) is not None]
    if job:
        rows.append(fact_row(_("network"), " · ".join(job), width))
    rows += fact_rows(_WORK, report, width)
    room = width // 2 if width >= _ROOMY else width
    speed, memory = (fact_rows(facts, report, room) for facts in (_SPEED, _MEMORY))
    speed, memory = titled(_("Speed"), speed), titled(_("Memory"), memory)
    rows += side_by_side(speed, memory, room) if room < width else speed + memory
    rows += run_end_rows(snapshot.run, width)
    return rows + (trace_rows(traced, width) if traced is not None else [])


def titled(title: str, rows: list[Row]) -> list[Row]:
    """Rows under a title; nothing where there are none."""
    return [row(), row((" " + title, "title")), *rows] if rows else []


def side_by_side(left: Sequence[Row], right: Sequence[Row], half: int) -> list[Row]:
    """Rows beside each other, the right ones from `half` on."""
    rows = []
    for one, other in zip_longest(left, right, fillvalue=row()):
        kept = clipped(one.spans, half)
        rows.append(row(*kept, (" " * (half - width_of(kept)), "text"), *other.spans))
    return rows


def fact_row(name: str, value: str, width: int) -> Row:
    """A name and its value."""
    room = min(_NAME, max(width // 2 - 4, 4))
    return row((f"   {padded(name, room)} ", "dim"), (cut(value, max(width - room - 4, 4)), "text"))


def fact_rows(facts: Facts, report: Mapping[str, Any], width: int) -> list[Row]:
    """What the report says of these; what it does not say is left out."""
    return [
        fact_row(render(title), show(number), width)
        for name, title, show in facts
        if (number := number_in(report, name)) is not None
    ]


def number_in(report: Mapping[str, Any], name: str) -> float | None:
    """A number of the report, by the names that lead to it; None where it is none."""
    found: Any = report
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def trace_rows(traced: Traced, width: int) -> list[Row]:
    """Where the time of the trace went, as far as it is known, and what tells more."""
    room = max(width - 4, 8)
    rows = [
        row(),
        row((" " + _("Trace"), "title")),
        row(("   ", "text"), (cut_front(visible(traced.path), room), "dim")),
    ]
    if traced.under_way:
        return [*rows, row(("   ", "text"), (_("it is read …"), "dim"))]
    if traced.summary is not None:
        rows += summary_rows(traced.summary, width)
    if traced.trouble is not None:
        rows += paragraph(said(traced.trouble), min(width - 1, _WIDEST), "warning", 3)
    command = visible(f"gpuwatch trace summary {shlex.quote(traced.path)}")
    return [*rows, row(("   $ ", "faint"), (cut(command, room - 2), "info"))]


def summary_rows(summary: Summary, width: int) -> list[Row]:
    """The first sentences of the trace's page, its stages, and what took longest."""
    from gpuwatch.faces.memory_page import peak_line  # noqa: PLC0415 - as below
    from gpuwatch.faces.trace_page import opening_lines  # noqa: PLC0415 - as below

    prose = min(width - 1, _WIDEST)
    rows: list[Row] = []
    for line in (*opening_lines(summary), *(peak_line(peak, summary) for peak in summary.memory)):
        rows += paragraph(said(line), prose, "text", 3)
    if summary.stages:
        rows += [row(), head_row(_("stages, in order"), (_("time"), _("share"), _("memory peak")), width)]
    for stage in summary.stages[:_MOST_STAGES]:
        held = show_bytes(stage.peak_bytes) if stage.peak_bytes is not None else ""
        rows.append(share_row(stage.name, stage.host_seconds, summary.window_seconds, held, width))
    rows += more_row(len(summary.stages) - _MOST_STAGES)
    if summary.work:
        title = _("kernels by time") if summary.has_gpu else _("operators by their own time")
        rows += [row(), head_row(title, (_("time"), _("share"), _("count")), width)]
    for each in summary.work[:_MOST_WORK]:
        rows.append(share_row(each.name, each.own_seconds, summary.window_seconds, f"{each.count:,}", width))
    return rows + more_row(len(summary.work) - _MOST_WORK)


def head_row(title: str, columns: Sequence[str], width: int) -> Row:
    """What stands in the columns of `share_row`."""
    *numbers, more = (" " + flushed(words, _NUMBER) for words in columns)
    last = " " * bar_width(width) + more if width >= _NARROW else ""
    return row((f"   {padded(title, name_width(width))}", "dim"), ("".join(numbers), "dim"), (last, "dim"))


def share_row(name: str, seconds: float, window_seconds: float, more: str, width: int) -> Row:
    """A name, its time, its share of the whole as a number and, where there is room, as a bar."""
    from gpuwatch.faces.trace_table import duration  # noqa: PLC0415 - only where there is a trace

    ratio = seconds / window_seconds if window_seconds > 0 else 0.0
    spans: list[Span] = [
        (f"   {padded(visible(name), name_width(width))}", "text"),
        (" " + flushed(duration(seconds), _NUMBER), "text"),
        (" " + flushed(f"{ratio * 100:.0f} %", _NUMBER), "text"),
    ]
    if room := bar_width(width):
        spans += [("  ", "text"), *bar(ratio, room - 2, "accent")]
    return row(*spans, (" " + flushed(more, _NUMBER) if width >= _NARROW else "", "dim"))


def bar_width(width: int) -> int:
    """Cells for a bar and the space before it; 0 where there is no room."""
    return _BAR if width - name_width(width) - 3 * (_NUMBER + 1) - 4 >= _BAR else 0


def more_row(count: int) -> list[Row]:
    """How many were left out."""
    return [row(("   " + render(text("and {count} more", count=count)), "dim"))] if count > 0 else []


def name_width(width: int) -> int:
    """Cells for a name beside three numbers; two where the pane is narrow."""
    numbers = 3 if width >= _NARROW else 2
    return min(max(width - numbers * (_NUMBER + 1) - 4, 8), 44)
