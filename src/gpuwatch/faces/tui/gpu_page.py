"""The page of the GPUs: each over time, who holds its memory, and the machine's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpuwatch.core.observations import GpuProcess, GpuSample, ThrottleReason
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.charts import Mark, chart_rows
from gpuwatch.faces.tui.driver import silence_rows
from gpuwatch.faces.tui.machine import host_rows, no_gpu_rows
from gpuwatch.faces.tui.paint import Row, Span, filling, memory_ratio, row, spread
from gpuwatch.faces.tui.server_card import card_rows_of, server_cards
from gpuwatch.texts import Text, render, show_bytes, show_seconds, text, visible
from gpuwatch.texts import translate as _

_MOST_PROCESSES = 40
_LOW_ROWS, _HIGH_ROWS = 5, 12
"""Of the curve of memory, where room is short and where it is not."""
_SCALE_CELLS = 9
THROTTLED: Mapping[ThrottleReason, Text] = {
    "power_cap": text("power limit"),
    "thermal_software": text("heat (software)"),
    "thermal_hardware": text("heat (hardware)"),
    "slowdown_hardware": text("hardware slowdown"),
    "power_brake": text("power brake"),
    "sync_boost": text("sync boost"),
    "clocks_setting": text("clocks are set"),
    "display_clocks": text("display clocks"),
}


def gpu_page(snapshot: Snapshot, width: int, height: int, sort: str, predicted_bytes: int | None) -> list[Row]:
    """Every GPU over time, and who holds its memory. The curves of memory take the room that is left."""
    rows = page_rows(snapshot, width, sort, predicted_bytes, _LOW_ROWS)
    cards = sum(bool(samples) for samples in snapshot.gpus.values())
    if cards and (spare := (height - len(rows)) // cards) > 0:
        return page_rows(snapshot, width, sort, predicted_bytes, min(_LOW_ROWS + spare, _HIGH_ROWS))
    return rows


def page_rows(snapshot: Snapshot, width: int, sort: str, predicted_bytes: int | None, memory_rows: int) -> list[Row]:
    """The page with curves of memory so high."""
    histories = sorted((samples for samples in snapshot.gpus.values() if samples), key=lambda one: one[-1].index)
    rows: list[Row] = []
    for samples in histories:
        rows += [
            *silence_rows(snapshot, samples[-1], width),
            *gpu_charts(samples, width, predicted_bytes, memory_rows),
            *process_table(samples[-1].processes, width, sort),
            row(),
        ]
    for seen in server_cards(snapshot):
        rows += [*card_rows_of(seen, width), row()]
    if not histories:
        rows += [*no_gpu_rows(snapshot, width), row()]
    if snapshot.host is not None:
        rows += host_rows(snapshot.host, width)
    return rows


def gpu_charts(
    samples: Sequence[GpuSample], width: int, predicted_bytes: int | None, memory_rows: int = _LOW_ROWS
) -> list[Row]:
    """One GPU: memory large, the rest small."""
    now = samples[-1]
    rows = [row((f" {now.index} ", "key"), (visible(now.name), "strong"), (f"  {visible(now.driver or '')}", "dim"))]
    known = [memory_ratio(sample) for sample in samples]
    if now.total_bytes and any(ratio is not None for ratio in known):
        mark: Mark | None = None
        if predicted_bytes:
            name = render(text("predicted peak {need}", need=show_bytes(predicted_bytes)))
            over = predicted_bytes > now.total_bytes
            mark = (min(predicted_bytes / now.total_bytes, 1.0), name, "error" if over else "good")
        rows.append(value_row(_("memory"), f"{show_bytes(now.used_bytes or 0)} / {show_bytes(now.total_bytes)}", width))
        latest = known[-1] or 0.0
        rows += chart_rows(
            known, width, memory_rows, filling(latest), labels=scale(show_bytes(now.total_bytes)), mark=mark
        )
    else:
        rows.append(row(("   " + _("the driver does not tell this card's memory"), "dim")))
    for title, values, most, unit, words in (
        (_("utilization"), [one.utilization_ratio for one in samples], 1.0, "%", percent(now.utilization_ratio)),
        (_("power"), [one.power_watts for one in samples], now.power_limit_watts, "W", watts(now)),
        (_("temperature"), [one.temperature_celsius for one in samples], 100.0, "°C", celsius(now.temperature_celsius)),
    ):
        told = [one for one in values if one is not None]
        if not told:
            continue
        top = most or max(told) or 1.0
        rows.append(value_row(title, words, width))
        rows += chart_rows(
            [None if one is None else one / top for one in values],
            width,
            2,
            "info",
            labels=scale(f"{top * 100 if unit == '%' else top:.0f} {unit}"),
        )
    span = (samples[-1].at - samples[0].at).total_seconds()
    rows.append(
        row(("   " + render(text("over {time}, {count} samples", time=show_seconds(span), count=len(samples))), "dim"))
    )
    if now.throttled:
        reasons = ", ".join(render(THROTTLED[reason]) for reason in now.throttled)
        rows.append(row((" ▲ ", "warning"), (render(text("held down: {reasons}", reasons=reasons)), "warning")))
    elif now.throttled is not None:
        rows.append(row((" ✓ ", "good"), (_("the clocks are not held down"), "dim")))
    return rows


def scale(most: str) -> tuple[str, str]:
    """What stands beside a curve's top and bottom, of one width for all, so that their times stand below each other."""
    return most.rjust(_SCALE_CELLS), "0".rjust(_SCALE_CELLS)


def value_row(title: str, value: str, width: int) -> Row:
    """What a curve is, and where it is now."""
    return row(*spread([("   " + title, "dim")], [(value + " ", "text")], width))


def percent(ratio: float | None) -> str:
    """A ratio for a person."""
    return "?" if ratio is None else f"{ratio * 100:.0f} %"


def watts(now: GpuSample) -> str:
    """The power, of how much."""
    if now.power_watts is None:
        return "?"
    return f"{now.power_watts:.0f}{f' / {now.power_limit_watts:.0f}' if now.power_limit_watts else ''} W"


def celsius(temperature: float | None) -> str:
    """The temperature."""
    return "?" if temperature is None else f"{temperature:.0f} °C"


def process_table(processes: Sequence[GpuProcess], width: int, sort: str) -> list[Row]:
    """Who holds the memory."""
    if not processes:
        return [row(("   " + _("no process holds memory that the driver tells of"), "dim"))]
    names: dict[str, Text] = {"memory": text("memory"), "pid": text("process id"), "name": text("name")}
    order: dict[str, Callable[[GpuProcess], Any]] = {
        "memory": lambda one: -(one.used_bytes or 0),
        "pid": lambda one: one.pid,
        "name": lambda one: (one.name or "~").lower(),
    }
    head = render(text("processes by {order}; s sorts", order=names[sort]))
    rows = [row(("   " + head, "dim"))]
    for process in sorted(processes, key=order[sort])[:_MOST_PROCESSES]:
        held = show_bytes(process.used_bytes) if process.used_bytes is not None else "?"
        left: list[Span] = [(f"   {process.pid:>8} ", "dim"), (visible(process.name or "?"), "text")]
        if process.program != "other":
            left.append((f"  {process.program}", "accent"))
        rows.append(row(*spread(left, [(held + " ", "text")], width)))
    return rows
