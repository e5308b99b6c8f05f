"""Traces as files: gzipped JSON, the same bytes from the same trace."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from gpuwatch.core.memory.trace import Trace


def file_name(trace: Trace) -> str:
    """`large-fp32-none-one.json.gz`: variant, dtype, rewrite, gradients where they are on, batch class."""
    name = trace.name
    parts = [
        name["variant"],
        name["dtype"],
        name["rewrite"],
        *(["grad"] if name["grad"] == "on" else []),
        name["batch"],
    ]
    return "-".join(parts) + ".json.gz"


def packed(trace: Trace) -> bytes:
    """The trace as its file holds it."""
    words = json.dumps(trace.as_json(), separators=(",", ":"))
    return gzip.compress(words.encode(), compresslevel=9, mtime=0)


def write_trace_file(trace: Trace, folder: Path) -> Path:
    """Write the trace whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(trace)
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(packed(trace))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
