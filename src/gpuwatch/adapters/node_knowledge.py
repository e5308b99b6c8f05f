"""Shipped knowledge of ComfyUI's nodes (rules/nodes/*.yaml) -> `Knowledge`, and the server's own word on them laid over it.

The server's word is `/object_info` as JSON, from a running server or a file. It is another program's: bounded, and what is not
of its shape is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from gpuwatch.adapters.located import Located, Problem, check_keys, one_of, raise_problems, read_documents, shown_path
from gpuwatch.core.workflow.nodes import LEVERS, Bounds, Knowledge, Lever, NodeType, Where, told_type
from gpuwatch.errors import UsageError, unreadable
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import text

MOST_BYTES = 64 << 20
_MOST_TYPES = 20_000


def load_knowledge(folder: Path | None = None) -> Knowledge:
    """The shipped knowledge. Raises UsageError that names every mistake."""
    types: dict[str, NodeType] = {}
    traces: list[Where] = []
    problems: list[Problem] = []
    for path in sorted((folder or shipped_folder("rules") / "nodes").glob("*.yaml")):
        try:
            for document in read_documents(path, shown_path(path)):
                entry = document.mapping()
                if "traces" in entry:
                    check_keys(document, entry, required=("traces",))
                    traces += [_where(item) for item in entry["traces"].items()]
                    continue
                for known in _types(document):
                    types[known.name] = known
        except Problem as problem:
            problems.append(problem)
    raise_problems(problems)
    return Knowledge(types, traces=tuple(traces))


def _types(document: Located) -> list[NodeType]:
    """The node types that one document speaks of."""
    entry = document.mapping()
    check_keys(document, entry, required=("nodes", "widgets"), optional=("inputs", "frames_floor", "constant"))
    widgets = tuple(item.string() for item in entry["widgets"].items())
    bounds: dict[str, Bounds] = {}
    levers: dict[str, Lever] = {}
    inputs = entry["inputs"].mapping() if "inputs" in entry else {}
    for name, item in inputs.items():
        spec = item.mapping()
        check_keys(item, spec, required=("min", "max"), optional=("is", "step"))
        if name not in widgets:
            raise item.problem(text("{name} is none of the widgets.", name=name))
        numbers = [spec[key].number() for key in ("min", "max", "step") if key in spec]
        step = spec["step"].number() if "step" in spec else 1
        if step <= 0 or spec["min"].number() > spec["max"].number():
            raise item.problem(text("min must not be above max, and step above 0."))
        bounds[name] = Bounds(
            spec["min"].number(), spec["max"].number(), step, whole=all(isinstance(number, int) for number in numbers)
        )
        if "is" in spec:
            levers[name] = cast(Lever, one_of(spec["is"], LEVERS))
    floor = entry["frames_floor"].whole(1, 10_000) if "frames_floor" in entry else 1
    constant = entry["constant"].string() if "constant" in entry else None
    return [
        NodeType(item.string(), widgets, bounds, levers=levers, frames_floor=floor, constant=constant)
        for item in entry["nodes"].items()
    ]


def _where(item: Located) -> Where:
    entry = item.mapping()
    check_keys(item, entry, required=("file", "function", "nodes"))
    return Where(
        entry["file"].string(), entry["function"].string(), tuple(each.string() for each in entry["nodes"].items())
    )


def with_object_info(knowledge: Knowledge, value: Any, *, complete: bool) -> Knowledge:
    """The knowledge with a server's `/object_info` over it; `complete` where it is all that the server has."""
    told: dict[str, NodeType] = dict(knowledge.told)
    entries = value if isinstance(value, Mapping) else {}
    for name, entry in list(entries.items())[:_MOST_TYPES]:
        if isinstance(name, str) and (known := told_type(name, entry)) is not None:
            told[name] = known
    return replace(knowledge, told=told, complete=complete or knowledge.complete)


def read_object_info(path: str) -> Any:
    """The `/object_info` that a file holds, also as part of a recorded answer. Raises UsageError."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(text("{path} is larger than {most_bytes}.", path=path, most_bytes=MOST_BYTES))
        value = json.loads(content)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(text("{path} is no JSON: {reason}.", path=path, reason=str(error))) from error
    body = value.get("body") if isinstance(value, dict) else None
    value = body if isinstance(body, dict) else value
    if not isinstance(value, dict) or not any(told_type(str(name), entry) for name, entry in value.items()):
        raise UsageError(
            text("{path} is no /object_info: it names no node with its inputs.", path=path),
            text("Save it with `curl http://127.0.0.1:8188/object_info`."),
        )
    return value
