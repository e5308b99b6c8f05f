"""What a workflow is as far as its memory goes: which nodes work, with which models, on how many pixels.

Read off the prompt, with no knowledge of the nodes: by the names that inputs have by custom. A workflow whose size comes from
a photo alone has none that could be read, and nothing is learned from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from math import floor, prod, sqrt
from typing import Any

from gpuwatch.core.workflow.graph import Node, Workflow, is_link
from gpuwatch.core.workflow.inputs import Spot, find_input
from gpuwatch.core.workflow.nodes import Knowledge

_LIGHT = (
    "Save", "Preview", "Primitive", "Note", "Markdown", "Reroute", "Show", "Empty", "LoadImage", "CreateVideo", "VHS_VideoCombine",
)  # fmt: skip
"""Begins of the names of nodes that hold next to nothing on the card."""
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
_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".engine")
_PRECISIONS = frozenset({
    "fp32", "fp16", "bf16", "fp8", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2", "float32", "float16", "bfloat16", "int8", "nf4",
})  # fmt: skip
_FORMS = frozenset({
    "precision", "dtype", "weight_dtype", "base_precision", "quantization", "low_memory", "offload_device", "load_device",
    "attention_mode", "tile_size", "tile_width", "tile_height", "temporal_size", "scale_by", "upscale_by", "upscale_factor",
    "blocks_to_swap",
})  # fmt: skip
"""Inputs that change what the same picture takes."""
_SIDES = frozenset({
    "model_input_size", "input_size", "image_size", "size", "target_size", "resolution", "min_resolution", "max_resolution",
    "side", "longest_side", "shortest_side", "largest_size",
})  # fmt: skip
_COUNTS = frozenset({
    "batch_size", "length", "frames", "num_frames", "video_frames", "frame_count", "frame_load_cap", "amount",
    "duration",
})  # fmt: skip
_AREAS = frozenset({"megapixels"})
_STEPS = (64, 32, 16, 8)
"""Sides of pictures are multiples of one of these; the coarsest that the job's own keep is kept."""
_FINEST_AREA = 0.01
_MEGAPIXEL = 1 << 20
MOST_PIXELS = 1 << 50
_MOST_SIDE, _MOST_COUNT = 1 << 17, 1 << 17
_MOST_NODES, _MOST_INPUTS, _MOST_SETTINGS = 2000, 64, 32
_LONGEST = 120
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
        files = [each for each in self.settings if each.lower().endswith(_FILES)][:_SHOWN]
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
        if not all(_is_number(size) and 0 < size <= _MOST_SIDE for size in self.sizes.values()):
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


def ran_of(workflow: Workflow, knowledge: Knowledge | None = None) -> Ran | None:
    """What a workflow is; None where its size cannot be read. The editor's form needs to know the nodes' widgets."""
    knowledge = knowledge or Knowledge()
    nodes = [node for node in workflow.nodes if not node.muted and node.subgraph is None][:_MOST_NODES]
    working: Counter[str] = Counter()
    settings: set[str] = set()
    counts: dict[str, float] = {}
    largest: tuple[float, SizedNode] | None = None
    for node in nodes:
        values = _values(workflow, node, knowledge)
        own = _settings(values)
        if not node.type.startswith(_LIGHT):
            working[node.type[:_LONGEST]] += 1
            settings.update(own.values())
        for name in _COUNTS & values.keys():
            if (count := _number(values[name], _MOST_COUNT)) is not None and count >= 1:
                counts[name] = max(counts.get(name, 1), count)
        sizes = _sizes(values)
        area = _area(sizes)
        if area is not None and (largest is None or area > largest[0]):
            largest = area, SizedNode(node.id[:_LONGEST], node.type[:_LONGEST], sizes, own)
    if largest is None or not working:
        return None
    pixels = largest[0] * prod(counts.values())
    if not 1 <= pixels <= MOST_PIXELS:
        return None
    kind = JobKind(tuple(sorted(working.elements()))[:_MOST_SETTINGS], tuple(sorted(settings))[:_MOST_SETTINGS])
    return Ran(kind, round(pixels), largest[1])


def smaller(sized: SizedNode, share: float) -> Mapping[str, float] | None:
    """The node's sizes for at most so much of the area, of the same shape; None where no such size is left."""
    sides = [size for name, size in sized.sizes.items() if name not in _AREAS]
    step = next((step for step in _STEPS if all(side % step == 0 for side in sides)), 1)
    made: dict[str, float] = {}
    for name, size in sized.sizes.items():
        if name in _AREAS:
            made[name] = round(floor(size * share / _FINEST_AREA) * _FINEST_AREA, 2)
        else:
            made[name] = floor(size * sqrt(share) / step) * step
    return made if all(size > 0 for size in made.values()) and made != sized.sizes else None


def share_left(sized: SizedNode, sizes: Mapping[str, float]) -> float:
    """The share of the area that smaller sizes leave: of the one that shrank least, to be sure."""
    return max(
        sizes[name] / size if name in _AREAS else (sizes[name] / size) ** 2 for name, size in sized.sizes.items()
    )


def shown_sizes(sizes: Mapping[str, float]) -> str:
    """Sizes as a person writes them."""
    return " x ".join(f"{size:g}" for size in sizes.values())


def _values(workflow: Workflow, node: Node, knowledge: Knowledge) -> dict[str, Any]:
    """A node's values by name; those without a name that is known, by their place."""
    if workflow.form == "api":
        inputs = node.raw.get("inputs")
        found = list(inputs.items())[:_MOST_INPUTS] if isinstance(inputs, dict) else []
        return {name: _held_by(workflow, node, name) if is_link(value) else value for name, value in found}
    values: dict[str, Any] = {}
    widgets = node.raw.get("widgets_values")
    if isinstance(widgets, list):
        values = {f"#{place}": value for place, value in enumerate(widgets[:_MOST_INPUTS]) if isinstance(value, str)}
    known = knowledge.of(node.type)
    for name in (known.widgets or ())[:_MOST_INPUTS] if known is not None else ():
        spot = find_input(workflow, node, name, knowledge)
        value = spot.value if isinstance(spot, Spot) else _held_by(workflow, node, name)
        if value is not None:
            values[name] = value
    return values


def _held_by(workflow: Workflow, node: Node, name: str) -> Any:
    """The one number of the node that an input is linked to; None where it has none or several."""
    source = workflow.source(node, name)
    held = (
        source.raw.get("inputs" if workflow.form == "api" else "widgets_values") if isinstance(source, Node) else None
    )
    values = held.values() if isinstance(held, dict) else held if isinstance(held, list) else ()
    numbers = [value for value in values if _is_number(value)]
    return numbers[0] if len(numbers) == 1 else None


def _settings(values: Mapping[str, Any]) -> dict[str, str]:
    """What else memory depends on: a file by its name alone, a form with its input's name."""
    found = {}
    for name, value in values.items():
        if isinstance(value, str) and value.lower().endswith(_FILES):
            found[name] = value.replace("\\", "/").rpartition("/")[2][-_LONGEST:]
        elif isinstance(value, str) and value in _PRECISIONS and name not in _FORMS:
            found[name] = value
        elif name in _FORMS and isinstance(value, str | int | float):
            found[name] = f"{name}={value}"[:_LONGEST]
    return found


def _sizes(values: Mapping[str, Any]) -> dict[str, float]:
    """The inputs that say how large a picture is: a width with its height, one side, or an area."""
    sizes: dict[str, float] = {}
    for name in values:
        pair = (name, name.removesuffix("width") + "height") if name.endswith("width") else ()
        for each in pair if len(pair) == 2 and pair[1] in values and not name.startswith("tile") else ():
            if (number := _number(values[each], _MOST_SIDE)) is not None:
                sizes[each] = number
        if name in _SIDES | _AREAS and (number := _number(values[name], _MOST_SIDE)) is not None:
            sizes[name] = number
    return {name: size for name, size in sizes.items() if size > 0}


def _area(sizes: Mapping[str, float]) -> float | None:
    """The pixels of the largest picture that these say."""
    areas = [sizes[name] ** 2 for name in _SIDES & sizes.keys()]
    areas += [sizes[name] * _MEGAPIXEL for name in _AREAS & sizes.keys()]
    for name, width in sizes.items():
        height = sizes.get(name.removesuffix("width") + "height") if name.endswith("width") else None
        if height is not None:
            areas.append(width * height)
    return max((area for area in areas if area >= 1), default=None)


def _number(value: Any, most: int) -> float | None:
    return value if _is_number(value) and 0 <= value <= most else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - not NaN
