"""What the driver says of the card, asked without starting CUDA: that would take memory before it is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pynvml


@contextmanager
def _driver() -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def used_bytes_by_uuid() -> dict[str, int]:
    """Bytes in use on each GPU, by everyone; empty where the driver does not answer."""
    used: dict[str, int] = {}
    with suppress(pynvml.NVMLError), _driver():
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            with suppress(pynvml.NVMLError):
                used[_words(pynvml.nvmlDeviceGetUUID(handle))] = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    return used


def driver_version() -> str | None:
    """The driver's version; None where it does not answer."""
    with suppress(pynvml.NVMLError), _driver():
        return _words(pynvml.nvmlSystemGetDriverVersion())
    return None


def clocks(uuid: str) -> dict[str, int | None]:
    """Clocks, power limit and temperature now: what a time depends on besides the card's name."""
    asked: dict[str, Any] = {
        "sm_mhz": lambda handle: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "memory_mhz": lambda handle: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "sm_max_mhz": lambda handle: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "power_limit_milliwatts": pynvml.nvmlDeviceGetEnforcedPowerLimit,
        "temperature_celsius": lambda handle: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
    }
    answers: dict[str, int | None] = dict.fromkeys(asked)
    with suppress(pynvml.NVMLError), _driver():
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        for name, ask in asked.items():
            with suppress(pynvml.NVMLError):
                answers[name] = int(ask(handle))
    return answers


def _words(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
