"""The profiler's file, finished: samples put in as counters on the trace's own clock, packed, under its name.

The file is copied in pieces, never held as a whole. The trace's clock is found by what is in both: each stage's begin, noted
with the system's clock and written by the profiler with its own.
"""

from __future__ import annotations

import gzip
import json
import mmap
import os
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from gpuwatch_runner.sampling import Sample

_PIECE_BYTES = 1 << 20
_EVENTS = re.compile(rb'"traceEvents"\s*:\s*\[')
_BASE = re.compile(rb'"baseTimeNanoseconds"\s*:\s*(\d+)')
_STAGE = re.compile(
    rb'"cat"\s*:\s*"user_annotation"\s*,\s*"name"\s*:\s*"([a-z_]+)"\s*,\s*"pid"\s*:[^,]*,\s*"tid"\s*:[^,]*,\s*"ts"\s*:\s*([\d.]+)'
)
_TAIL_BYTES = 1 << 16


def finish_trace(raw: Path, trace: Path, samples: Sequence[Sample], began: Sequence[tuple[str, int]]) -> int:
    """Pack the profiler's file `raw` into `trace` with the samples in it; gives how many went in.

    `began` are the stages in the order they began, each with the system's nanoseconds then.
    """
    partial = trace.with_name(f".{trace.name}.part")
    try:
        with raw.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
            offset_ns = clock_offset_ns(content, began)
            found = _EVENTS.search(content)
            split = found.end() if found else 0
            counters = [] if offset_ns is None or found is None else counter_events(samples, offset_ns)
            tail = max(len(content) - _TAIL_BYTES, split)
            with partial.open("wb") as packed:
                with gzip.GzipFile(trace.name, "wb", compresslevel=6, fileobj=packed, mtime=0) as out:
                    out.write(content[:split])
                    for event in counters:
                        out.write(b"\n  " + event + b",")
                    for at in range(split, tail, _PIECE_BYTES):
                        out.write(content[at : min(at + _PIECE_BYTES, tail)])
                    # the profiler names its own, passing file in the last line
                    out.write(content[tail:].replace(raw.name.encode(), trace.name.encode()))
                packed.flush()
                os.fsync(packed.fileno())
        partial.replace(trace)
        return len(samples) if counters else 0
    finally:
        partial.unlink(missing_ok=True)


def clock_offset_ns(content: bytes | mmap.mmap, began: Sequence[tuple[str, int]]) -> int | None:
    """What to take from the system's nanoseconds to have the trace's; None where the trace has nothing to tell it by."""
    noted = list(began)
    names = {name for name, _ns in noted}
    written = sorted(
        (float(found[2]), name) for found in _STAGE.finditer(content) if (name := found[1].decode()) in names
    )
    if noted and [name for _ts, name in written] == [name for name, _ns in noted]:
        return round(median(ns - ts * 1000 for (ts, _name), (_same, ns) in zip(written, noted, strict=True)))
    base = _BASE.search(content)
    return int(base[1]) if base else None


def counter_events(samples: Sequence[Sample], offset_ns: int) -> list[bytes]:
    """Samples as counter events, a series a counter, so that Perfetto draws each on its own scale."""
    process = os.getpid()
    return [
        json.dumps(
            {
                "ph": "C",
                "name": name,
                "pid": process,
                "tid": 0,
                "ts": round((sample.unix_ns - offset_ns) / 1000, 3),
                "args": {"value": round(value, 3)},
            }
        ).encode()
        for sample in samples
        for name, value in sample.values.items()
    ]
