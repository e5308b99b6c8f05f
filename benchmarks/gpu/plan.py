"""What is measured, in which order: what the memory model needs most comes first, for a run that is cut short.

A case is plain data: it travels to its process as JSON, and stands beside its result in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

PROTOCOL = 1
"""Raise it when the same case would be measured in another way."""
SIZES_PX = (256, 512, 640, 768, 896, 960, 1024, 1280, 1536)
VARIANTS = ("tiny", "large")
DTYPES = ("fp32", "amp16", "fp16", "bf16")
ALLOCATORS = {
    "native": "",
    "expandable": "expandable_segments:True",
    "async": "backend:cudaMallocAsync",
}
"""What each allocator is in PYTORCH_ALLOC_CONF."""
_GIB = 1 << 30
_TOO_LARGE_PX = {8: 1600, 12: 1984, 16: 2304, 24: 2816}
"""For a limit in GiB: a size at which the large network in fp32 needs more."""


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement, made in a process of its own."""

    kind: str
    """peaks, memory, oom, budget, trace, stages or throughput: the module that measures it."""
    device: str = "cuda"
    variant: str = "tiny"
    size_px: int = 512
    dtype: str = "fp32"
    rewrite: str = "none"
    batch: int = 1
    allocator: str = "native"
    grad: bool = False
    """Gradients left on by accident."""
    cudnn_benchmark: bool = False
    limit_bytes: int | None = None
    """oom: torch's share of the card; None where a neighbour takes the memory instead."""
    leave_bytes: int | None = None
    """oom: a second process takes the card's memory but for so much."""
    overlap: bool = False
    """throughput: copies on streams of their own, two batches under way."""
    channels_last: bool = False
    graph: bool = False
    """throughput: a CUDA graph of the pass, replayed."""
    tf32: bool = False
    """throughput: fp32 matrix products in TF32."""

    def as_json(self) -> dict[str, Any]:
        """Every field, so that a result tells all that it was measured with."""
        return asdict(self)

    @property
    def title(self) -> str:
        """One line for the person who waits."""
        parts = [self.kind]
        if self.kind != "peaks":
            parts += [self.variant, str(self.size_px), self.dtype]
        plain = Case(self.kind)
        if self.rewrite != plain.rewrite:
            parts.append(self.rewrite)
        if self.batch != 1:
            parts.append(f"batch {self.batch}")
        if self.allocator != plain.allocator:
            parts.append(self.allocator)
        if self.limit_bytes is not None:
            parts.append(f"limit {self.limit_bytes >> 30} GiB")
        if self.leave_bytes is not None:
            parts.append(f"a neighbour leaves {self.leave_bytes >> 30} GiB")
        flags = ("grad", "cudnn_benchmark", "overlap", "channels_last", "graph", "tf32")
        return " ".join([*parts, *(flag for flag in flags if getattr(self, flag))])


def all_cases() -> list[Case]:
    """The whole protocol, most valuable first, each case once."""
    return list(dict.fromkeys(_in_order()))


def _in_order() -> Iterator[Case]:
    memory = Case("memory")
    yield Case("peaks")
    for size_px in (512, 1280):
        for variant in VARIANTS:
            yield replace(memory, variant=variant, size_px=size_px)
    yield from _out_of_memory(limits=(8,))
    yield Case("trace", variant="large", size_px=512)
    yield Case("trace", variant="tiny", size_px=1024, dtype="amp16")
    yield Case("budget", variant="large", size_px=1280)
    yield Case("budget", variant="tiny", size_px=1024)
    yield from _throughput()
    yield from _sweep("fp32")
    for rewrite in ("fold", "tail"):
        for variant in VARIANTS:
            for size_px in (1280, 512):
                yield replace(memory, variant=variant, size_px=size_px, rewrite=rewrite)
    for variant in VARIANTS:
        yield replace(memory, variant=variant, size_px=1280, rewrite="fold", dtype="fp16")
        yield Case("stages", variant=variant, size_px=512)
        yield Case("stages", variant=variant, size_px=512, rewrite="fold", dtype="fp16")
    for allocator in ("expandable", "async"):
        for variant in VARIANTS:
            for size_px in (1280, 512):
                yield replace(memory, variant=variant, size_px=size_px, allocator=allocator)
    yield from _sweep("amp16")
    yield from _out_of_memory(limits=(12, 16, 24))
    for variant in VARIANTS:
        for size_px in (512, 1280):
            yield replace(memory, variant=variant, size_px=size_px, grad=True)
            yield replace(memory, variant=variant, size_px=size_px, cudnn_benchmark=True)
            yield replace(memory, variant=variant, size_px=size_px, batch=4)
    yield from _sweep("fp16")
    yield from _sweep("bf16")


def _sweep(dtype: str) -> Iterator[Case]:
    for size_px in SIZES_PX:
        for variant in VARIANTS:
            yield Case("memory", variant=variant, size_px=size_px, dtype=dtype)


def _out_of_memory(limits: tuple[int, ...]) -> Iterator[Case]:
    for limit in limits:
        for allocator in ("native", "async"):
            yield Case(
                "oom", variant="large", size_px=_TOO_LARGE_PX[limit], allocator=allocator, limit_bytes=limit * _GIB
            )
    if 8 in limits:
        for allocator in ("native", "expandable", "async"):
            yield Case("oom", variant="large", size_px=1600, allocator=allocator, leave_bytes=8 * _GIB)


def _throughput() -> Iterator[Case]:
    """The official way first; then one change after the other, so that each can be seen for what it brings."""
    for variant in ("large", "tiny"):
        official = Case("throughput", variant=variant, size_px=512)
        folded = replace(official, rewrite="fold")
        half = replace(folded, dtype="fp16", batch=8, overlap=True, cudnn_benchmark=True)
        yield official
        yield half
        yield replace(half, channels_last=True)
        yield replace(half, channels_last=True, graph=True)
        yield folded
        yield replace(folded, batch=8, overlap=True, cudnn_benchmark=True, tf32=True)
        yield replace(half, dtype="bf16")
        yield replace(half, batch=1, graph=True)


def cpu_cases() -> list[Case]:
    """A small sample of every kind, to prove the script where there is no GPU. Its numbers mean nothing."""
    small = Case("memory", device="cpu", size_px=64)
    throughput = replace(small, kind="throughput")
    return [
        replace(small, kind="peaks"),
        small,
        *(replace(small, dtype=dtype) for dtype in DTYPES[1:]),
        replace(small, rewrite="tail"),
        replace(small, rewrite="fold"),
        replace(small, grad=True),
        replace(small, batch=2),
        replace(small, kind="trace"),
        replace(small, kind="stages", rewrite="fold"),
        throughput,
        replace(throughput, rewrite="fold", batch=2, overlap=True, channels_last=True),
        replace(small, kind="oom", limit_bytes=8 * _GIB),
        replace(small, kind="budget"),
    ]
