"""A workflow -> what it is as far as its memory goes.

Read off the prompt, with no knowledge of the nodes: by the names that inputs have by custom. A workflow whose size comes from
a photo alone has none that could be read, and nothing is learned from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any

from gpuwatch.core.learned.jobs import AREAS, FILES, MOST_PIXELS, MOST_SIDE, JobKind, Ran, SizedNode, is_number
from gpuwatch.core.workflow.graph import Node, Workflow, is_link
from gpuwatch.core.workflow.inputs import Spot, find_input
from gpuwatch.core.workflow.nodes import Knowledge

_LIGHT = (
    "Save", "Preview", "Primitive", "Note", "Markdown", "Reroute", "Show", "Empty", "LoadImage", "CreateVideo", "VHS_VideoCombine",
)  # fmt: skip
"""Begins of the names of nodes that hold next to nothing on the card."""
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
_MEGAPIXEL = 1 << 20
_MOST_COUNT = 1 << 17
_MOST_NODES, _MOST_INPUTS, _MOST_SETTINGS = 2000, 64, 32
_LONGEST = 120


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
    numbers = [value for value in values if is_number(value)]
    return numbers[0] if len(numbers) == 1 else None


def _settings(values: Mapping[str, Any]) -> dict[str, str]:
    """What else memory depends on: a file by its name alone, a form with its input's name."""
    found = {}
    for name, value in values.items():
        if isinstance(value, str) and value.lower().endswith(FILES):
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
            if (number := _number(values[each], MOST_SIDE)) is not None:
                sizes[each] = number
        if name in _SIDES | AREAS and (number := _number(values[name], MOST_SIDE)) is not None:
            sizes[name] = number
    return {name: size for name, size in sizes.items() if size > 0}


def _area(sizes: Mapping[str, float]) -> float | None:
    """The pixels of the largest picture that these say."""
    areas = [sizes[name] ** 2 for name in _SIDES & sizes.keys()]
    areas += [sizes[name] * _MEGAPIXEL for name in AREAS & sizes.keys()]
    for name, width in sizes.items():
        height = sizes.get(name.removesuffix("width") + "height") if name.endswith("width") else None
        if height is not None:
            areas.append(width * height)
    return max((area for area in areas if area >= 1), default=None)


def _number(value: Any, most: int) -> float | None:
    return value if is_number(value) and 0 <= value <= most else None
