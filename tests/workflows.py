"""Workflows for tests: where they are, what is known of their nodes, and a validator that asks what ComfyUI asks of a prompt."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gpuwatch.adapters.node_knowledge import load_knowledge, with_object_info
from gpuwatch.core.workflow.graph import Border, Workflow, read_workflow
from gpuwatch.core.workflow.inputs import Spot, find_input
from gpuwatch.core.workflow.nodes import Knowledge, told_type

DATA = Path(__file__).parent / "data" / "workflows"
TEMPLATES = DATA / "templates"
OURS = sorted(DATA.glob("ddcolor*.json")) + sorted(DATA.glob("sd15*.json")) + sorted(DATA.glob("image*.json"))
_PACKAGES = (
    "comfyui_workflow_templates_json",
    *(f"comfyui_workflow_templates_media_{kind}" for kind in ("image", "video", "other")),
)
"""Newer versions keep the workflows of all kinds in the first."""


@cache
def knowledge() -> Knowledge:
    return load_knowledge()


@cache
def object_info() -> Mapping[str, Any]:
    return json.loads((DATA / "object_info.json").read_text())


@cache
def told_knowledge() -> Knowledge:
    return with_object_info(knowledge(), object_info(), complete=True)


@cache
def many() -> tuple[Path, ...]:
    """Several hundred real workflows, where they are at hand."""
    folders = [Path(os.environ["GPUWATCH_WORKFLOWS"])] if os.environ.get("GPUWATCH_WORKFLOWS") else []
    for package in _PACKAGES:
        found = importlib.util.find_spec(package)
        folders += [Path(place) for place in (found.submodule_search_locations or [] if found else [])]
    paths = [path for folder in folders for path in sorted(folder.rglob("*.json"))]
    return tuple(path for path in paths if not path.name.startswith(("index", "fuse_options")))


def loaded(name: str) -> Workflow:
    return read_workflow(json.loads((DATA / name).read_text()))


def as_prompt(workflow: Workflow, known: Knowledge) -> dict[str, Any]:
    """A workflow in the form that the server takes, made with our own reader."""
    prompt: dict[str, Any] = {}
    for node in workflow.nodes:
        if node.subgraph is not None or node.muted:
            continue
        kind = known.of(node.type)
        names = dict.fromkeys([*workflow.linked_inputs(node), *(kind.widgets or () if kind else ())])
        if workflow.form == "api":
            names = dict.fromkeys(node.raw["inputs"])
        inputs: dict[str, Any] = {}
        for name in names:
            source = workflow.source(node, name) if name in workflow.linked_inputs(node) else None
            if source is not None and not isinstance(source, Border):
                inputs[name] = [source.id, 0]
            else:
                spot = find_input(workflow, node, name, known)
                if isinstance(spot, Spot):
                    inputs[name] = spot.value
        prompt[node.id] = {"class_type": node.type, "inputs": inputs}
    return prompt


def complaints(prompt: Mapping[str, Any], info: Mapping[str, Any]) -> list[str]:
    """What ComfyUI, or its editor, would say against a prompt; nothing where it would run it."""
    found: list[str] = []
    if not any(info.get(node["class_type"], {}).get("output_node") for node in prompt.values()):
        found.append("no output node")
    for node_id, node in prompt.items():
        entry = info.get(node["class_type"])
        if entry is None:
            found.append(f"{node_id}: no node type {node['class_type']}")
            continue
        kind = told_type(node["class_type"], entry)
        assert kind is not None
        for name, spec in entry["input"].get("required", {}).items():
            value = node["inputs"].get(name)
            where = f"{node_id} {node['class_type']}.{name}"
            if value is None:
                found.append(f"{where} is missing")
            elif isinstance(value, list):
                source = prompt.get(str(value[0]))
                outputs = info.get(source["class_type"], {}).get("output", []) if source else []
                if spec[0] not in outputs:
                    found.append(f"{where} gets none of {outputs}")
            elif isinstance(spec[0], str) and spec[0] not in {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}:
                found.append(f"{where} is not linked")
            elif name in kind.choices and value not in kind.choices[name]:
                found.append(f"{where}: {value} not in list")
            elif name in kind.bounds:
                bounds = kind.bounds[name]
                if isinstance(value, bool) or not isinstance(value, int | float):
                    found.append(f"{where}: {value!r} is no number")
                elif bounds.whole and not isinstance(value, int):
                    found.append(f"{where}: {value!r} is not whole")
                elif not bounds.low <= value <= bounds.high:
                    found.append(f"{where}: {value} is out of bounds")
                elif bounds.step > 1 and (value - bounds.low % bounds.step) % bounds.step:
                    found.append(f"{where}: {value} is not on step {bounds.step}")
    return found
