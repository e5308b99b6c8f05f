"""What the card and this process used while a trace was taken, a sample every few milliseconds, on the system's clock.

The card's numbers come from the driver, the process's from the system. Without a card there are only the latter; a number that
the card does not have is left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil
import pynvml
import torch

INTERVAL_SECONDS = 0.02
MOST_SAMPLES = 20_000
"""Beyond that every second sample goes, and the interval doubles."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Numbers at one moment, each by its name, which ends in its unit."""

    unix_ns: int
    values: dict[str, float]


class Sampler:
    """Samples on a thread of its own from `with` to its end."""

    def __init__(self, device: torch.device, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self.samples: list[Sample] = []
        self._device = device
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpuwatch-sampler", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        process = psutil.Process()
        card = card_reader(self._device)
        process.cpu_percent()  # the first call begins its interval
        while True:
            with suppress(psutil.Error):
                host = {
                    "process memory bytes": float(process.memory_info().rss),
                    "process CPU percent": process.cpu_percent(),
                }
                self.samples.append(Sample(time.time_ns(), host | card()))
            if len(self.samples) >= MOST_SAMPLES:
                del self.samples[::2]
                self._interval_seconds *= 2
            if self._stop.wait(self._interval_seconds):
                return


def card_reader(device: torch.device) -> Callable[[], dict[str, float]]:
    """What reads the card's numbers; nothing is read where there is no card or no driver's library."""
    if device.type != "cuda":
        return dict
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode())
    except pynvml.NVMLError:
        return dict

    asked: dict[str, Callable[[], float]] = {
        "GPU memory used bytes": lambda: float(pynvml.nvmlDeviceGetMemoryInfo(handle).used),
        "GPU busy percent": lambda: float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        "GPU power watts": lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "GPU temperature celsius": lambda: float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        "GPU SM clock MHz": lambda: float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
    }

    def read() -> dict[str, float]:
        values: dict[str, float] = {}
        for name, ask in list(asked.items()):
            try:
                values[name] = ask()
            except pynvml.NVMLError:
                del asked[name]  # this card does not tell it
        return values

    return read
