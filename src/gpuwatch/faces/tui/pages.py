"""The pages beside the failures: the GPUs over time, the jobs, our own runner. Each takes the whole room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal

from textual import events
from textual.binding import Binding, BindingType

from gpuwatch.core.observations import GpuProcess, GpuSample, JobEnded, JobOutcome, ThrottleReason
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.charts import Mark, chart_rows
from gpuwatch.faces.tui.machine import host_rows, no_gpu_rows, run_rows
from gpuwatch.faces.tui.paint import (
    Row,
    Span,
    bar,
    cut,
    filling,
    memory_ratio,
    padded,
    paragraph,
    row,
    spread,
    width_of,
)
from gpuwatch.faces.tui.pane import OneLine, Pane, Rows
from gpuwatch.faces.tui.themes import Tone
from gpuwatch.faces.tui.wording import clock
from gpuwatch.texts import Text, render, show_bytes, show_seconds, text, visible
from gpuwatch.texts import translate as _

Page = Literal["home", "gpu", "jobs", "runner"]
PAGES: tuple[tuple[Page, str, Text], ...] = (
    ("home", "H", text("Failures")),
    ("gpu", "p", text("GPU")),
    ("jobs", "J", text("Jobs")),
    ("runner", "R", text("Runner")),
)
_SORTS = ("memory", "pid", "name")
_MOST_JOBS = 60
_MOST_PROCESSES = 40
OUTCOME: Mapping[JobOutcome, tuple[str, Text, Tone]] = {
    "success": ("✓", text("done"), "good"),
    "error": ("✗", text("failed"), "error"),
    "interrupted": ("■", text("interrupted"), "warning"),
}
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


class TabLine(OneLine):
    """The pages by name; a click goes there."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._places: list[tuple[int, int, Page]] = []

    def draw(self, page: Page) -> None:
        """Draw the names, the open page's marked."""
        spans: list[Span] = []
        self._places = []
        for name, key, title in PAGES:
            start = width_of(spans)
            here = name == page
            spans += [
                (" ▌" if here else "  ", "accent"),
                (key + " ", "key"),
                (render(title) + " ", "strong" if here else "dim"),
            ]
            self._places.append((start, width_of(spans), name))
        hint = _("[ ] turn the page") + " "
        gap = self.size.width - width_of(spans) - width_of([(hint, "dim")])
        if gap > 0:
            spans += [(" " * gap, "text"), (hint, "faint")]
        self.show(row(*spans, back="quiet"))

    async def on_click(self, event: events.Click) -> None:
        """Go to the page."""
        for start, end, name in self._places:
            if start <= event.x < end:
                await self.app.run_action(f"page('{name}')")


class PageRows(Rows):
    """The rows of a page that can be sorted."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("s", "sort", show=False)]

    sort = 0

    def action_sort(self) -> None:
        """Sort the processes by something else."""
        self.sort = (self.sort + 1) % len(_SORTS)
        self.app.call_later(getattr(self.app, "draw", lambda: None))


class PagePane(Pane):
    """The page that is open, where it is not the failures."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        self.rows = PageRows()
        super().__init__(self.rows, id=id)

    def draw(self, snapshot: Snapshot, page: Page, predicted_bytes: int | None) -> None:
        """Draw it."""
        if page == "gpu":
            rows = gpu_page(snapshot, self.width, _SORTS[self.rows.sort], predicted_bytes)
        elif page == "jobs":
            rows = jobs_page(snapshot, self.width)
        else:
            rows = runner_page(snapshot, self.width)
        self.rows.show(rows)
        title = next(title for name, _key, title in PAGES if name == page)
        self.heading.write(render(title), (), focused=self.focused)


# -- the GPUs ------------------------------------------------------------------------------------------------------------------


def gpu_page(snapshot: Snapshot, width: int, sort: str, predicted_bytes: int | None) -> list[Row]:
    """Every GPU over time, and who holds its memory."""
    histories = sorted((samples for samples in snapshot.gpus.values() if samples), key=lambda one: one[-1].index)
    rows: list[Row] = []
    for samples in histories:
        rows += [
            *gpu_charts(samples, width, predicted_bytes),
            *process_table(samples[-1].processes, width, sort),
            row(),
        ]
    if not histories:
        rows += [*no_gpu_rows(snapshot, width), row()]
    if snapshot.host is not None:
        rows += host_rows(snapshot.host, width)
    return rows


def gpu_charts(samples: Sequence[GpuSample], width: int, predicted_bytes: int | None) -> list[Row]:
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
        labels = (show_bytes(now.total_bytes), "0")
        rows += chart_rows(known, width, 5, filling(latest), labels=labels, mark=mark)
    else:
        rows.append(row(("   " + _("the driver does not tell this card's memory"), "dim")))
    for title, values, most, words in (
        (_("utilization"), [one.utilization_ratio for one in samples], 1.0, percent(now.utilization_ratio)),
        (_("power"), [one.power_watts for one in samples], now.power_limit_watts, watts(now)),
        (_("temperature"), [one.temperature_celsius for one in samples], 100.0, celsius(now.temperature_celsius)),
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
            labels=(f"{top:.0f}", "0"),
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


# -- the jobs ------------------------------------------------------------------------------------------------------------------


def jobs_page(snapshot: Snapshot, width: int) -> list[Row]:
    """What waits, what runs, what ended."""
    rows: list[Row] = []
    servers = sorted({*snapshot.queues, *snapshot.servers, *snapshot.progress})
    for name in servers:
        rows += [*server_rows(snapshot, name, width), row()]
    if snapshot.jobs:
        rows.append(row((" " + _("Ended, the newest first"), "title")))
        rows += [job_row(job, width, snapshot.at) for job in reversed(snapshot.jobs[-_MOST_JOBS:])]
    elif servers:
        rows.append(row((" " + _("No job has ended yet."), "dim")))
    if rows:
        return rows
    return [
        row(),
        row((" ○ ", "dim"), (_("No server is watched, so no job is known."), "strong")),
        *paragraph(
            _("A log tells failures. The queue, the running node and ended jobs are told by ComfyUI itself:"),
            min(width - 2, 84), "dim", 3,
        ),
        row(("   $ ", "faint"), ("gpuwatch watch http://127.0.0.1:8188", "info")),
    ]  # fmt: skip


def server_rows(snapshot: Snapshot, name: str, width: int) -> list[Row]:
    """One server: its queue, and the node that runs."""
    seen, queue = snapshot.servers.get(name), snapshot.queues.get(name)
    title: list[Span] = [(" " + visible(name), "strong")]
    if seen is not None:
        told = [f"ComfyUI {seen.version}" if seen.version else "", seen.device or ""]
        title.append(("  " + visible(" · ".join(word for word in told if word)), "dim"))
    state = ""
    if queue is not None:
        state = render(text("{running} running, {pending} waiting", running=queue.running, pending=queue.pending))
    rows = [row(*spread(title, [(state + " ", "text")], width))]
    progress = snapshot.progress.get(name)
    if progress is not None:
        node = render(text("node {id}", id=visible(progress.node_id)))
        if progress.value is not None and progress.max:
            count = f" {progress.value:g}/{progress.max:g} "
            room = min(max(width - width_of([(node + count, "text")]) - 6, 4), 60)
            rows.append(
                row(("   " + node + " ", "text"), *bar(progress.value / progress.max, room, "accent"), (count, "text"))
            )
        else:
            rows.append(row(("   " + node + " ", "text"), (_("runs"), "dim")))
    elif queue is not None and not queue.running:
        rows.append(row(("   " + _("idle"), "dim")))
    return rows


def job_row(job: JobEnded, width: int, now: datetime | None) -> Row:
    """A job that is over, on one line."""
    sign, word, tone = OUTCOME[job.outcome]
    left: list[Span] = [(f" {sign} ", tone), (padded(render(word), 12), tone), (clock(job.at, now) + " ", "dim")]
    if job.workload or job.node_type:
        left.append((visible(job.workload or job.node_type or "") + " ", "text"))
    if job.exception_type:
        left.append((visible(job.exception_type), "dim"))
    elif job.node_seconds:
        slowest = max(job.node_seconds.items(), key=lambda item: item[1])
        left.append((f"{visible(slowest[0])} {show_seconds(slowest[1])}", "dim"))
    right = []
    if job.waited_seconds is not None:
        right.append(render(text("waited {time}", time=show_seconds(job.waited_seconds))))
    if job.duration_seconds is not None:
        right.append(show_seconds(job.duration_seconds))
    return row(*spread(left, [("  ".join(right) + " ", "text")], width))


# -- our own runner ------------------------------------------------------------------------------------------------------------


def runner_page(snapshot: Snapshot, width: int) -> list[Row]:
    """A run: its stages, its speed, its memory."""
    if snapshot.run is None:
        return [
            row(),
            row((" ○ ", "dim"), (_("No run of gpuwatch's own DDColor runner is watched."), "strong")),
            *paragraph(
                _("The demo runs one beside a recorded failure; a run of its own prints its report:"),
                min(width - 2, 84), "dim", 3,
            ),
            row(("   $ ", "faint"), ("gpuwatch demo", "info")),
            row(("   $ ", "faint"), ("gpuwatch run ddcolor PHOTO --profile", "info")),
        ]  # fmt: skip
    rows = run_rows(snapshot.run, width)
    report = snapshot.run.report or {}
    known: list[tuple[str, str]] = []
    for name, title in (
        ("load_seconds", _("load")),
        ("first_seconds", _("first image")),
    ):
        if isinstance(report.get(name), int | float):
            known.append((title, show_seconds(report[name])))
    for name, title in (
        ("peak_allocated_bytes", _("allocated at most")),
        ("peak_reserved_bytes", _("reserved at most")),
        ("peak_device_bytes", _("held on the card at most")),
    ):
        if isinstance(report.get(name), int | float):
            known.append((title, show_bytes(report[name])))
    for name, title in (("gflop_per_image", _("GFLOP an image")), ("tokens_per_image", _("tokens an image"))):
        if isinstance(report.get(name), int | float):
            known.append((title, f"{report[name]:,.0f}"))
    traces = report.get("trace_files")
    if isinstance(traces, list):
        known += [(_("trace"), visible(str(trace))) for trace in traces[:4]]
    rows += [
        row((f"   {padded(title, 24)} ", "dim"), (cut(value, max(width - 30, 4)), "text")) for title, value in known
    ]
    return rows
