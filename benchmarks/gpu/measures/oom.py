"""The words that torch really says when memory runs out: by its own limit, or because a neighbour has the card."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import bench
from benchmarks.gpu.plan import Case

_ROOT = Path(__file__).parents[3]
_NEIGHBOUR = """
import sys, torch
free, total = torch.cuda.mem_get_info()
held = torch.empty(max(0, free - int(sys.argv[1])), dtype=torch.uint8, device="cuda")
print("holds", held.numel(), flush=True)
sys.stdin.read()
"""


def measure(case: Case) -> dict[str, Any]:
    """Run what cannot fit and keep the error, word for word."""
    device = bench.device_of(case)
    if device.type == "cpu":
        return {"skipped": "a CPU has no memory limit that torch keeps"}
    with _neighbour(case.leave_bytes) as neighbour_bytes:
        if case.limit_bytes is not None:
            torch.cuda.set_per_process_memory_fraction(case.limit_bytes / bench.total_bytes(device), device)
        found: dict[str, Any] = {
            "total_bytes": bench.total_bytes(device),
            "neighbour_bytes": neighbour_bytes,
            "allocator_backend": torch.cuda.get_allocator_backend(),
            "raised": None,
        }
        try:
            network = bench.build(case, device)
            bench.one_pass(network, bench.photo(case), case, device)
            bench.finish(device)
        except Exception as error:  # noqa: BLE001 - whatever it is, its words are what is measured
            found |= {
                "raised": f"{type(error).__module__}.{type(error).__qualname__}",
                "message": str(error),
                "traceback": "".join(traceback.format_exception(error)).replace(f"{_ROOT}/", ""),
                "allocated_bytes": torch.cuda.memory_allocated(device),
                "reserved_bytes": torch.cuda.memory_reserved(device),
                "peak_allocated_bytes": torch.cuda.max_memory_allocated(device),
            }
        return found


@contextmanager
def _neighbour(leave_bytes: int | None) -> Iterator[int | None]:
    """A second process that holds the card's memory but for `leave_bytes`; gives how much it holds."""
    if leave_bytes is None:
        yield None
        return
    with subprocess.Popen(
        [sys.executable, "-c", _NEIGHBOUR, str(leave_bytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            words = child.stdout.readline().split() if child.stdout else []
            yield int(words[1]) if len(words) == 2 else None
        finally:
            child.kill()
