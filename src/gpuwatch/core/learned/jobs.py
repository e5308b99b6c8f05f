"""What a job is as far as its memory goes: which nodes work, with which models, on how many pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from math import floor, sqrt
from typing import Any

_BESIDE = (
    "Loader",
    "TextEncode",
    "ModelSampling",
    "Scheduler",
    "SamplerSelect",
    "Guider",
    "Noise",
    "Switch",
    "GetImageSize",
)
"""Parts of the names of nodes that a person does not know a workflow by."""
FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".engine")
AREAS = frozenset({"megapixels"})
_STEPS = (64, 32, 16, 8)
"""Sides of pictures are multiples of one of these; the coarsest that the job's own keep is kept."""
_FINEST_AREA = 0.01
MOST_PIXELS = 1 << 50
MOST_SIDE = 1 << 17
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class JobKind:
    """Jobs whose memory can be compared: the same nodes at work with the same models, whatever the size."""

    nodes: tuple[str, ...]
    """Types of the nodes that work, sorted; one that is there twice stands twice."""
    settings: tuple[str, ...]
    """Files of models, precisions, tiles: what else memory depends on, sorted."""

    @property
    def id(self) -> str:
        """A short name to type."""
        return sha256("\n".join((*self.nodes, "", *self.settings)).encode("utf-8", "replace")).hexdigest()[:8]

    @property
    def title(self) -> str:
        """What a person knows it by."""
        types = list(dict.fromkeys(self.nodes))
        types = [each for each in types if not any(word in each for word in _BESIDE)] or types
        shown = [*types[:_SHOWN], *(["…"] if len(types) > _SHOWN else [])]
        files = [each for each in self.settings if each.lower().endswith(FILES)][:_SHOWN]
        return " + ".join(shown) + (f" ({', '.join(files)})" if files else "")


@dataclass(frozen=True, slots=True)
class SizedNode:
    """The node that says how large the picture is."""

    id: str
    type: str
    sizes: Mapping[str, float]
    """Its inputs for sides or an area, and their values."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of its other inputs those that memory depends on."""

    def __post_init__(self) -> None:
        # It is also read back from journals and recordings, which anything may have written.
        if not all(is_number(size) and 0 < size <= MOST_SIDE for size in self.sizes.values()):
            raise ValueError("a size is a number above 0")
        if not all(isinstance(value, str) for value in self.settings.values()):
            raise ValueError("a setting is a string")


@dataclass(frozen=True, slots=True)
class Ran:
    """A job: its kind and its size."""

    kind: JobKind
    pixels: int
    """Of the largest picture in it, times batch and frames."""
    sized: SizedNode

    def __post_init__(self) -> None:
        if not 1 <= self.pixels <= MOST_PIXELS:
            raise ValueError("a job has pixels, and not without end")


def smaller(sized: SizedNode, share: float) -> Mapping[str, float] | None:
    """The node's sizes for at most so much of the area, of the same shape; None where no such size is left."""
    sides = [size for name, size in sized.sizes.items() if name not in AREAS]
    step = next((step for step in _STEPS if all(side % step == 0 for side in sides)), 1)
    made: dict[str, float] = {}
    for name, size in sized.sizes.items():
        if name in AREAS:
            made[name] = round(floor(size * share / _FINEST_AREA) * _FINEST_AREA, 2)
        else:
            made[name] = floor(size * sqrt(share) / step) * step
    return made if all(size > 0 for size in made.values()) and made != sized.sizes else None


def share_left(sized: SizedNode, sizes: Mapping[str, float]) -> float:
    """The share of the area that smaller sizes leave: of the one that shrank least, to be sure."""
    return max(sizes[name] / size if name in AREAS else (sizes[name] / size) ** 2 for name, size in sized.sizes.items())


def shown_sizes(sizes: Mapping[str, float]) -> str:
    """Sizes as a person writes them."""
    return " x ".join(f"{size:g}" for size in sizes.values())


def is_number(value: Any) -> bool:
    """Whether it is one, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - not NaN
