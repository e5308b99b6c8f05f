"""What is known of node types: their widgets in order, the bounds of their inputs, and which of them memory depends on.

Shipped knowledge (rules/nodes/*.yaml) is laid under what the server itself says (`/object_info`): the server knows bounds and
order of its version; only the shipped part knows what an input does to memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Any, Literal, get_args

Lever = Literal["batch", "frames", "width", "height", "side", "tile", "scale", "area"]
"""What a value does: how many pictures, how many frames, a side in pixels, a tile's side, a factor on sides, a number of pixels."""
LEVERS: tuple[Lever, ...] = get_args(Lever)
CONTROL = "control_after_generate"
"""The editor's own widget after a seed: it takes a place among the values and is no input."""
_SEEDS = frozenset({"seed", "noise_seed"})
_VALUED = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
_MOST_DIGITS = 6
_LARGEST = 2**64


@dataclass(frozen=True, slots=True)
class Bounds:
    """The numbers that an input takes."""

    low: float
    high: float
    step: float = 1
    whole: bool = True

    def below(self, value: float) -> float:
        """The largest number that the input takes and that is not above `value`; its least where all are."""
        base = self.low % self.step
        steps = floor((min(value, self.high) - base) / self.step + 1e-9)
        found = max(steps * self.step + base, self.low)
        return round(found) if self.whole else round(found, _MOST_DIGITS)

    def takes(self, value: float) -> bool:
        """Whether the input takes the number."""
        return self.low <= value <= self.high and abs(self.below(value) - value) < 1e-9


@dataclass(frozen=True, slots=True)
class NodeType:
    """One type of node."""

    name: str
    widgets: tuple[str, ...] | None = None
    """Widgets in the order of the editor's values; None where that is not known."""
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    levers: Mapping[str, Lever] = field(default_factory=dict)
    frames_floor: int = 1
    """Fewer frames make no sense for it."""
    constant: str | None = None
    """For a node that only holds a number: the widget with it."""
    told: bool = False
    """Whether the server itself spoke of it."""

    def of_lever(self, *levers: Lever) -> list[str]:
        """Its inputs of that kind, in order."""
        return [name for name, lever in self.levers.items() if lever in levers]


@dataclass(frozen=True, slots=True)
class Where:
    """Source file and function that, standing in a traceback, tell which nodes were at work."""

    file: str
    function: str
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of all node types."""

    shipped: Mapping[str, NodeType] = field(default_factory=dict)
    told: Mapping[str, NodeType] = field(default_factory=dict)
    traces: tuple[Where, ...] = ()
    version: tuple[int, ...] | None = None
    """The server's version, where it was told."""
    complete: bool = False
    """Whether `told` is all that the server has."""

    def of(self, name: str) -> NodeType | None:
        """What is known of a type: the server's word first."""
        told, shipped = self.told.get(name), self.shipped.get(name)
        if told is None or shipped is None:
            return told or shipped
        return NodeType(
            name,
            told.widgets if told.widgets is not None else shipped.widgets,
            {**shipped.bounds, **told.bounds},
            {**shipped.choices, **told.choices},
            {key: lever for key, lever in shipped.levers.items() if key in told.bounds},
            shipped.frames_floor,
            shipped.constant,
            told=True,
        )


def told_type(name: str, entry: Any) -> NodeType | None:
    """Read one entry of `/object_info`; None where it is not of that shape."""
    if not isinstance(entry, dict) or not isinstance(entry.get("input"), dict):
        return None
    widgets: list[str] | None = []
    bounds: dict[str, Bounds] = {}
    choices: dict[str, tuple[str, ...]] = {}
    told_order = entry.get("input_order")
    order = told_order if isinstance(told_order, dict) else {}
    for section in ("required", "optional"):
        inputs = entry["input"].get(section)
        if not isinstance(inputs, dict):
            continue
        names = order.get(section)
        for key in names if isinstance(names, list) else inputs:
            spec = inputs.get(key) if isinstance(key, str) else None
            if not isinstance(spec, list) or not spec:
                continue
            kind, options = spec[0], spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
            if isinstance(kind, str) and kind.startswith("COMFY_"):
                widgets = None  # such an input brings widgets of its own, as its value asks
            if not (isinstance(kind, list) or kind in _VALUED) or options.get("forceInput"):
                continue
            if widgets is not None:
                widgets.append(key)
                if options.get(CONTROL) or (kind == "INT" and key in _SEEDS):
                    widgets.append(CONTROL)
                if options.get("image_upload") or options.get("video_upload") or options.get("audio_upload"):
                    widgets.append("upload")
            if kind in ("INT", "FLOAT"):
                bounds[key] = _bounds(options, whole=kind == "INT")
            values = kind if isinstance(kind, list) else options.get("options")
            if isinstance(values, list):
                choices[key] = tuple(value for value in values if isinstance(value, str))
    return NodeType(name, tuple(widgets) if widgets is not None else None, bounds, choices, told=True)


def _bounds(options: Mapping[str, Any], *, whole: bool) -> Bounds:
    def number(key: str, default: float) -> float:
        value = options.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST:
            return value
        return default

    step = number("step", 1 if whole else 0.01)
    return Bounds(number("min", 0), number("max", 2**53), step if step >= 10**-_MOST_DIGITS else 1, whole)
