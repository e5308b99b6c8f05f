"""Traces and snapshots as JSON for programs."""

from __future__ import annotations

from typing import Any

from gpuwatch.adapters.traces.reading import Read
from gpuwatch.core.traces.allocator import DeviceMemory
from gpuwatch.core.traces.compare import Change, Comparison
from gpuwatch.core.traces.holders import HeldBy
from gpuwatch.core.traces.memory import MemoryPeak
from gpuwatch.core.traces.snapshot import Frame
from gpuwatch.core.traces.summary import Row, Summary
from gpuwatch.texts import render


def file_json(read: Read) -> dict[str, Any]:
    """The file, and whether it was read whole."""
    return {
        "file": str(read.path),
        "bytes": read.size_bytes,
        "damage": render(read.damage.message) if read.damage else None,
    }


def summary_json(read: Read, summary: Summary, top: int) -> dict[str, Any]:
    """A summary as `trace summary --json` gives it. Times are seconds, counted from the window's begin."""
    return {
        **file_json(read),
        "events": summary.events,
        "spans": summary.spans,
        "unusable": summary.unusable,
        "left_out": summary.left_out,
        "steps": summary.steps,
        "window_seconds": summary.window_seconds,
        "gpu": summary.has_gpu,
        "idle": [
            {
                "device": idle.device,
                "busy_seconds": idle.busy_seconds,
                "idle_ratio": idle.ratio,
                "gaps": [{"at_seconds": at, "seconds": length} for at, length in idle.gaps],
            }
            for idle in summary.idle
        ],
        "stages": [
            {
                "name": stage.name,
                "count": stage.count,
                "host_seconds": stage.host_seconds,
                "gpu_seconds": stage.gpu_seconds,
                "peak_bytes": stage.peak_bytes,
            }
            for stage in summary.stages
        ],
        "kinds": [row_json(row) for row in summary.kinds],
        "kernels": [row_json(row) for row in summary.kernels[:top]],
        "operators": [row_json(row) for row in summary.operators[:top]],
        "copies": [
            {
                "direction": copied.direction,
                "count": copied.count,
                "bytes": copied.size_bytes,
                "seconds": copied.seconds,
            }
            for copied in summary.copies
        ],
        "memory": [memory_json(peak, summary) for peak in summary.memory],
        "counters": [
            {"name": each.name, "samples": each.samples, "low": each.low, "mean": each.mean, "high": each.high}
            for each in summary.counters
        ],
    }


def row_json(row: Row) -> dict[str, Any]:
    """Spans of one name, or of one kind."""
    return {
        "name": row.name or None,
        "kind": row.kind,
        "count": row.count,
        "total_seconds": row.total_seconds,
        "self_seconds": row.own_seconds,
        "longest_seconds": row.longest_seconds,
    }


def memory_json(peak: MemoryPeak, summary: Summary) -> dict[str, Any]:
    """A device's memory over a trace."""
    return {
        "device": peak.device,
        "instants": peak.instants,
        "peak_bytes": peak.peak_bytes,
        "peak_seconds": summary.seconds_at(peak.peak_time),
        "begin_bytes": peak.begin_bytes,
        "end_bytes": peak.end_bytes,
        "most_reserved_bytes": peak.most_reserved_bytes or None,
        "timeline_bytes": list(peak.timeline_bytes),
    }


def comparison_json(comparison: Comparison, top: int) -> dict[str, Any]:
    """Two traces compared. Times are a step's where `by_step` is true."""
    return {
        "by_step": comparison.by_step,
        "window": change_json(comparison.window),
        "stages": [change_json(change) for change in comparison.stages],
        "kernels": [change_json(change) for change in comparison.kernels[:top]],
        "operators": [change_json(change) for change in comparison.operators[:top]],
    }


def change_json(change: Change) -> dict[str, Any]:
    """One name in both; null where a trace has it not."""
    return {
        "name": change.name or None,
        "first_seconds": change.first_seconds,
        "second_seconds": change.second_seconds,
        "delta_seconds": change.delta_seconds,
        "times": change.times,
        "first_count": change.first_count,
        "second_count": change.second_count,
    }


def held_json(peak: MemoryPeak, summary: Summary, held: list[HeldBy], top: int) -> dict[str, Any]:
    """A device's memory over a trace, with who held it."""
    return {
        **memory_json(peak, summary),
        "earlier_bytes": peak.earlier_bytes,
        "holders": [
            {"operator": each.operator, "stage": each.stage, "bytes": each.size_bytes, "count": each.count}
            for each in held[:top]
        ],
    }


def device_json(device: DeviceMemory, top: int) -> dict[str, Any]:
    """A device's story from a snapshot."""
    fragments = device.fragments
    return {
        "device": f"cuda:{device.device}",
        "actions": device.actions,
        "peak_bytes": device.peak_bytes,
        "peak_rounded_bytes": device.peak_rounded_bytes,
        "peak_action": device.peak_action,
        "peak_seconds": device.peak_seconds,
        "reserved_at_peak_bytes": device.reserved_at_peak_bytes,
        "most_reserved_bytes": device.most_reserved_bytes,
        "earlier_bytes": device.earlier_bytes,
        "holders": [
            {
                "bytes": held.size_bytes,
                "count": held.count,
                "recorded": held.recorded,
                "stack": [frame_json(frame) for frame in held.stack],
            }
            for held in device.holders[:top]
        ],
        "refusals": [
            {
                "asked_bytes": refusal.asked_bytes,
                "device_free_bytes": refusal.device_free_bytes,
                "allocated_bytes": refusal.allocated_bytes,
                "reserved_bytes": refusal.reserved_bytes,
                "seconds": refusal.seconds,
                "stack": [frame_json(frame) for frame in refusal.stack],
            }
            for refusal in device.refusals[:top]
        ],
        "refusals_count": device.refusals_count,
        "fragments": {
            "segments": fragments.segments,
            "reserved_bytes": fragments.reserved_bytes,
            "allocated_bytes": fragments.allocated_bytes,
            "requested_bytes": fragments.requested_bytes,
            "pending_bytes": fragments.pending_bytes,
            "free_bytes": fragments.free_bytes,
            "largest_free_bytes": fragments.largest_free_bytes,
            "inactive_split_bytes": fragments.inactive_split_bytes,
            "releasable_bytes": fragments.releasable_bytes,
        },
        "segments": [
            {
                "kind": row.kind,
                "size_bytes": row.size_bytes,
                "count": row.count,
                "allocated_bytes": row.allocated_bytes,
                "free_bytes": row.free_bytes,
                "largest_free_bytes": row.largest_free_bytes,
            }
            for row in device.segments[:top]
        ],
        "timeline_bytes": list(device.timeline_bytes),
    }


def frame_json(frame: Frame) -> dict[str, Any]:
    """A place in a program."""
    return {"function": frame.function, "file": frame.file, "line": frame.line}
