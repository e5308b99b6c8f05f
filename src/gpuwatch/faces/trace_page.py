"""Traces and snapshots as a page for people: a few sentences first, then tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from gpuwatch.adapters.traces.reading import Read
from gpuwatch.core.traces.allocator import DeviceMemory
from gpuwatch.core.traces.compare import Change, Comparison
from gpuwatch.core.traces.holders import HeldBy
from gpuwatch.core.traces.memory import MemoryPeak
from gpuwatch.core.traces.snapshot import Frame, Snapshot
from gpuwatch.core.traces.summary import Counted, Idle, Row, Summary
from gpuwatch.texts import Text, render, show_bytes, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from rich.console import Console

_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = " ..::||##"
_PLUMBING = ("torch/nn/modules/module.py", "torch/nn/modules/container.py", "torch/_ops.py", "contextlib.py")
"""Files whose frames say nothing of who asked for memory."""
_MOST_STAGES = 40
_SHOWN_FRAMES = 3
_GAP = 2
"""Cells between columns."""
_NARROWEST = 12
Column = tuple[str, bool]
"""A heading, and whether numbers stand under it."""


def print_summary(console: Console, read: Read, summary: Summary, top: int) -> None:
    """A trace's page."""
    _head(console, read, summary.events)
    for line in _opening(summary):
        console.print(render(line))
    _stages(console, summary)
    _work(console, _("kernels by time"), summary.kernels, top)
    _work(console, _("operators by their own time"), summary.operators, top)
    if summary.copies:
        _table(
            console,
            _("copies"),
            [(_("direction"), False), (_("count"), True), (_("size"), True), (_("time"), True), (_("rate"), True)],
            [
                (
                    each.direction,
                    f"{each.count:,}",
                    show_bytes(each.size_bytes),
                    duration(each.seconds),
                    f"{show_bytes(each.size_bytes / each.seconds)}/s" if each.seconds else "",
                )
                for each in summary.copies
            ],
        )
    _table(
        console,
        _("kinds of span"),
        [(_("kind"), False), (_("count"), True), (_("own time"), True)],
        [(row.kind, f"{row.count:,}", duration(row.own_seconds)) for row in summary.kinds],
    )
    if summary.memory:
        console.print()
        for peak in summary.memory:
            _memory_line(console, peak, summary)
    _counters(console, summary.counters, top)


def print_comparison(
    console: Console, reads: Sequence[Read], summaries: Sequence[Summary], comparison: Comparison, top: int
) -> None:
    """Two traces side by side."""
    for read, summary in zip(reads, summaries, strict=True):
        _head(console, read, summary.events)
    first, second = summaries
    window = comparison.window
    console.print(
        render(
            text("A step took {first}, then {second}: {times}.", **_change_words(window))
            if comparison.by_step
            else text("It took {first}, then {second}: {times}.", **_change_words(window))
        )
    )
    for one, two in zip(first.idle, second.idle, strict=False):
        told = text(
            "{device}: idle for {first_ratio} of the time, then for {second_ratio}.",
            device=_device_name(one),
            first_ratio=one.ratio,
            second_ratio=two.ratio,
        )
        console.print(render(told))
    peaks = {peak.device: peak for peak in first.memory}
    for peak in second.memory:
        if (before := peaks.get(peak.device)) is not None:
            told = text(
                "{device}: memory peaked at {first_bytes}, then at {second_bytes}.",
                device=_memory_name(peak.device),
                first_bytes=before.peak_bytes,
                second_bytes=peak.peak_bytes,
            )
            console.print(render(told))
    for title, changes in (
        (_("stages"), comparison.stages),
        (_("kernels, the largest changes first"), comparison.kernels[:top]),
        (_("operators by their own time, the largest changes first"), comparison.operators[:top]),
    ):
        _table(
            console,
            title,
            [
                (_("name"), False),
                (_("count"), True),
                (_("first"), True),
                (_("second"), True),
                (_("change"), True),
                ("", True),
            ],
            [_change_cells(change) for change in changes],
        )


def print_trace_memory(
    console: Console, read: Read, summary: Summary, held: Callable[[MemoryPeak], list[HeldBy]], top: int
) -> None:
    """A trace's memory, with who held it at the peak."""
    _head(console, read, summary.events)
    for peak in summary.memory:
        _memory_line(console, peak, summary)
        holders = held(peak)
        if peak.earlier_bytes:
            console.print(
                render(
                    text("{earlier_bytes} of it were held before the record began.", earlier_bytes=peak.earlier_bytes)
                )
            )
        _table(
            console,
            _("held at the peak"),
            [(_("size"), True), (_("share"), True), (_("blocks"), True), (_("operator"), False), (_("stage"), False)],
            [
                (
                    show_bytes(each.size_bytes),
                    _share(each.size_bytes, peak.peak_bytes),
                    f"{each.count:,}",
                    each.operator or _("outside of operators"),
                    each.stage or "",
                )
                for each in holders[:top]
            ],
        )
        _more(console, len(holders) - top)


def print_snapshot(console: Console, read: Read, snapshot: Snapshot, devices: Sequence[DeviceMemory], top: int) -> None:
    """A snapshot's page, a part for each device."""
    _head(console, read, sum(device.actions for device in devices))
    if not devices:
        console.print(render(text("It is empty: no memory was taken on any device.")))
    for number, device in enumerate(devices):
        if number:
            console.print()
        for line in _device_lines(device):
            console.print(visible(render(line)), soft_wrap=True)
        if any(device.timeline_bytes):
            console.print(_spark(console, device.timeline_bytes), style="cyan")
        _holders(console, device, top)
        _refusals(console, device, top)
        _table(
            console,
            _("segments at the end"),
            [
                (_("kind"), False),
                (_("size"), True),
                (_("count"), True),
                (_("in use"), True),
                (_("free"), True),
                (_("largest free"), True),
            ],
            [
                (
                    row.kind,
                    show_bytes(row.size_bytes),
                    f"{row.count:,}",
                    show_bytes(row.allocated_bytes),
                    show_bytes(row.free_bytes),
                    show_bytes(row.largest_free_bytes),
                )
                for row in device.segments[:top]
            ],
        )
        _more(console, len(device.segments) - top)
    if snapshot.stacks.lost or snapshot.unusable:
        told = text(
            "Not read: {unusable} entries that make no sense, {lost} call stacks for which there was no room.",
            unusable=snapshot.unusable,
            lost=snapshot.stacks.lost,
        )
        console.print(render(told), style="dim")


def duration(seconds: float) -> str:
    """A time to three digits, from nanoseconds to hours."""
    if seconds >= 100 or seconds == 0:
        return f"{seconds:,.0f} s"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        value = seconds * factor
        if value >= 1 or unit == "µs":
            return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return ""


def _head(console: Console, read: Read, events: int) -> None:
    told = text(
        "{file}: {size_bytes}, {events} events", file=str(read.path), size_bytes=read.size_bytes, events=f"{events:,}"
    )
    console.print(visible(render(told)), style="bold", soft_wrap=True)


def _opening(summary: Summary) -> Iterable[Text]:
    window = duration(summary.window_seconds)
    if summary.steps == 1:
        yield text("The recorded step took {window}.", window=window)
    elif summary.steps:
        yield text(
            "{steps} recorded steps took {window}, {each} each.",
            steps=summary.steps,
            window=window,
            each=duration(summary.window_seconds / summary.steps),
        )
    else:
        yield text("The record is {window} long.", window=window)
    if not summary.has_gpu:
        yield text("Nothing ran on a GPU.")
    for idle in summary.idle:
        at, length = idle.gaps[0] if idle.gaps else (0.0, 0.0)
        yield text(
            "{device}: idle for {idle_ratio} of it; the longest pause is {pause}, at {at}.",
            device=_device_name(idle),
            idle_ratio=idle.ratio,
            pause=duration(length),
            at=duration(at),
        )
    if summary.unusable or summary.left_out:
        yield text(
            "Not counted: {unusable} events that make no sense, {left_out} for which there was no room.",
            unusable=summary.unusable,
            left_out=summary.left_out,
        )


def _device_name(idle: Idle) -> str:
    return _("CPU operators") if idle.device == "cpu" else f"GPU {visible(idle.device)}"


def _memory_name(device: str) -> str:
    return _("CPU memory") if device == "cpu" else visible(device)


def _stages(console: Console, summary: Summary) -> None:
    if not summary.stages:
        return
    gpu = any(stage.gpu_seconds is not None for stage in summary.stages)
    memory = any(stage.peak_bytes is not None for stage in summary.stages)
    columns = [(_("stage"), False), (_("count"), True), (_("time"), True), (_("share"), True)]
    columns += [(_("on the GPU"), True)] if gpu else []
    columns += [(_("memory peak"), True)] if memory else []
    rows = []
    for stage in summary.stages:
        cells = [
            stage.name,
            f"{stage.count:,}",
            duration(stage.host_seconds),
            _share(stage.host_seconds, summary.window_seconds),
        ]
        cells += [duration(stage.gpu_seconds) if stage.gpu_seconds is not None else ""] if gpu else []
        cells += [show_bytes(stage.peak_bytes) if stage.peak_bytes is not None else ""] if memory else []
        rows.append(tuple(cells))
    _table(console, _("stages, in order"), columns, rows[:_MOST_STAGES])
    _more(console, len(rows) - _MOST_STAGES)


def _work(console: Console, title: str, rows: Sequence[Row], top: int) -> None:
    whole = sum(row.own_seconds for row in rows)
    _table(
        console,
        title,
        [
            (_("name"), False),
            (_("count"), True),
            (_("own time"), True),
            (_("share"), True),
            (_("mean"), True),
            (_("longest"), True),
        ],
        [
            (
                row.name,
                f"{row.count:,}",
                duration(row.own_seconds),
                _share(row.own_seconds, whole),
                duration(row.own_seconds / row.count),
                duration(row.longest_seconds),
            )
            for row in rows[:top]
        ],
    )
    _more(console, len(rows) - top)


def _counters(console: Console, counters: Sequence[Counted], top: int) -> None:
    def shown(name: str, value: float) -> str:
        return show_bytes(value) if "bytes" in name else f"{value:.4g}"

    _table(
        console,
        _("counters"),
        [(_("name"), False), (_("samples"), True), (_("lowest"), True), (_("mean"), True), (_("highest"), True)],
        [
            (
                each.name,
                f"{each.samples:,}",
                shown(each.name, each.low),
                shown(each.name, each.mean),
                shown(each.name, each.high),
            )
            for each in counters[:top]
        ],
    )


def _memory_line(console: Console, peak: MemoryPeak, summary: Summary) -> None:
    told = text(
        "{device}: peak {peak_bytes} at {at}; {begin_bytes} at the begin, {end_bytes} at the end.",
        device=_memory_name(peak.device),
        peak_bytes=peak.peak_bytes,
        at=duration(max(summary.seconds_at(peak.peak_time), 0.0)),
        begin_bytes=peak.begin_bytes,
        end_bytes=peak.end_bytes,
    )
    console.print(render(told))
    console.print(_spark(console, peak.timeline_bytes), style="cyan")


def _device_lines(device: DeviceMemory) -> Iterable[Text]:
    name = f"cuda:{device.device}"
    if device.peak_bytes is None:
        yield text(
            "{device}: what the allocator did was not recorded, so the peak is not known; this is the end.", device=name
        )
    else:
        yield text(
            "{device}: peak {peak_bytes} asked for, {rounded_bytes} with rounding, {reserved_bytes} reserved then; "
            "action {action} of {actions}, {at} after the first.",
            device=name,
            peak_bytes=device.peak_bytes,
            rounded_bytes=device.peak_rounded_bytes,
            reserved_bytes=device.reserved_at_peak_bytes,
            action=f"{(device.peak_action or 0) + 1:,}",
            actions=f"{device.actions:,}",
            at="?" if device.peak_seconds is None else duration(max(device.peak_seconds, 0.0)),
        )
        yield text("Most reserved: {reserved_bytes}.", reserved_bytes=device.most_reserved_bytes)
        if device.earlier_bytes:
            yield text(
                "{earlier_bytes} were held before the record began; who took them is known only where they still are.",
                earlier_bytes=device.earlier_bytes,
            )
    fragments = device.fragments
    yield text(
        "At the end: {reserved_bytes} reserved in {segments} segments, {allocated_bytes} in use ({requested_bytes} asked for), "
        "{free_bytes} free in them.",
        reserved_bytes=fragments.reserved_bytes,
        segments=fragments.segments,
        allocated_bytes=fragments.allocated_bytes,
        requested_bytes=fragments.requested_bytes,
        free_bytes=fragments.free_bytes,
    )
    if fragments.free_bytes:
        yield text(
            "Of the free memory {split_bytes} is in segments also in use, {releasable_bytes} could be given back with "
            "empty_cache(); the largest free block is {largest_bytes}.",
            split_bytes=fragments.inactive_split_bytes,
            releasable_bytes=fragments.releasable_bytes,
            largest_bytes=fragments.largest_free_bytes,
        )
    if fragments.pending_bytes:
        yield text(
            "{pending_bytes} are given back, but another stream may still use them.",
            pending_bytes=fragments.pending_bytes,
        )


def _holders(console: Console, device: DeviceMemory, top: int) -> None:
    whole = device.peak_bytes or sum(held.size_bytes for held in device.holders)
    _table(
        console,
        _("held at the peak, by call stack") if device.peak_bytes is not None else _("held at the end, by call stack"),
        [(_("size"), True), (_("share"), True), (_("blocks"), True), (_("taken in"), False)],
        [
            (
                show_bytes(held.size_bytes),
                _share(held.size_bytes, whole),
                f"{held.count:,}",
                _stack_cell(held.stack, held.recorded),
            )
            for held in device.holders[:top]
        ],
    )
    _more(console, len(device.holders) - top)


def _stack_cell(stack: Sequence[Frame], recorded: bool) -> str:
    if not stack:
        return _("no call stack recorded") if recorded else _("taken before the record began")
    telling = [frame for frame in stack if not frame.file.replace("\\", "/").endswith(_PLUMBING)] or list(stack)
    lines = [f"{frame.function}  {_short(frame.file)}:{frame.line}" for frame in telling[:_SHOWN_FRAMES]]
    return "\n".join(lines)


def _short(file: str) -> str:
    """A file's last three parts."""
    return "/".join(PurePath(file.replace("\\", "/").lstrip("/")).parts[-3:])


def _refusals(console: Console, device: DeviceMemory, top: int) -> None:
    _table(
        console,
        _("refused (out of memory)"),
        [
            (_("at"), True),
            (_("asked for"), True),
            (_("held then"), True),
            (_("reserved then"), True),
            (_("free on the card"), True),
            (_("asked in"), False),
        ],
        [
            (
                "?" if refusal.seconds is None else duration(max(refusal.seconds, 0.0)),
                show_bytes(refusal.asked_bytes),
                show_bytes(refusal.allocated_bytes),
                show_bytes(refusal.reserved_bytes),
                "?" if refusal.device_free_bytes is None else show_bytes(refusal.device_free_bytes),
                _stack_cell(refusal.stack, recorded=True),
            )
            for refusal in device.refusals[:top]
        ],
    )
    _more(console, device.refusals_count - top)


def _change_words(change: Change) -> dict[str, str]:
    return {
        "first": duration(change.first_seconds or 0.0),
        "second": duration(change.second_seconds or 0.0),
        "times": "?" if change.times is None else f"× {change.times:.3g}",
    }


def _change_cells(change: Change) -> tuple[str, ...]:
    first, second = change.first_seconds, change.second_seconds
    counts = f"{change.first_count:g}" if change.first_count == change.second_count else (
        f"{change.first_count:g} → {change.second_count:g}"
    )  # fmt: skip
    verdict = _("new") if first is None else _("gone") if second is None else ""
    if not verdict and change.times is not None:
        verdict = f"× {change.times:.3g}"
    sign = "+" if change.delta_seconds >= 0 else "−"
    return (
        change.name,
        counts,
        "" if first is None else duration(first),
        "" if second is None else duration(second),
        f"{sign}{duration(abs(change.delta_seconds))}",
        verdict,
    )


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole > 0 else ""


def _spark(console: Console, values: Sequence[int]) -> str:
    """A row of bars, the highest the largest value."""
    bars = _BARS if (console.encoding or "").lower().replace("-", "").startswith("utf") else _PLAIN_BARS
    most = max(values, default=0)
    if most <= 0:
        return ""
    return "".join(bars[max(-(-max(value, 0) * (len(bars) - 1) // most), 0)] for value in values)


def _table(console: Console, title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
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


def _more(console: Console, count: int) -> None:
    if count > 0:
        console.print(render(text("… and {count} more; --top shows more.", count=f"{count:,}")), style="dim")
