"""The device a job runs on: which it is, its memory limit, and how much memory the job took.

On a CPU there is nothing to say about device memory, and `None` says so.
"""

from __future__ import annotations

import resource
import sys
from typing import NoReturn

import pynvml
import torch

from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, plain, text


def choose(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` means here; UsageError where there is no such device."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        _refuse(name)
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        _refuse(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= count:
        build = torch.version.cuda or "CPU"
        raise UsageError(
            text("There is no device {name}: torch {version} ({build}) sees {count} CUDA devices",
                 name=name, version=torch.__version__, build=plain(build), count=count),
            text("Use --device auto or --device cpu"),
        )  # fmt: skip
    return torch.device("cuda", index)


def _refuse(name: str) -> NoReturn:
    raise UsageError(text("{name} is not a device; use auto, cpu, cuda or cuda:0", name=name))


def limit_memory(device: torch.device, limit_bytes: int) -> Text:
    """Hold torch's allocator on `device` to `limit_bytes`; gives what to tell the person."""
    if device.type != "cuda":
        return text("--memory-limit has no effect on the CPU: it is the CUDA allocator that keeps it")
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total_bytes), device)
    return text(
        "torch may allocate {limit_bytes} of {total_bytes}; the CUDA context comes on top",
        limit_bytes=min(limit_bytes, total_bytes),
        total_bytes=total_bytes,
    )


def choose_tf32(*, on: bool) -> None:
    """Let float32 convolutions and matrix products on CUDA use 19-bit TF32, or not; torch's own choice is the first alone."""
    torch.backends.cuda.matmul.allow_tf32 = on
    torch.backends.cudnn.allow_tf32 = on


class MemoryWatch:
    """Measures what a job takes of its device. Make it before anything is put there: it counts from then."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # By UUID, of every device: which of them torch means is only known once CUDA is up, and that takes memory.
        self._before_bytes = _used_by_uuid() if device.type == "cuda" else {}
        self._peak_bytes = 0
        self._reserved_bytes = -1

    def look(self) -> None:
        """Take a sample. torch's allocator keeps what it has had, so one after a pass sees that pass's peak."""
        if not self._before_bytes:
            return
        reserved_bytes = torch.cuda.memory_reserved(self._device)
        if reserved_bytes > self._reserved_bytes:
            # Asking the driver takes milliseconds, and what it says rises when the allocator's own count does.
            self._reserved_bytes = reserved_bytes
            uuid = f"GPU-{torch.cuda.get_device_properties(self._device).uuid}"
            used_bytes = _used_by_uuid().get(uuid, 0)
            self._peak_bytes = max(self._peak_bytes, used_bytes - self._before_bytes.get(uuid, used_bytes))

    @property
    def device_bytes(self) -> int | None:
        """The most the device's memory in use rose by, as the driver counts it: allocator, context and libraries.

        Another process that started or ended meanwhile is in it too: the driver's count by process would leave that
        out, but inside a container it is of process ids that do not exist there. None without CUDA or the driver's
        library, and on a slice of a GPU (MIG), whose UUID is not the GPU's.
        """
        return self._peak_bytes or None

    @property
    def allocated_bytes(self) -> int | None:
        """torch's max_memory_allocated; None without CUDA."""
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None

    @property
    def reserved_bytes(self) -> int | None:
        """torch's max_memory_reserved; None without CUDA."""
        return torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else None


def _used_by_uuid() -> dict[str, int]:
    """Bytes in use on each GPU, by its UUID; empty where the driver's library does not answer."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        used_bytes: dict[str, int] = {}
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
            name = uuid.decode() if isinstance(uuid, bytes) else str(uuid)
            used_bytes[name] = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    except pynvml.NVMLError:
        return {}
    finally:
        pynvml.nvmlShutdown()
    return used_bytes


def host_peak_bytes() -> int:
    """The most memory this process has held on the host: ru_maxrss, which Linux counts in KiB and macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
