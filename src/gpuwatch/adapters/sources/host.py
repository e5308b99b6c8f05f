"""What the operating system says of the machine: memory, swap and processors, every two seconds.

It is the whole machine, also inside a container: the container's own limit is not read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime

import psutil

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.sources import Emit
from gpuwatch.core.observations import HostSample, SourceKind
from gpuwatch.texts import Text, text


class HostSource:
    """Samples the machine at an interval."""

    kind: SourceKind = "host"
    name = "host"

    def __init__(self, interval_seconds: float = 2.0, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Sample until told to stop. The first sample has no processor use: that is known over an interval only."""
        psutil.cpu_percent()
        cpu_ratio: float | None = None
        while not stop.is_set():
            started = time.perf_counter()
            memory = psutil.virtual_memory()
            swap = psutil.swap_memory()
            took_seconds = time.perf_counter() - started
            at = self._clock()
            if not emit(HostSample(at, memory.total, memory.available, swap.used, cpu_ratio, took_seconds)):
                break
            stop.wait(self._interval_seconds)
            cpu_ratio = psutil.cpu_percent() / 100
        return text("stopped")
