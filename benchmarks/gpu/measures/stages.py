"""Where a pass's time goes: by stage, by kernel, and as a share of what the card can do.

Operations and bytes of a stage are arithmetic, counted on the meta device; times and peaks are measured. Bytes are what
eager execution must move, every operator's tensors once, so a stage near its share of the copy peak can only gain from
operators that are joined or left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import bench
from benchmarks.gpu.measures.peaks import COPY_BYTES, MATRIX, copy_bytes_per_second, matmul_flop_per_second
from benchmarks.gpu.plan import Case
from benchmarks.live import Traffic
from gpuwatch_runner.ddcolor import DDColor, Rewrite, Variant

_KERNELS_KEPT = 15
_PRODUCT_DTYPES = {"fp32": torch.float32, "amp16": torch.float16, "fp16": torch.float16, "bf16": torch.bfloat16}


def measure(case: Case) -> dict[str, Any]:
    """Time each stage with events, then record one pass with the profiler."""
    device = bench.device_of(case)
    network_seconds, stage_seconds, kernels = _times(case, device)
    on_cuda = device.type == "cuda"
    flop_peak = matmul_flop_per_second(device, _PRODUCT_DTYPES[case.dtype], MATRIX if on_cuda else 128)
    copy_peak = copy_bytes_per_second(device, COPY_BYTES if on_cuda else 1 << 22)
    costs = cost_of_stages(case)
    return {
        "network_seconds": network_seconds,
        "matmul_flop_per_second": flop_peak,
        "copy_bytes_per_second": copy_peak,
        "stages": {name: _row(seconds, *costs[name], flop_peak, copy_peak) for name, seconds in stage_seconds.items()},
        "kernels": kernels,
    }


def _times(
    case: Case, device: torch.device
) -> tuple[dict[str, float | int], dict[str, dict[str, float | int]], list[dict[str, Any]]]:
    """The whole pass, each stage, and the kernels; the network is gone afterwards."""
    network = bench.build(case, device)
    grey = bench.photo(case)
    bench.one_pass(network, grey, case, device)
    second_seconds = bench.timed(lambda: bench.one_pass(network, grey, case, device), device)
    whole = bench.Stopwatch(device)
    stages: defaultdict[str, bench.Stopwatch] = defaultdict(lambda: bench.Stopwatch(device))
    network.mark = _timing(stages)
    for _ in range(bench.passes_for(second_seconds)):
        bench.one_pass(network, grey, case, device, whole)
    bench.finish(device)
    by_stage = {name: bench.spread(watch.seconds()) for name, watch in stages.items()}
    return bench.spread(whole.seconds()), by_stage, _kernels(network, grey, case, device)


def _row(
    seconds: dict[str, float | int], flop: float, moved_bytes: int, flop_peak: float, copy_peak: float
) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "flop": flop,
        "eager_bytes": moved_bytes,
        "share_of_matmul_peak_ratio": flop / seconds["p50"] / flop_peak,
        "share_of_copy_peak_ratio": moved_bytes / seconds["p50"] / copy_peak,
    }


def _timing(stages: defaultdict[str, bench.Stopwatch]) -> Callable[[str], AbstractContextManager[None]]:
    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        stages[stage].start()
        yield
        stages[stage].stop()

    return timed


def cost_of_stages(case: Case) -> dict[str, tuple[float, int]]:
    """Operations and bytes of each stage, without computing anything."""
    with torch.device("meta"):
        network = DDColor(cast(Variant, case.variant), cast(Rewrite, case.rewrite))
        network.to(bench.WEIGHT_DTYPES[case.dtype]).requires_grad_(requires_grad=False)
        image = torch.empty(case.batch, 3, case.size_px, case.size_px, dtype=bench.WEIGHT_DTYPES[case.dtype])
    costs: dict[str, tuple[float, int]] = {}
    counter, traffic = FlopCounterMode(display=False), Traffic()

    @contextmanager
    def counted(stage: str) -> Iterator[None]:
        flop, moved = counter.get_total_flops(), traffic.moved_bytes
        yield
        costs[stage] = counter.get_total_flops() - flop, traffic.moved_bytes - moved

    network.mark = counted
    with torch.inference_mode(), traffic, counter:
        network(image)
    return costs


def _kernels(network: DDColor, grey: Tensor, case: Case, device: torch.device) -> list[dict[str, Any]]:
    """The kernels (on a CPU: operators) that took most of one pass."""
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    network.mark = record_function
    with profile(activities=activities) as profiler:
        bench.one_pass(network, grey, case, device)
        bench.finish(device)
    rows = [
        {
            "name": event.key,
            "calls": event.count,
            "seconds": (event.self_device_time_total if on_cuda else event.self_cpu_time_total) / 1e6,
        }
        for event in profiler.key_averages()
        # Operators and stages have their kernels' time too; on a GPU only the kernels themselves are listed.
        if not on_cuda or (event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False))
    ]
    return sorted(rows, key=lambda row: -cast(float, row["seconds"]))[:_KERNELS_KEPT]
