"""The machine: each GPU with its history and processes, the host, and our own runner's job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuwatch.core.observations import GpuProcess, GpuSample, HostSample
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import RunStatus
from gpuwatch.faces.tui.driver import silence_rows
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
    sparkline,
    spread,
)
from gpuwatch.faces.tui.pane import Pane, Rows
from gpuwatch.faces.tui.server_card import card_rows_of, server_cards
from gpuwatch.faces.tui.wording import said
from gpuwatch.texts import Text, render, show_bytes, show_seconds, text, visible
from gpuwatch.texts import translate as _

_MOST_PROCESSES = 8
STAGE: Mapping[str, Text] = {
    "started": text("started"),
    "images": text("colorizing"),
    "done": text("done"),
    "error": text("stopped by an error"),
}


class Machine(Pane):
    """The pane."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        self.rows = Rows()
        super().__init__(self.rows, id=id)

    def draw(self, snapshot: Snapshot) -> None:
        """Draw it."""
        self.rows.show(machine_rows(snapshot, self.width))
        drivers = {samples[-1].driver for samples in snapshot.gpus.values() if samples} - {None}
        note: tuple[Span, ...] = ()
        if len(drivers) == 1:
            note = ((render(text("driver {driver}", driver=visible(str(drivers.pop())))), "dim"),)
        self.heading.write(_("GPU and machine"), note, focused=self.focused)


def machine_rows(snapshot: Snapshot, width: int) -> list[Row]:
    """Everything about the machine; our own job first while it runs, and last once it has ended."""
    blocks: list[list[Row]] = []
    ours = [run_rows(snapshot.run, width)] if snapshot.run is not None else []
    running = snapshot.run is not None and snapshot.run.report is None and snapshot.run.error is None
    if running:
        blocks += ours
    histories = sorted((samples for samples in snapshot.gpus.values() if samples), key=lambda one: one[-1].index)
    blocks += [[*gpu_rows(samples, width), *silence_rows(snapshot, samples[-1], width)] for samples in histories]
    blocks += [card_rows_of(seen, width) for seen in server_cards(snapshot)]
    if not histories:
        blocks.append(no_gpu_rows(snapshot, width))
    if snapshot.host is not None:
        blocks.append(host_rows(snapshot.host, width))
    if queues := queue_rows(snapshot, width):
        blocks.append(queues)
    if not running:
        blocks += ours
    rows: list[Row] = []
    for block in blocks:
        rows += [*block, row()]
    return rows[:-1]


def no_gpu_rows(snapshot: Snapshot, width: int) -> list[Row]:
    """No GPU is seen: why, where that is known, and that the rest works."""
    driver = next((source for source in snapshot.sources.values() if source.kind == "nvml"), None)
    if driver is None or driver.state == "up":
        return [row((" ○ ", "dim"), (_("No GPU reading yet."), "dim"))]
    rows = [row((" ○ ", "dim"), (_("no NVIDIA driver"), "text"))]
    if driver.reason is not None:
        rows += paragraph(said(driver.reason), width - 1, "dim", 3)
    return rows + paragraph(_("Logs are read and explained all the same."), width - 1, "dim", 3)


def gpu_rows(samples: tuple[GpuSample, ...], width: int) -> list[Row]:
    """One GPU."""
    now = samples[-1]
    room = max(width - 3, 8)
    rows = [row(*spread([(f" {now.index} ", "key"), (visible(now.name), "strong")], load_spans(now), width))]
    ratio = memory_ratio(now)
    if ratio is not None and now.used_bytes is not None and now.total_bytes is not None:
        tone = filling(ratio)
        numbers = f"{show_bytes(now.used_bytes)} / {show_bytes(now.total_bytes)} "
        rows.append(
            row(*spread([("   " + _("memory"), "dim")], [(numbers, "text"), (f"{ratio * 100:3.0f} % ", tone)], width))
        )
        rows.append(row(("   ", "text"), *bar(ratio, room - 1, tone)))
        history = [known for sample in samples if (known := memory_ratio(sample)) is not None]
        if len(history) > 1:
            span = (samples[-1].at - samples[max(len(samples) - room + 1, 0)].at).total_seconds()
            rows.append(row(("   ", "text"), *sparkline(history, room - 1)))
            rows.append(row(("   " + render(text("memory over {time}", time=show_seconds(span))), "dim")))
    else:
        rows.append(row(("   " + _("the driver does not tell this card's memory"), "dim")))
    return rows + process_rows(now.processes, width)


def load_spans(now: GpuSample) -> list[Span]:
    """Utilization, temperature, power."""
    spans: list[Span] = []
    if now.utilization_ratio is not None:
        spans.append((f" {now.utilization_ratio * 100:.0f} %", "text"))
    if now.temperature_celsius is not None:
        spans.append((f"  {now.temperature_celsius:.0f} °C", "warning" if now.temperature_celsius >= 85 else "text"))
    if now.power_watts is not None:
        limit = f"/{now.power_limit_watts:.0f}" if now.power_limit_watts else ""
        spans.append((f"  {now.power_watts:.0f}{limit} W", "dim"))
    return [*spans, (" ", "text")]


def process_rows(processes: tuple[GpuProcess, ...], width: int) -> list[Row]:
    """Who holds the memory, the largest first."""
    ranked = sorted(processes, key=lambda process: -(process.used_bytes or 0))
    rows = []
    for process in ranked[:_MOST_PROCESSES]:
        held = show_bytes(process.used_bytes) if process.used_bytes is not None else "?"
        name: list[Span] = [(f"   {process.pid:>7} ", "dim"), (visible(process.name or "?"), "text")]
        rows.append(row(*spread(name, [(held + " ", "text")], width)))
    if len(ranked) > _MOST_PROCESSES:
        rest = render(text("and {count} more", count=len(ranked) - _MOST_PROCESSES))
        rows.append(row(("           " + rest, "dim")))
    return rows


def host_rows(host: HostSample, width: int) -> list[Row]:
    """The machine's own memory."""
    if not host.memory_total_bytes:
        return []
    used = host.memory_total_bytes - host.memory_available_bytes
    ratio = used / host.memory_total_bytes
    numbers = f"{show_bytes(used)} / {show_bytes(host.memory_total_bytes)} {ratio * 100:3.0f} % "
    rows = [
        row(*spread([(" " + _("host memory"), "text")], [(numbers, "text")], width)),
        row(("   ", "text"), *bar(ratio, max(width - 4, 7), filling(ratio))),
    ]
    extra = []
    if host.cpu_ratio is not None:
        extra.append(f"CPU {host.cpu_ratio * 100:.0f} %")
    if host.swap_used_bytes:
        extra.append(render(text("swap {used}", used=show_bytes(host.swap_used_bytes))))
    return [*rows, row(("   " + "  ".join(extra), "dim"))] if extra else rows


def queue_rows(snapshot: Snapshot, width: int) -> list[Row]:
    """ComfyUI's queue."""
    rows = []
    for queue in snapshot.queues.values():
        words = render(text("{running} running, {pending} waiting", running=queue.running, pending=queue.pending))
        rows.append(row(*spread([(" " + visible(queue.server), "text")], [(words + " ", "dim")], width)))
    return rows


def run_rows(run: RunStatus, width: int) -> list[Row]:
    """Our own runner: how far it is, then what it measured."""
    rows = run_head_rows(run, width)
    for name, value in report_lines(run.report or {}):
        rows.append(row(("   " + padded(name, 16) + " ", "dim"), (cut(value, max(width - 20, 4)), "text")))
    return rows + run_end_rows(run, width)


def run_head_rows(run: RunStatus, width: int) -> list[Row]:
    """How far a run is, on what, and whether its colours mean something."""
    report = run.report or {}
    stage = render(STAGE[run.stage]) if run.stage in STAGE else visible(run.stage)
    device = visible(str(report.get("device") or run.device or ""))
    rows = [row(*spread([(" DDColor ", "strong"), (stage, "text")], [(device + " ", "dim")], width))]
    images = int(report.get("images") or run.images or 0)
    done = images if run.report is not None else run.done
    if images:
        count = f" {done}/{images} "
        rows.append(
            row(("   ", "text"), *bar(done / images, max(width - 3 - len(count), 4), "accent"), (count, "text"))
        )
    if report.get("weights") == "random":
        rows += paragraph("▲ " + _("random weights: colours are meaningless"), width - 1, "warning", 3)
    elif report.get("weights") == "checkpoint":
        rows.append(row(("   " + _("weights from the checkpoint"), "dim")))
    return rows


def run_end_rows(run: RunStatus, width: int) -> list[Row]:
    """What of a run failed."""
    told = (run.report or {}).get("failed")
    failed = len(told) if isinstance(told, list) else run.failed
    rows: list[Row] = []
    if failed:
        rows.append(row(("   ✗ ", "error"), (render(text("{count} images failed", count=failed)), "error")))
    if run.error is not None:
        rows += paragraph("✗ " + said(run.error), width - 1, "error", 3)
    return rows


def report_lines(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the report measured, what it did not say left out."""
    warm = report.get("warm_seconds")
    lines: list[tuple[str, str]] = []
    job = [str(report[name]) for name in ("variant", "size", "dtype") if report.get(name) is not None]
    if job:
        lines.append((_("network"), visible(" · ".join(job))))
    if isinstance(warm, Mapping) and isinstance(warm.get("p50"), int | float):
        lines.append((_("warm, half below"), show_seconds(warm["p50"])))
    if isinstance(report.get("images_per_second"), int | float):
        lines.append((_("images a second"), f"{report['images_per_second']:.2f}"))
    peak = report.get("peak_reserved_bytes") or report.get("peak_allocated_bytes")
    if isinstance(peak, int | float):
        lines.append((_("peak GPU memory"), show_bytes(peak)))
    if isinstance(report.get("host_rss_bytes"), int | float):
        lines.append((_("host memory"), show_bytes(report["host_rss_bytes"])))
    return lines
