"""A profiler's trace, or two compared, as a page for people: a few sentences first, then tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gpuwatch.adapters.traces.reading import Read
from gpuwatch.core.traces.compare import Change, Comparison
from gpuwatch.core.traces.summary import Counted, Idle, Row, Summary
from gpuwatch.faces.memory_page import memory_name, print_memory_line
from gpuwatch.faces.trace_table import duration, print_head, print_more, print_table, share
from gpuwatch.texts import Text, render, show_bytes, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from rich.console import Console

_MOST_STAGES = 40


def print_summary(console: Console, read: Read, summary: Summary, top: int) -> None:
    """A trace's page."""
    print_head(console, read, summary.events)
    for line in opening_lines(summary):
        console.print(render(line))
    _stages(console, summary)
    _work(console, _("kernels by time"), summary.kernels, top)
    _work(console, _("operators by their own time"), summary.operators, top)
    if summary.copies:
        print_table(
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
    print_table(
        console,
        _("kinds of span"),
        [(_("kind"), False), (_("count"), True), (_("own time"), True)],
        [(row.kind, f"{row.count:,}", duration(row.own_seconds)) for row in summary.kinds],
    )
    if summary.memory:
        console.print()
        for peak in summary.memory:
            print_memory_line(console, peak, summary)
    _counters(console, summary.counters, top)


def print_comparison(
    console: Console, reads: Sequence[Read], summaries: Sequence[Summary], comparison: Comparison, top: int
) -> None:
    """Two traces side by side."""
    for read, summary in zip(reads, summaries, strict=True):
        print_head(console, read, summary.events)
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
                device=memory_name(peak.device),
                first_bytes=before.peak_bytes,
                second_bytes=peak.peak_bytes,
            )
            console.print(render(told))
    for title, changes in (
        (_("stages"), comparison.stages),
        (_("kernels, the largest changes first"), comparison.kernels[:top]),
        (_("operators by their own time, the largest changes first"), comparison.operators[:top]),
    ):
        print_table(
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


def opening_lines(summary: Summary) -> Iterable[Text]:
    """How long it took, and how much of that nothing was done."""
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
            share(stage.host_seconds, summary.window_seconds),
        ]
        cells += [duration(stage.gpu_seconds) if stage.gpu_seconds is not None else ""] if gpu else []
        cells += [show_bytes(stage.peak_bytes) if stage.peak_bytes is not None else ""] if memory else []
        rows.append(tuple(cells))
    print_table(console, _("stages, in order"), columns, rows[:_MOST_STAGES])
    print_more(console, len(rows) - _MOST_STAGES)


def _work(console: Console, title: str, rows: Sequence[Row], top: int) -> None:
    whole = sum(row.own_seconds for row in rows)
    print_table(
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
                share(row.own_seconds, whole),
                duration(row.own_seconds / row.count),
                duration(row.longest_seconds),
            )
            for row in rows[:top]
        ],
    )
    print_more(console, len(rows) - top)


def _counters(console: Console, counters: Sequence[Counted], top: int) -> None:
    def shown(name: str, value: float) -> str:
        return show_bytes(value) if "bytes" in name else f"{value:.4g}"

    print_table(
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
