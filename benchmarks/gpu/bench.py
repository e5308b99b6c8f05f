"""What every measurement shares: the network on its device, one pass of it, and how long it took.

The weights are seeded noise of the right scale, made in place on the device: nothing but the network itself is ever
allocated there, so the first pass finds the allocator as it would after loading a checkpoint.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import quantiles
from time import perf_counter
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.gpu.plan import Case
from gpuwatch_runner.ddcolor import DDColor, Rewrite, Variant

WEIGHT_DTYPES = {"fp32": torch.float32, "amp16": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
WARM_SECONDS = 1.0
FEWEST_PASSES = 5
MOST_PASSES = 40


def device_of(case: Case) -> torch.device:
    """The case's device, with the case's switches set on torch."""
    torch.backends.cudnn.benchmark = case.cudnn_benchmark
    torch.set_float32_matmul_precision("high" if case.tf32 else "highest")
    return torch.device("cuda", 0) if case.device == "cuda" else torch.device("cpu")


def build(case: Case, device: torch.device) -> DDColor:
    """The case's network on `device`, each tensor allocated there once, in the order that loading would."""
    with torch.device("meta"):
        network = DDColor(cast(Variant, case.variant), cast(Rewrite, case.rewrite))
    network.to(WEIGHT_DTYPES[case.dtype]).to_empty(device=device)
    fill(network)
    return network.requires_grad_(requires_grad=case.grad)


@torch.no_grad()
def fill(network: DDColor) -> None:
    """Give every tensor values that keep activations at their scale; the same for a name on every run."""
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    for name, tensor in tensors.items():
        leaf = name.rpartition(".")[2]
        if not tensor.is_floating_point():
            tensor.zero_()
        elif tensor.dim() > 1 and leaf not in ("mean", "std"):
            bound = math.sqrt(3 / math.prod(tensor.shape[1:]))
            generator = torch.Generator(tensor.device).manual_seed(zlib.crc32(name.removesuffix("_orig").encode()))
            tensor.uniform_(-bound, bound, generator=generator)
        else:
            tensor.fill_({"gamma": 0.2, "weight": 1.0, "running_var": 1.0, "std": 0.225, "mean": 0.45}.get(leaf, 0.0))


def photo(case: Case) -> Tensor:
    """A batch of greys (B, 1, S, S) in 0..1 on the host, the same on every run."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(case.batch, 1, case.size_px, case.size_px, generator=generator)


def modes(case: Case, device: torch.device) -> AbstractContextManager[Any]:
    """What a pass of this case runs under: gradients or not, autocast or not."""

    @contextmanager
    def entered() -> Iterator[None]:
        gradients: AbstractContextManager[Any] = torch.enable_grad() if case.grad else torch.inference_mode()
        precision = torch.autocast(device.type, torch.float16) if case.dtype == "amp16" else nullcontext()
        with gradients, precision:
            yield

    return entered()


class Stopwatch:
    """Seconds between two points of the device's work: CUDA events there, the clock on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._starts: list[Any] = []
        self._stops: list[Any] = []

    def start(self) -> None:
        """The span begins with the work that is queued next."""
        self._starts.append(self._mark())

    def stop(self) -> None:
        """The span ends with the work that was queued last."""
        self._stops.append(self._mark())

    def _mark(self) -> Any:
        if not self._on_cuda:
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> list[float]:
        """Every span; the device must have come to its end."""
        if self._on_cuda:
            return [start.elapsed_time(stop) / 1e3 for start, stop in zip(self._starts, self._stops, strict=True)]
        return [stop - start for start, stop in zip(self._starts, self._stops, strict=True)]


def one_pass(
    network: DDColor, grey: Tensor, case: Case, device: torch.device, watch: Stopwatch | None = None
) -> Tensor:
    """From greys in host memory to ab in host memory, step by step as the runner's inference does."""
    with modes(case, device):
        image = grey.to(device, WEIGHT_DTYPES[case.dtype]).repeat(1, 3, 1, 1)
        if watch:
            watch.start()
        ab = network(image)
        if watch:
            watch.stop()
        return cast(Tensor, ab.detach().float().cpu())


def finish(device: torch.device) -> None:
    """Wait until the device has done what was queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(do: Callable[[], object], device: torch.device) -> float:
    """Wall seconds of `do`, the device's work included."""
    finish(device)
    started = perf_counter()
    do()
    finish(device)
    return perf_counter() - started


def passes_for(seconds: float) -> int:
    """How many passes of so many seconds make a sample worth a p95, within the time for one case."""
    return max(FEWEST_PASSES, min(MOST_PASSES, int(WARM_SECONDS / seconds)))


def spread(seconds: list[float]) -> dict[str, float | int]:
    """p50, p95, least and most of a sample, and its size."""
    cuts = quantiles(seconds, n=20, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 19
    return {"p50": cuts[9], "p95": cuts[18], "min": min(seconds), "max": max(seconds), "passes": len(seconds)}


def total_bytes(device: torch.device) -> int:
    """The card's memory, as torch counts it for its fraction."""
    return int(torch.cuda.get_device_properties(device).total_memory)
