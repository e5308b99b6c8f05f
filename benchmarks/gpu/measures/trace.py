"""What the caching allocator did, event by event: `benchmarks/gpu/replay.py` runs it through the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import bench
from benchmarks.gpu.plan import Case

MOST_EVENTS = 400_000


def measure(case: Case) -> dict[str, Any]:
    """Record loading, a first and a second pass."""
    device = bench.device_of(case)
    if device.type == "cpu":
        return {"skipped": "the CPU's allocator keeps no history"}
    # Only devices that are up record a history.
    torch.cuda.init()
    torch.cuda.synchronize(device)
    torch.cuda.memory._record_memory_history("all", context="alloc", stacks="python", max_entries=MOST_EVENTS)
    marks: dict[str, int] = {}
    network = bench.build(case, device)
    marks["weights"] = _events_so_far()
    grey = bench.photo(case)
    for name in ("first", "second"):
        bench.one_pass(network, grey, case, device)
        bench.finish(device)
        marks[name] = _events_so_far()
    snapshot = torch.cuda.memory._snapshot()
    torch.cuda.memory._record_memory_history(None)
    return {
        "marks": marks,
        "allocated_bytes": torch.cuda.memory_allocated(device),
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device),
        "events": {"case": case.as_json(), "marks": marks, **compact(snapshot)},
    }


def _events_so_far() -> int:
    return sum(len(events) for events in torch.cuda.memory._snapshot()["device_traces"])


def compact(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """A snapshot as short lists: events [action, address, bytes, microseconds since the first, place] and segments.

    Actions are torch's own: alloc, free_requested, free_completed, segment_alloc, segment_free, segment_map,
    segment_unmap, oom, snapshot. Addresses are numbered from the lowest, places are indices into `places`.
    """
    events = [event for events in snapshot["device_traces"] for event in events]
    places: dict[str, int] = {}
    first_us = min((event.get("time_us", 0) for event in events), default=0)
    # An oom has no address, a snapshot (every look at the history is an event too) has 0.
    lowest = min((event["addr"] for event in events if event.get("addr")), default=0)
    rows = [
        [
            event["action"],
            event["addr"] - lowest if event.get("addr") else None,
            event["size"],
            event.get("time_us", first_us) - first_us,
            places.setdefault(_place(event.get("frames", ())), len(places)),
        ]
        for event in events
    ]
    segments = [
        {
            "address": segment["address"] - lowest,
            "bytes": segment["total_size"],
            "pool": segment["segment_type"],
            "blocks": [[block["size"], block["state"]] for block in segment["blocks"]],
        }
        for segment in snapshot["segments"]
    ]
    return {
        "columns": ["action", "address", "bytes", "us", "place"],
        "events": rows,
        "places": list(places),
        "segments": segments,
    }


def _place(frames: Sequence[Mapping[str, Any]]) -> str:
    """The innermost frame in the network's own code, else the innermost of all: `module.py:line function`."""
    own = [frame for frame in frames if "gpuwatch_runner" in frame["filename"] or "benchmarks" in frame["filename"]]
    chosen = next(iter(own or frames), None)
    return f"{Path(chosen['filename']).name}:{chosen['line']} {chosen['name']}" if chosen else ""
