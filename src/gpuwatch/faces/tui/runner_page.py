"""The page of our own DDColor runner: a run's stages, its speed, its memory, its traces."""

from __future__ import annotations

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.machine import run_rows
from gpuwatch.faces.tui.paint import Row, cut, padded, paragraph, row
from gpuwatch.texts import show_bytes, show_seconds, visible
from gpuwatch.texts import translate as _


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
