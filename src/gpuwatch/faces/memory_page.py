"""A memory snapshot, or a trace's memory events, as a page for people: who held what at the peak, what was refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from gpuwatch.adapters.traces.reading import Read
from gpuwatch.core.traces.allocator import DeviceMemory
from gpuwatch.core.traces.holders import HeldBy
from gpuwatch.core.traces.memory import MemoryPeak
from gpuwatch.core.traces.snapshot import Frame, Snapshot
from gpuwatch.core.traces.summary import Summary
from gpuwatch.faces.trace_table import duration, print_head, print_more, print_table, share, spark
from gpuwatch.texts import Text, render, show_bytes, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from rich.console import Console

_PLUMBING = ("torch/nn/modules/module.py", "torch/nn/modules/container.py", "torch/_ops.py", "contextlib.py")
"""Files whose frames say nothing of who asked for memory."""
_SHOWN_FRAMES = 3


def print_trace_memory(
    console: Console, read: Read, summary: Summary, held: Callable[[MemoryPeak], list[HeldBy]], top: int
) -> None:
    """A trace's memory, with who held it at the peak."""
    print_head(console, read, summary.events)
    for peak in summary.memory:
        print_memory_line(console, peak, summary)
        holders = held(peak)
        if peak.earlier_bytes:
            console.print(
                render(
                    text("{earlier_bytes} of it were held before the record began.", earlier_bytes=peak.earlier_bytes)
                )
            )
        print_table(
            console,
            _("held at the peak"),
            [(_("size"), True), (_("share"), True), (_("blocks"), True), (_("operator"), False), (_("stage"), False)],
            [
                (
                    show_bytes(each.size_bytes),
                    share(each.size_bytes, peak.peak_bytes),
                    f"{each.count:,}",
                    each.operator or _("outside of operators"),
                    each.stage or "",
                )
                for each in holders[:top]
            ],
        )
        print_more(console, len(holders) - top)


def print_snapshot(console: Console, read: Read, snapshot: Snapshot, devices: Sequence[DeviceMemory], top: int) -> None:
    """A snapshot's page, a part for each device."""
    print_head(console, read, sum(device.actions for device in devices))
    if not devices:
        console.print(render(text("It is empty: no memory was taken on any device.")))
    for number, device in enumerate(devices):
        if number:
            console.print()
        for line in _device_lines(device):
            console.print(visible(render(line)), soft_wrap=True)
        if any(device.timeline_bytes):
            console.print(spark(console, device.timeline_bytes), style="cyan")
        _holders(console, device, top)
        _refusals(console, device, top)
        print_table(
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
        print_more(console, len(device.segments) - top)
    if snapshot.stacks.lost or snapshot.unusable:
        told = text(
            "Not read: {unusable} entries that make no sense, {lost} call stacks for which there was no room.",
            unusable=snapshot.unusable,
            lost=snapshot.stacks.lost,
        )
        console.print(render(told), style="dim")


def memory_name(device: str) -> str:
    """What to call the memory of a device."""
    return _("CPU memory") if device == "cpu" else visible(device)


def print_memory_line(console: Console, peak: MemoryPeak, summary: Summary) -> None:
    """A trace's peak on one device, and its memory over the time."""
    console.print(render(peak_line(peak, summary)))
    console.print(spark(console, peak.timeline_bytes), style="cyan")


def peak_line(peak: MemoryPeak, summary: Summary) -> Text:
    """A trace's peak on one device, in a sentence."""
    return text(
        "{device}: peak {peak_bytes} at {at}; {begin_bytes} at the begin, {end_bytes} at the end.",
        device=memory_name(peak.device),
        peak_bytes=peak.peak_bytes,
        at=duration(max(summary.seconds_at(peak.peak_time), 0.0)),
        begin_bytes=peak.begin_bytes,
        end_bytes=peak.end_bytes,
    )


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
    print_table(
        console,
        _("held at the peak, by call stack") if device.peak_bytes is not None else _("held at the end, by call stack"),
        [(_("size"), True), (_("share"), True), (_("blocks"), True), (_("taken in"), False)],
        [
            (
                show_bytes(held.size_bytes),
                share(held.size_bytes, whole),
                f"{held.count:,}",
                _stack_cell(held.stack, held.recorded),
            )
            for held in device.holders[:top]
        ],
    )
    print_more(console, len(device.holders) - top)


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
    print_table(
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
    print_more(console, device.refusals_count - top)
