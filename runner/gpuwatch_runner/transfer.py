"""Between host and device: greys there, colours back, without the device waiting for either where that can be had.

On CUDA both ways go through pinned memory on a stream of their own, so that a pass can be started while the one before
it is still computing. On a CPU there is nothing to move.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpuwatch_runner.lab import Floats


@dataclass(slots=True)
class Pass:
    """A pass under way."""

    _host: Tensor
    _started: Any
    _ended: Any
    """Two CUDA events, or two readings of the clock where the pass is over already."""
    _copied: Any = None
    """The CUDA event after which `_host` is filled."""

    def collect(self) -> tuple[list[Floats], float]:
        """Wait for the pass: for each image its ab (2, S, S), and the seconds from the input's way there to the output."""
        if self._copied is None:
            return list(self._host.numpy()), self._ended - self._started
        self._copied.synchronize()
        # Pinned memory is scarce and belongs to the allocator again once this tensor goes.
        return list(self._host.numpy().copy()), self._started.elapsed_time(self._ended) / 1000


class Transfer:
    """Moves the inputs and outputs of passes on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._started: Any = None

    def upload(self, values: Floats, dtype: torch.dtype) -> Tensor:
        """Values on the device, for work on the current stream."""
        here = torch.from_numpy(np.ascontiguousarray(values)).to(dtype)
        if self._stream is None:
            self._started = perf_counter()
            return here
        current = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            there = here.pin_memory().to(self._device, non_blocking=True)
        current.wait_stream(self._stream)
        there.record_stream(current)
        self._started = _event(timed=True)
        self._started.record(current)
        return there

    def download(self, values: Tensor) -> Pass:
        """The pass whose output `values` is, as soon as the current stream has made it."""
        if self._stream is None:
            return Pass(values.cpu(), self._started, perf_counter())
        current = torch.cuda.current_stream(self._device)
        ended, copied = _event(timed=True), _event(timed=False)
        ended.record(current)
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            host.copy_(values, non_blocking=True)
            copied.record(self._stream)
        values.record_stream(self._stream)
        return Pass(host, self._started, ended, copied)


def _event(*, timed: bool) -> Any:
    return torch.cuda.Event(enable_timing=timed)  # type: ignore[no-untyped-call]
