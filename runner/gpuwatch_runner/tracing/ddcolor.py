"""What is traced of DDColor: both networks, each precision and rewrite, one image and several.

bf16 is left out: it takes what fp16 takes, byte for byte. Gradients are traced as the official network has them, for those
who left them on: without a rewrite.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from gpuwatch_runner.ddcolor import REWRITES, VARIANTS, DDColor, Rewrite, Variant
from gpuwatch_runner.sizes import STRIDE_PX
from gpuwatch_runner.tracing.compiling import BatchClass, Subject, compile_trace
from gpuwatch_runner.tracing.files import write_trace_file

DTYPES: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "fp32": (torch.float32, None),
    "amp16": (torch.float32, torch.float16),
    "fp16": (torch.float16, None),
    "bf16": (torch.bfloat16, None),
}
"""What weights are in, and what autocast computes in."""
SHIPPED_DTYPES = ("fp32", "amp16", "fp16")
BATCH_CLASSES: tuple[BatchClass, ...] = ("one", "many")


def subject(variant: Variant, dtype: str, rewrite: Rewrite, *, grad: bool = False) -> Subject:
    """DDColor in one of its forms."""
    weights, autocast = DTYPES[dtype]
    return Subject(
        name={"workload": "ddcolor", "variant": variant, "dtype": dtype, "rewrite": rewrite},
        build=partial(DDColor, variant, rewrite),
        stride_px=STRIDE_PX,
        dtype=weights,
        autocast=autocast,
        grad=grad,
    )


def shipped() -> Iterator[tuple[Subject, BatchClass]]:
    """All that is shipped."""
    for variant in VARIANTS:
        for dtype in SHIPPED_DTYPES:
            for batch in BATCH_CLASSES:
                for rewrite in REWRITES:
                    yield subject(variant, dtype, rewrite), batch
                yield subject(variant, dtype, "none", grad=True), batch


def shipped_names() -> list[str]:
    """The names of what is shipped, in the same order."""
    return [
        "-".join([*list(subject.name.values())[1:], *(["grad"] if subject.grad else []), batch])
        for subject, batch in shipped()
    ]


def make(task: tuple[int, Path]) -> Path:
    """Trace what is shipped under a number, into a folder."""
    number, folder = task
    traced, batch = list(shipped())[number]
    return write_trace_file(compile_trace(traced, batch), folder)
