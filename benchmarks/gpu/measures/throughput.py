"""Images a second from host memory to host memory: the official way, and what each change to it brings.

The official way is one image at a time, fp32, eager, every copy waited for. With `overlap`, copies run on streams of
their own and two batches are under way. Decoding and encoding of files are left out: they run on other cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import bench
from benchmarks.gpu.plan import Case
from gpuwatch_runner.ddcolor import DDColor

_SECONDS = 1.5
_ROUNDS = 3


def measure(case: Case) -> dict[str, Any]:
    """Images a second, and how far the colours are from the official way's."""
    device = bench.device_of(case)
    network = bench.build(case, device)
    expected = _official_colours(case, device)
    if case.channels_last:
        _use_channels_last(network)
    run = _overlapped(network, case, device) if case.overlap else _plain(network, case, device)
    run(3)
    batch_seconds = bench.timed(lambda: run(2), device) / 2
    batches = 2 if device.type == "cpu" else max(4, int(_SECONDS / _ROUNDS / batch_seconds))
    rates = []
    colours = torch.empty(0)
    for _ in range(_ROUNDS):
        started = perf_counter()
        colours = run(batches)
        rates.append(batches * case.batch / (perf_counter() - started))
    difference = (colours[:1] - expected).abs()
    return {
        "images_per_second": sorted(rates)[_ROUNDS // 2],
        "images_per_second_rounds": rates,
        "images": _ROUNDS * batches * case.batch,
        "largest_difference": difference.max().item(),
        "mean_difference": difference.mean().item(),
        "largest_colour": expected.abs().max().item(),
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None,
    }


def _use_channels_last(network: DDColor) -> None:
    """Everything but the last upsampling: folded, it takes its features as views that only the usual order has."""
    for part in (network.encoder, network.decoder.layers, network.decoder.color_decoder):
        part.to(memory_format=torch.channels_last)
    last_block = network.decoder.layers[-1]
    last_block.register_forward_hook(lambda _module, _given, features: features.contiguous())


def _official_colours(case: Case, device: torch.device) -> Tensor:
    """What fp32 and no rewrite make of the first image, from the same weights; they are gone before anything is measured."""
    official = Case("throughput", device=case.device, variant=case.variant, size_px=case.size_px)
    switches = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    bench.device_of(official)
    colours = bench.one_pass(bench.build(official, device), bench.photo(case)[:1], official, device)
    torch.backends.cudnn.benchmark = switches[0]
    torch.set_float32_matmul_precision(switches[1])
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return colours


def _plain(network: DDColor, case: Case, device: torch.device) -> Callable[[int], Tensor]:
    """One batch after the other, each waited for."""
    grey = bench.photo(case)
    if case.graph:
        return _overlapped(network, case, device, slots=1)

    def run(batches: int) -> Tensor:
        for _ in range(batches):
            ab = bench.one_pass(network, grey, case, device)
        return ab

    return run


@dataclass(slots=True)
class _Slot:
    """A batch's place: host memory that the device can copy from and to by itself, and the device's own."""

    host_in: Tensor
    device_in: Tensor
    host_out: Tensor
    uploaded: Any = None
    computed: Any = None
    finished: Any = None
    ab: Tensor | None = None
    replay: Any = None


def _overlapped(network: DDColor, case: Case, device: torch.device, slots: int = 2) -> Callable[[int], Tensor]:
    """Upload, compute and download on three streams, `slots` batches under way."""
    if device.type == "cpu":
        return _plain(network, replace(case, graph=False), device)
    computing = torch.cuda.Stream(device)
    uploading, downloading = torch.cuda.Stream(device), torch.cuda.Stream(device)
    grey = bench.photo(case).to(bench.WEIGHT_DTYPES[case.dtype])
    places = [_slot(grey, device) for _ in range(slots)]

    def compute(place: _Slot) -> Tensor:
        with bench.modes(case, device):
            image = place.device_in.repeat(1, 3, 1, 1)
            if case.channels_last:
                image = image.contiguous(memory_format=torch.channels_last)
            ab: Tensor = network(image).float()
        return ab

    # Weights and places were filled on the default stream, for which the others do not wait.
    torch.cuda.synchronize(device)
    if case.graph:
        _capture(places, compute, computing)

    def run(batches: int) -> Tensor:
        for index in range(batches):
            place = places[index % slots]
            if place.finished is not None:
                place.finished.synchronize()
            with torch.cuda.stream(uploading):
                place.device_in.copy_(place.host_in, non_blocking=True)
                place.uploaded = uploading.record_event()
            with torch.cuda.stream(computing):
                computing.wait_event(place.uploaded)
                if place.replay is not None:
                    place.replay.replay()
                else:
                    place.ab = compute(place)
                place.computed = computing.record_event()
            with torch.cuda.stream(downloading):
                downloading.wait_event(place.computed)
                assert place.ab is not None  # noqa: S101 - set two lines up, or by the capture
                if place.replay is None:
                    # Its memory is of another stream, which must not give it out again before this copy.
                    place.ab.record_stream(downloading)
                place.host_out.copy_(place.ab, non_blocking=True)
                place.finished = downloading.record_event()
        torch.cuda.synchronize(device)
        return places[0].host_out.clone()

    return run


def _slot(grey: Tensor, device: torch.device) -> _Slot:
    batch, _, height, width = grey.shape
    return _Slot(
        host_in=grey.pin_memory(),
        device_in=torch.zeros_like(grey, device=device),
        host_out=torch.empty(batch, 2, height, width, pin_memory=True),
    )


def _capture(places: list[_Slot], compute: Callable[[_Slot], Tensor], stream: Any) -> None:
    """Record the pass of every slot once; a replay costs one launch instead of a thousand."""
    for place in places:
        with torch.cuda.stream(stream):
            for _ in range(3):
                compute(place)
        torch.cuda.synchronize()
        place.replay = torch.cuda.CUDAGraph()
        with torch.cuda.graph(place.replay, stream=stream):
            place.ab = compute(place)
