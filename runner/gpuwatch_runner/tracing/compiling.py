"""Recordings at several sizes -> one trace: each allocation's bytes as an exact polynomial, proven at sizes left out.

The polynomials are multilinear in the input's height and width over a stride, and in the batch where it is two or more: eight
recordings at the corners of a unit cube determine them, without any rounding. A batch of one is its own class, because
some steps (a copy that only a batch needs) exist in one class alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from gpuwatch.core.memory.trace import BATCHED, FLAT, Trace
from gpuwatch_runner.tracing import fake
from gpuwatch_runner.tracing.recording import Recording, record

GENERATOR = "gpuwatch tracing 1"
BatchClass = Literal["one", "many"]
_CORNER = (2, 2, 2)
HELD_OUT = {"one": ((1, 1, 1), (1, 7, 5), (1, 16, 16), (1, 40, 12)), "many": ((2, 7, 5), (5, 3, 9), (4, 16, 16))}
"""Batch, height and width over the stride at which a trace must agree though it was not made from them."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What to trace."""

    name: dict[str, str]
    """What tells the trace from others: workload, variant, dtype, rewrite."""
    build: Callable[[], nn.Module]
    """Makes the network, in eval mode; called on the meta device."""
    channels: int = 3
    stride_px: int = 32
    """Heights and widths are multiples of this."""
    dtype: torch.dtype = torch.float32
    autocast: torch.dtype | None = None
    grad: bool = False
    """Gradients left on, as by a caller who forgot `no_grad`."""


def compile_trace(subject: Subject, batch_class: BatchClass) -> Trace:
    """Trace a network. Raises RuntimeError where its steps differ between sizes, or a size left out disagrees."""
    fake.allow_cuda()
    if batch_class == "one":
        corners = [(1, h, w) for h, w in product((2, 3), repeat=2)]
    else:
        corners = [(b, h, w) for b, h, w in product((2, 3), repeat=3)]
    made = {corner: recorded(subject, *corner) for corner in corners}
    first = made[corners[0]]
    for corner, recording in made.items():
        if recording.structure() != first.structure():
            raise RuntimeError(f"{subject.name}: the steps at {corner} are not those at {corners[0]}")
    rows: dict[tuple[int, ...], int] = {}
    kinds: dict[tuple[str, str, int], int] = {}
    births = []
    for number, (operator, place, _) in enumerate(first.births):
        row = coefficients({corner: made[corner].births[number][2] for corner in corners})
        kind = (operator, place, rows.setdefault(row, len(rows)))
        births.append(kinds.setdefault(kind, len(kinds)))
    flop = coefficients({corner: operations(subject, *corner) for corner in corners})
    trace = Trace(
        name={
            **subject.name,
            "grad": "on" if subject.grad else "off",
            "batch": batch_class,
            "torch": torch.__version__.partition("+")[0],
            "generator": GENERATOR,
        },
        stride_px=subject.stride_px,
        variables=FLAT if batch_class == "one" else BATCHED,
        polynomials=tuple(rows),
        kinds=tuple(kinds),
        births=tuple(births),
        events=tuple(first.events),
        resident_bytes=tuple(first.resident_bytes),
        flop=flop,
    )
    for held_out in HELD_OUT[batch_class]:
        _prove(subject, trace, held_out)
    return trace


def recorded(subject: Subject, batch: int, height: int, width: int) -> Recording:
    """One pass at a size, given in strides, on fake CUDA tensors."""
    with torch.device("meta"):
        network = subject.build()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    held = fake.put_on(network, mode, subject.dtype, grad=subject.grad)
    shape = (batch, subject.channels, height * subject.stride_px, width * subject.stride_px)

    def make_input() -> Tensor:
        return torch.empty(shape, dtype=subject.dtype, device=fake.DEVICE)

    gradients: Any = torch.enable_grad() if subject.grad else torch.no_grad()
    with mode, gradients, fake.fused_attention(), fake.autocast(subject.autocast):
        return record(network, make_input, held)


def operations(subject: Subject, batch: int, height: int, width: int) -> int:
    """Floating-point operations of a pass, a multiply and its add counted as two."""
    with torch.device("meta"):
        network = subject.build().requires_grad_(requires_grad=False)
        image = torch.empty(batch, subject.channels, height * subject.stride_px, width * subject.stride_px)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(image)
    return int(counter.get_total_flops())


def coefficients(values: dict[tuple[int, int, int], int]) -> tuple[int, ...]:
    """The multilinear polynomial through values at (batch, h, w) in {2, 3}: coefficients of 1, h, w, hw, b, bh, bw, bhw.

    Four alone where the values are all of batch one.
    """
    batches = sorted({batch for batch, _, _ in values})
    flat = [_bilinear({(h, w): value for (b, h, w), value in values.items() if b == batch}) for batch in batches]
    if len(flat) == 1:
        return flat[0]
    slopes = [high - low for low, high in zip(*flat, strict=True)]
    return (*(low - _CORNER[0] * slope for low, slope in zip(flat[0], slopes, strict=True)), *slopes)


def _bilinear(values: dict[tuple[int, int], int]) -> tuple[int, int, int, int]:
    h, w = _CORNER[1:]
    corner, taller = values[h, w], values[h + 1, w] - values[h, w]
    wider = values[h, w + 1] - corner
    both = values[h + 1, w + 1] - corner - taller - wider
    return corner - h * taller - w * wider + h * w * both, taller - w * both, wider - h * both, both


def _prove(subject: Subject, trace: Trace, size: tuple[int, int, int]) -> None:
    """Compare the trace with a recording at a size it was not made from."""
    real = recorded(subject, *size)
    batch, height, width = size
    told = trace.at(height * trace.stride_px, width * trace.stride_px, batch)
    if tuple(real.events) != trace.events or [bytes_ for _, _, bytes_ in real.births] != list(told.birth_bytes):
        raise RuntimeError(f"{subject.name}: the trace does not hold at {size}")
