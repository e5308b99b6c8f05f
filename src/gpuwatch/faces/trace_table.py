"""What the pages of traces and of memory share: their first line, tables, times, a line of bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpuwatch.adapters.traces.reading import Read
from gpuwatch.texts import render, text, visible

if TYPE_CHECKING:
    from rich.console import Console

_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = " ..::||##"
_GAP = 2
"""Cells between columns."""
_NARROWEST = 12
Column = tuple[str, bool]
"""A heading, and whether numbers stand under it."""


def duration(seconds: float) -> str:
    """A time to three digits, from nanoseconds to hours."""
    if seconds >= 100 or seconds == 0:
        return f"{seconds:,.0f} s"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        value = seconds * factor
        if value >= 1 or unit == "µs":
            return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return ""


def print_head(console: Console, read: Read, events: int) -> None:
    """Which file, how large, how many events."""
    told = text(
        "{file}: {size_bytes}, {events} events", file=str(read.path), size_bytes=read.size_bytes, events=f"{events:,}"
    )
    console.print(visible(render(told)), style="bold", soft_wrap=True)


def share(part: float, whole: float) -> str:
    """A part of a whole in percent; nothing where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else ""


def spark(console: Console, values: Sequence[int]) -> str:
    """A row of bars, the highest the largest value."""
    bars = _BARS if (console.encoding or "").lower().replace("-", "").startswith("utf") else _PLAIN_BARS
    most = max(values, default=0)
    if most <= 0:
        return ""
    return "".join(bars[max(-(-max(value, 0) * (len(bars) - 1) // most), 0)] for value in values)


def print_table(console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """A table under its title; nothing where there are no rows. The widest column of words is cut to the page."""
    if not rows:
        return
    from rich.cells import cell_len  # noqa: PLC0415 - only where a person reads
    from rich.table import Table  # noqa: PLC0415 - likewise

    console.print()
    console.print(title, style="bold cyan")
    cells = [[[visible(line) for line in cell.split("\n")] for cell in row] for row in rows]
    widths = [
        max([cell_len(heading), *(cell_len(line) for row in cells for line in row[place])])
        for place, (heading, _numeric) in enumerate(columns)
    ]
    widest = max(
        (place for place, (_heading, numeric) in enumerate(columns) if not numeric), key=lambda place: widths[place]
    )
    gaps = _GAP * (len(columns) - 1)
    widths[widest] = max(min(widths[widest], console.width - gaps - sum(widths) + widths[widest]), _NARROWEST)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for width, (heading, numeric) in zip(widths, columns, strict=True):
        table.add_column(
            heading,
            justify="right" if numeric else "left",
            no_wrap=True,
            overflow="ellipsis",
            header_style="dim",
            min_width=width,
            max_width=width,
        )
    for row in cells:
        table.add_row(*("\n".join(lines) for lines in row))
    console.print(table, soft_wrap=False)


def print_more(console: Console, count: int) -> None:
    """How many rows were left out, where any were."""
    if count > 0:
        console.print(render(text("… and {count} more; --top shows more.", count=f"{count:,}")), style="dim")
