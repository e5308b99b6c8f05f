"""Memory and time of passes: the first, and the later ones."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.gpu import bench
from benchmarks.gpu.driver import clocks, used_bytes_by_uuid
from benchmarks.gpu.plan import Case
from benchmarks.live import LiveBytes, tensors_of

_STATISTICS = {
    "peak_requested_bytes": "requested_bytes.all.peak",
    "peak_inactive_split_bytes": "inactive_split_bytes.all.peak",
    "segments": "segment.all.current",
    "alloc_retries": "num_alloc_retries",
}
"""What is kept of torch's memory_stats; `requested` is what tensors asked for, before rounding."""


class DeviceMemory:
    """Looks at the allocator and the driver at the same moments. Make it before CUDA starts: it counts from then."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = used_bytes_by_uuid() if device.type == "cuda" else {}
        self._uuid: str | None = None

    def start(self) -> dict[str, int | None]:
        """Bring CUDA up and nothing else; gives what that took."""
        torch.cuda.init()
        torch.cuda.synchronize(self._device)
        uuid = f"GPU-{torch.cuda.get_device_properties(self._device).uuid}"
        self._uuid = uuid if uuid in self._before else None
        return self.look()

    def look(self) -> dict[str, int | None]:
        """The allocator's numbers since the last look, and the device's since before CUDA."""
        statistics = torch.cuda.memory_stats(self._device)
        free_bytes, total_bytes = torch.cuda.mem_get_info(self._device)
        seen: dict[str, int | None] = {
            "allocated_bytes": torch.cuda.memory_allocated(self._device),
            "reserved_bytes": torch.cuda.memory_reserved(self._device),
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(self._device),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(self._device),
            "device_delta_bytes": self._delta(),
            "device_used_bytes": total_bytes - free_bytes,
            **{name: statistics.get(key) for name, key in _STATISTICS.items()},
        }
        torch.cuda.reset_peak_memory_stats(self._device)
        return seen

    def _delta(self) -> int | None:
        if self._uuid is None:
            return None
        return used_bytes_by_uuid().get(self._uuid, 0) - self._before[self._uuid]

    def clocks(self) -> dict[str, int | None] | None:
        """The card's clocks now; None where the driver does not know the card by its UUID."""
        return None if self._uuid is None else clocks(self._uuid)


def measure(case: Case) -> dict[str, Any]:
    """One first pass and some later ones, and what memory held at each point."""
    device = bench.device_of(case)
    return _on_cpu(case, device) if device.type == "cpu" else _on_cuda(case, device)


def _on_cuda(case: Case, device: torch.device) -> dict[str, Any]:
    memory = DeviceMemory(device)
    stations = {"context": memory.start()}
    network = bench.build(case, device)
    bench.finish(device)
    stations["weights"] = memory.look()
    grey = bench.photo(case)
    cold_seconds = bench.timed(lambda: bench.one_pass(network, grey, case, device), device)
    stations["first"] = memory.look()
    second_seconds = bench.timed(lambda: bench.one_pass(network, grey, case, device), device)
    stations["second"] = memory.look()
    watch = bench.Stopwatch(device)
    wall = [
        bench.timed(lambda: bench.one_pass(network, grey, case, device, watch), device)
        for _ in range(bench.passes_for(second_seconds))
    ]
    stations["later"] = memory.look()
    warm = bench.spread(watch.seconds())
    last, context = stations["later"], stations["context"]
    return {
        "stations": stations,
        "context_bytes": context["device_delta_bytes"],
        "beside_allocator_bytes": _difference(last["device_delta_bytes"], last["reserved_bytes"]),
        "cold_seconds": cold_seconds,
        "warm_network_seconds": warm,
        "warm_wall_seconds": bench.spread(wall),
        "images_per_second": case.batch / warm["p50"],
        "allocator_backend": torch.cuda.get_allocator_backend(),
        "allocator_settings": _settings(),
        "clocks": memory.clocks(),
    }


def _difference(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else whole - part


def _settings() -> dict[str, Any] | None:
    """What the allocator says its settings are; the cudaMallocAsync one has no snapshot."""
    if torch.cuda.get_allocator_backend() != "native":
        return None
    settings = torch.cuda.memory._snapshot().get("allocator_settings")
    return settings if isinstance(settings, dict) else None


def _on_cpu(case: Case, device: torch.device) -> dict[str, Any]:
    network = bench.build(case, device)
    grey = bench.photo(case)
    with LiveBytes(tensors_of(network)) as live:
        bench.one_pass(network, grey, case, device)
    watch = bench.Stopwatch(device)
    bench.one_pass(network, grey, case, device, watch)
    return {"peak_live_bytes": live.peak_bytes, "warm_network_seconds": bench.spread(watch.seconds())}
