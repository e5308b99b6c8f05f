"""What the NVIDIA driver says of its GPUs, once a second.

Each field is asked for on its own, because every card leaves other ones out: what it does not say is None, never 0. A
machine without a driver is an ordinary machine: the source says so once and ends. MIG slices are not read. A card's PCIe
traffic takes the driver 20 ms in each direction, so eight cards take a third of a second to tell everything.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.sources import Emit
from gpuwatch.adapters.sources.programs import Programs, name_of
from gpuwatch.core.observations import GpuProcess, GpuSample, SourceDown, SourceKind, ThrottleReason
from gpuwatch.errors import GpuwatchError
from gpuwatch.texts import Text, text

_MEGAHERTZ = 1_000_000
_KIB = 1024
_REASONS: tuple[tuple[int, ThrottleReason], ...] = (
    (0x0000000000000002, "clocks_setting"),
    (0x0000000000000004, "power_cap"),
    (0x0000000000000008, "slowdown_hardware"),
    (0x0000000000000010, "sync_boost"),
    (0x0000000000000020, "thermal_software"),
    (0x0000000000000040, "thermal_hardware"),
    (0x0000000000000080, "power_brake"),
    (0x0000000000000100, "display_clocks"),
)
"""NVML's bits; 0x1 is an idle card, which nothing holds down."""


class NvmlSource:
    """Samples every GPU of the machine at an interval."""

    kind: SourceKind = "nvml"
    name = "nvml"

    def __init__(
        self, interval_seconds: float = 1.0, *, nvml: Any = None, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._interval_seconds = interval_seconds
        self._nvml = nvml
        self._clock = clock

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Sample until told to stop, or until no GPU is left. Raises GpuwatchError where the driver ceases to answer."""
        try:
            nvml = self._nvml or importlib.import_module("pynvml")
        except ImportError:
            return text("the NVIDIA library for Python is not installed: no GPU samples")
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            return _absence(nvml, error)
        try:
            return self._sample(_Driver(nvml), emit, stop)
        except nvml.NVMLError as error:
            raise GpuwatchError(
                text("the NVIDIA driver no longer answers: {error}", error=str(error)),
                text("It was unloaded or replaced while in use; reboot where that was not meant."),
            ) from error
        finally:
            with suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _sample(self, driver: _Driver, emit: Emit, stop: threading.Event) -> Text:
        indexes = list(range(driver.count()))
        while indexes and not stop.is_set():
            for index in tuple(indexes):
                observation: GpuSample | SourceDown | None
                try:
                    observation = driver.sample(index, self._clock())
                except _LostError as lost:
                    if len(indexes) == 1:
                        raise GpuwatchError(
                            lost.reason, text("Reboot the machine, and look for an Xid in its kernel log.")
                        ) from lost
                    observation = SourceDown(self._clock(), f"{self.name} {index}", self.kind, lost.reason, failed=True)
                if not isinstance(observation, GpuSample):
                    indexes.remove(index)
                if observation is not None and not emit(observation):
                    return text("stopped")
            stop.wait(self._interval_seconds)
        if stop.is_set():
            return text("stopped")
        return text("the NVIDIA driver shows no GPU to this user: no GPU samples")


class _LostError(Exception):
    """A GPU that the driver knows and can no longer reach."""

    def __init__(self, reason: Text) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Gpu:
    """One GPU, with what does not change while it lives."""

    handle: Any
    uuid: str
    name: str


class _Driver:
    """The driver, asked one field at a time."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._version = _words(self._ask(nvml.nvmlSystemGetDriverVersion))
        self._gpus: dict[int, _Gpu] = {}
        self._programs = Programs()

    def count(self) -> int:
        """How many GPUs there are, those included that this user may not read."""
        return self._ask(self._nvml.nvmlDeviceGetCount) or 0

    def sample(self, index: int, at: datetime) -> GpuSample | None:
        """One GPU's fields; None where this user may not read it, `_LostError` where the driver has lost it."""
        try:
            gpu = self._gpus.get(index) or self._find(index)
            return None if gpu is None else self._fields(gpu, index, at)
        except self._nvml.NVMLError as error:
            if error.value != self._nvml.NVML_ERROR_GPU_IS_LOST:
                raise
            known = self._gpus.get(index)
            name = known.name if known else None
            raise _LostError(
                text("GPU {index} ({name}) is lost: the driver can no longer reach it", index=index, name=name)
            ) from error

    def _find(self, index: int) -> _Gpu | None:
        nvml = self._nvml
        handle = self._ask(nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            return None
        uuid = _words(self._ask(nvml.nvmlDeviceGetUUID, handle)) or f"GPU-{index}"
        name = _words(self._ask(nvml.nvmlDeviceGetName, handle)) or f"GPU {index}"
        self._gpus[index] = _Gpu(handle, uuid, name)
        return self._gpus[index]

    def _fields(self, gpu: _Gpu, index: int, at: datetime) -> GpuSample:
        nvml, handle = self._nvml, gpu.handle
        started = time.perf_counter()
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
        utilization = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
        power_milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
        limit_milliwatts = self._ask(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        celsius = self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
        return GpuSample(
            at=at,
            uuid=gpu.uuid,
            index=index,
            name=gpu.name,
            driver=self._version,
            total_bytes=None if memory is None else memory.total,
            used_bytes=None if memory is None else memory.used,
            utilization_ratio=None if utilization is None else utilization.gpu / 100,
            temperature_celsius=None if celsius is None else float(celsius),
            power_watts=None if power_milliwatts is None else power_milliwatts / 1000,
            power_limit_watts=None if limit_milliwatts is None else limit_milliwatts / 1000,
            processes=self._processes(handle),
            energy_joules=_divided(self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption, handle), 1000),
            sm_clock_hertz=_times(self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM), _MEGAHERTZ),
            memory_clock_hertz=_times(self._ask(nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM), _MEGAHERTZ),
            fan_ratio=_divided(self._ask(nvml.nvmlDeviceGetFanSpeed, handle), 100),
            throttled=self._throttled(handle),
            ecc_corrected=self._ecc_errors(handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._ecc_errors(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            pcie_receive_bytes_per_second=self._pcie_traffic(handle, nvml.NVML_PCIE_UTIL_RX_BYTES),
            pcie_transmit_bytes_per_second=self._pcie_traffic(handle, nvml.NVML_PCIE_UTIL_TX_BYTES),
            pcie_link_generation=self._ask(nvml.nvmlDeviceGetCurrPcieLinkGeneration, handle),
            pcie_link_width=self._ask(nvml.nvmlDeviceGetCurrPcieLinkWidth, handle),
            pcie_most_generation=self._ask(nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
            pcie_most_width=self._ask(nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
            took_seconds=time.perf_counter() - started,
        )

    def _throttled(self, handle: Any) -> tuple[ThrottleReason, ...] | None:
        bits = self._ask(self._nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
        if bits is None:  # drivers before 535 know it under its older name
            bits = self._ask(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
        return None if bits is None else tuple(reason for bit, reason in _REASONS if bits & bit)

    def _ecc_errors(self, handle: Any, kind: int) -> int | None:
        count: int | None = self._ask(
            self._nvml.nvmlDeviceGetTotalEccErrors, handle, kind, self._nvml.NVML_VOLATILE_ECC
        )
        return count

    def _pcie_traffic(self, handle: Any, direction: int) -> int | None:
        return _times(self._ask(self._nvml.nvmlDeviceGetPcieThroughput, handle, direction), _KIB)

    def _processes(self, handle: Any) -> tuple[GpuProcess, ...]:
        nvml = self._nvml
        used: dict[int, int | None] = {}
        for list_processes in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            for process in self._ask(list_processes, handle) or ():
                # A process that computes and draws is in both lists, each time with all that it holds.
                used[process.pid] = max((used.get(process.pid), process.usedGpuMemory), key=lambda count: count or 0)
        return self._programs.holding(used, self._process_name)

    def _process_name(self, pid: int) -> str | None:
        return name_of(pid) or _words(self._ask(self._nvml.nvmlSystemGetProcessName, pid))

    def _ask(self, question: Callable[..., Any], *about: Any) -> Any:
        """The answer; None where this card or driver has none; the error where the GPU or the driver is gone."""
        nvml = self._nvml
        try:
            return question(*about)
        except nvml.NVMLError as error:
            if error.value in {
                nvml.NVML_ERROR_GPU_IS_LOST,
                nvml.NVML_ERROR_UNINITIALIZED,
                nvml.NVML_ERROR_DRIVER_NOT_LOADED,
                nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
            }:
                raise
            return None


def _divided(count: int | None, by: int) -> float | None:
    return None if count is None else count / by


def _times(count: int | None, factor: int) -> int | None:
    return None if count is None else count * factor


def _absence(nvml: Any, error: Any) -> Text:
    if error.value in {nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED}:
        return text("no NVIDIA driver on this machine: no GPU samples")
    return text("the NVIDIA driver does not answer ({error}): no GPU samples", error=str(error))


def _words(value: str | bytes | None) -> str | None:
    """A name as text; older libraries gave bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
