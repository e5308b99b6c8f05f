"""The smallest share of the card in which a pass still works, found by halving."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu import bench
from benchmarks.gpu.plan import Case

STEP_BYTES = 2 << 20
"""Large segments are multiples of this, so a finer budget would say no more."""


def measure(case: Case) -> dict[str, Any]:
    """Try budgets between what the tensors need and what the allocator took without a limit."""
    device = bench.device_of(case)
    if device.type == "cpu":
        return {"skipped": "a CPU has no memory limit that torch keeps"}
    works, message = _try(case, device, None)
    free: dict[str, Any] = {
        "works": works,
        "message": message,
        "allocated_bytes": torch.cuda.max_memory_allocated(device),
        "reserved_bytes": torch.cuda.max_memory_reserved(device),
    }
    if not works:
        return {"without_limit": free, "smallest_budget_bytes": None, "tries": []}
    tries: list[dict[str, Any]] = []

    def fits(budget_bytes: int) -> bool:
        works, message = _try(case, device, budget_bytes)
        tries.append({"budget_bytes": budget_bytes, "works": works, "message": message})
        return works

    smallest_bytes = smallest(fits, free["allocated_bytes"] // 2, free["reserved_bytes"])
    return {"without_limit": free, "smallest_budget_bytes": smallest_bytes, "tries": tries}


def smallest(fits: Callable[[int], bool], fails_bytes: int, works_bytes: int) -> int:
    """The least budget that fits, to STEP_BYTES; `works_bytes` is known to fit, `fails_bytes` not to."""
    while works_bytes - fails_bytes > STEP_BYTES:
        budget_bytes = (works_bytes + fails_bytes) // 2
        if fits(budget_bytes):
            works_bytes = budget_bytes
        else:
            fails_bytes = budget_bytes
    return works_bytes


def _try(case: Case, device: torch.device, budget_bytes: int | None) -> tuple[bool, str | None]:
    """Load and run twice within a budget, from an empty allocator."""
    torch.cuda.set_per_process_memory_fraction(
        1.0 if budget_bytes is None else budget_bytes / bench.total_bytes(device), device
    )
    message = None
    network = None
    try:
        network = bench.build(case, device)
        for _ in range(2):
            bench.one_pass(network, bench.photo(case), case, device)
    except RuntimeError as error:
        # Mostly torch.OutOfMemoryError; libraries that get no workspace say it in words of their own.
        message = str(error)
    del network
    gc.collect()
    # The workspace of cuBLAS would stay for the next try; it counts within the budget of this one.
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    return message is None, message
