"""What the card itself can do, measured in the same run: the measure for every share of a peak."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu import bench
from benchmarks.gpu.plan import Case

MATRIX = 8192
COPY_BYTES = 2 << 30
_REPEATS = 10


def measure(case: Case) -> dict[str, Any]:
    """Matrix products in every precision, and a copy within the device's memory."""
    device = bench.device_of(case)
    width = MATRIX if device.type == "cuda" else 128
    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    rates = {name: matmul_flop_per_second(device, dtype, width) for name, dtype in dtypes.items()}
    torch.set_float32_matmul_precision("high")
    rates["tf32"] = matmul_flop_per_second(device, torch.float32, width)
    return {
        "matmul_flop_per_second": rates,
        "copy_bytes_per_second": copy_bytes_per_second(device, COPY_BYTES if device.type == "cuda" else 1 << 22),
        "host_to_device_bytes_per_second": _upload(device),
        "matrix_width": width,
    }


def matmul_flop_per_second(device: torch.device, dtype: torch.dtype, width: int = MATRIX) -> float:
    """The best of several square products, a multiply and its add counted as two."""
    left = torch.randn(width, width, device=device).to(dtype)
    out = torch.empty_like(left)
    return 2 * width**3 / _best(lambda: torch.mm(left, left, out=out), device)


def copy_bytes_per_second(device: torch.device, size_bytes: int = COPY_BYTES) -> float:
    """The best of several copies, read and written bytes both counted."""
    source = torch.empty(size_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size_bytes / _best(lambda: target.copy_(source), device)


def _upload(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    source = torch.empty(1 << 28, dtype=torch.uint8, pin_memory=True)
    target = torch.empty_like(source, device=device)
    return source.numel() / _best(lambda: target.copy_(source, non_blocking=True), device)


def _best(do: Any, device: torch.device) -> float:
    for _ in range(3):
        do()
    watch = bench.Stopwatch(device)
    for _ in range(_REPEATS):
        watch.start()
        do()
        watch.stop()
    bench.finish(device)
    return min(watch.seconds())
