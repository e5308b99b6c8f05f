"""The report of `gpuwatch run` as a page, and what was predicted for such a run, as JSON too.

What was not measured is left out. The numbers are the runner's own (`adapters/runner_process.py`); nothing is computed here
but the prediction.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.workload import Need, predict
from gpuwatch.faces.report import console_for
from gpuwatch.texts import Text, render, text, visible


def predicted_need(report: Mapping[str, Any]) -> Need | None:
    """What was predicted for such a run; None where no trace of it is shipped."""
    profile = load_workloads().named("ddcolor")
    size, batch = report.get("size"), report.get("batch")
    if profile is None or not isinstance(size, int) or not isinstance(batch, int) or size < 1 or batch < 1:
        return None
    words = {name: str(report.get(name)) for name in ("variant", "dtype", "rewrite")}
    try:
        return predict(profile, words["variant"], size, words["dtype"], rewrite=words["rewrite"], batch=batch)
    except KeyError:
        return None


def predicted_json(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The prediction as JSON."""
    need = predicted_need(report)
    if need is None:
        return None
    bands = {"reserved_bytes": need.reserved_bytes, "process_bytes": need.process_bytes}
    return {
        "live_bytes": need.live_bytes,
        "allocated_bytes": need.allocated_bytes,
        **{name: {"low": round(b.low), "mid": round(b.mid), "high": round(b.high)} for name, b in bands.items()},
        "source": "predicted",
    }


def print_report(report: Mapping[str, Any]) -> None:
    """The report for a person."""
    console = console_for(sys.stdout)
    for line in report_lines(report):
        console.print(visible(render(line)), soft_wrap=True)


def report_lines(report: Mapping[str, Any]) -> list[Text]:
    """The report as sentences; what was not measured is left out."""
    warm = report.get("warm_seconds") or {}
    need = predicted_need(report)
    lines = [
        text(
            "DDColor {variant}, {dtype}, rewrite {rewrite}, size {size} on {device}: {images} done, {failures} failed.",
            **{name: report.get(name) for name in ("variant", "dtype", "rewrite", "size", "device", "images")},
            failures=len(report.get("failed") or ()),
        ),
    ]
    lines += batch_lines(report)
    if not report.get("images"):
        return lines
    lines += [
        text(
            "Loading took {load_seconds}, the first pass {first_seconds}, a warm one {p50_seconds} (p95 {p95_seconds}).",
            load_seconds=report.get("load_seconds"),
            first_seconds=report.get("first_seconds"),
            p50_seconds=warm.get("p50"),
            p95_seconds=warm.get("p95"),
        ),
    ]
    if report.get("peak_allocated_bytes") is not None:
        names = ("peak_allocated_bytes", "peak_reserved_bytes", "peak_device_bytes")
        lines.append(
            text(
                "Peak on the GPU: {peak_allocated_bytes} allocated, {peak_reserved_bytes} reserved, {peak_device_bytes} in all.",
                **{name: report.get(name) for name in names},
            )
        )
    else:
        lines.append(text("No CUDA device: GPU memory was not measured."))
    lines.append(
        text(
            "Host memory {host_rss_bytes}; {gflop} GFLOP and {tokens} visual tokens a photo.",
            host_rss_bytes=report.get("host_rss_bytes"),
            gflop=f"{float(report.get('gflop_per_image') or 0):.1f}",
            tokens=report.get("tokens_per_image"),
        )
    )
    if need is not None:
        process = need.process_bytes
        lines.append(
            text(
                "Predicted on a GPU: {allocated_bytes} allocated, {low_bytes} to {high_bytes} in the process.",
                allocated_bytes=need.allocated_bytes,
                low_bytes=process.low,
                high_bytes=process.high,
            )
        )
    if report.get("weights") == "random":
        lines.append(
            text("The weights are random: times and memory are true, the colours mean nothing without --checkpoint.")
        )
    lines += profiling_lines(report)
    return lines


def profiling_lines(report: Mapping[str, Any]) -> list[Text]:
    """What profiling cost, what it made, and what reads it."""
    lines: list[Text] = []
    if profiling := report.get("profiling"):
        lines.append(
            text(
                "A profiled pass took {profiled_seconds}, one without {plain_seconds} ({overhead}; {passes} of each).",
                profiled_seconds=profiling.get("profiled_seconds"),
                plain_seconds=profiling.get("plain_seconds"),
                overhead=f"{100 * float(profiling.get('overhead_ratio') or 0):+.0f} %",
                passes=profiling.get("passes"),
            )
        )
    for file in report.get("trace_files") or ():
        if str(file).endswith(".pickle"):
            lines.append(text("Memory snapshot: {file} (read it with gpuwatch trace memory)", file=file))
        else:
            lines.append(
                text(
                    "Trace: {file} (read it with gpuwatch trace summary, open it at https://ui.perfetto.dev)", file=file
                )
            )
    return lines


def batch_lines(report: Mapping[str, Any]) -> list[Text]:
    """What was skipped, what was done smaller than asked, where it is written, and how far it is from fp32."""
    lines: list[Text] = []
    if report.get("skipped"):
        lines.append(text("{count} were done before and are skipped.", count=report["skipped"]))
    degraded = report.get("degraded") or ()
    if degraded:
        smallest = min(int(each.get("size") or 0) for each in degraded)
        lines.append(
            text(
                "Memory ran out: {count} were done with less than was asked for, down to {size_px}; the manifest says which.",
                count=len(degraded),
                size_px=smallest,
            )
        )
    if report.get("manifest") and report.get("images_per_second"):
        rate = f"{float(report['images_per_second']):.3g}"
        lines.append(text("{rate} photos/s; manifest: {file}", rate=rate, file=report["manifest"]))
    compared = report.get("against_fp32")
    if compared:
        lines.append(
            text(
                "Against fp32, over {count} photos: ab differs by {mean_ab} on average, {largest_ab} at most.",
                count=compared.get("images"),
                **{name: shown(compared.get(name)) for name in ("mean_ab", "largest_ab")},
            )
        )
    return lines


def shown(number: float | None) -> str:
    """A measured number in three digits."""
    return "?" if number is None else f"{number:.3g}"
