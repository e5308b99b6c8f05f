"""Where the value of an input stands: in the node itself, in the node that stands for its subgraph, or in a node that holds
only this number. Where it cannot be told, or where others would change with it, the answer says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuwatch.core.workflow.graph import Border, Node, Workflow, is_link
from gpuwatch.core.workflow.nodes import CONTROL, Knowledge, NodeType
from gpuwatch.core.workflow.places import Path
from gpuwatch.texts import Text, text

_WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@dataclass(frozen=True, slots=True)
class Spot:
    """A value that may be changed."""

    node: Node
    """Whose value it is; not the node that was asked about where the value arrives over a link."""
    input: str
    place: Path
    value: Any


def find_input(workflow: Workflow, node: Node, name: str, knowledge: Knowledge) -> Spot | Text:
    """Where the input's value stands, or why it cannot be changed."""
    if node.id in workflow.ambiguous:
        return text("Two nodes have the id {id}; which of them failed cannot be told.", id=node.id)
    if workflow.form == "api":
        inputs = node.raw.get("inputs")
        value = inputs.get(name) if isinstance(inputs, dict) else None
        if value is None:
            return text("{node} has no input {input}.", node=called(node), input=name)
        if not is_link(value):
            return Spot(node, name, (*node.place, "inputs", name), value)
    elif name not in workflow.linked_inputs(node):
        return _widget(node, name, knowledge)
    source = workflow.source(node, name)
    if isinstance(source, Border):
        return _promoted(workflow, node, name, source, knowledge)
    if source is None:
        return text("{input} of {node} is linked to nothing that is there.", input=name, node=called(node))
    return _constant(workflow, node, name, source, knowledge)


def called(node: Node) -> str:
    """What to call a node in a sentence."""
    return f"{node.type} #{node.id}"


def _constant(workflow: Workflow, node: Node, name: str, source: Node, knowledge: Knowledge) -> Spot | Text:
    """The number that arrives over a link, where the other node holds nothing else and nobody else takes it."""
    known = knowledge.of(source.type)
    if known is None or known.constant is None:
        return text(
            "{input} of {node} is linked: {source} computes it. Change it there, or unlink the input, by hand.",
            input=name,
            node=called(node),
            source=called(source),
        )
    takers = [(other, key) for other, key in workflow.consumers(source) if (other.place, key) != (node.place, name)]
    if takers:
        return text(
            "{input} of {node} comes from {source}, which feeds {first} too; change it there by hand.",
            input=name,
            node=called(node),
            source=called(source),
            first=f"{takers[0][1]} of {called(takers[0][0])}",
        )
    if source.id in workflow.ambiguous or source.muted:
        return text("{input} of {node} is linked to {source}.", input=name, node=called(node), source=called(source))
    return find_input(workflow, source, known.constant, knowledge)


def _widget(node: Node, name: str, knowledge: Knowledge) -> Spot | Text:
    """A widget's value, by its name or by its place among the values."""
    values = node.raw.get("widgets_values")
    place = (*node.place, "widgets_values")
    if isinstance(values, dict):
        if name in values:
            return Spot(node, name, (*place, name), values[name])
        return text("{node} has no value for {input}.", node=called(node), input=name)
    known = knowledge.of(node.type)
    names = known.widgets if known else None
    if names is None or known is None:
        return text(
            "{node}: which of its values is {input} is not known here. Name the server with --server, or its "
            "/object_info with --object-info.",
            node=called(node),
            input=name,
        )
    if not isinstance(values, list) or name not in names:
        return text("{node} has no value for {input}.", node=called(node), input=name)
    number = names.index(name)
    if number >= len(values) or len(values) > max(len(names), number + 1) or not _plausible(names, values, known):
        return text(
            "{node} has other values than its type is known to have; its version may be another. Change {input} by hand.",
            node=called(node),
            input=name,
        )
    return Spot(node, name, (*place, number), values[number])


def _plausible(names: tuple[str, ...], values: list[Any], known: NodeType) -> bool:
    """Whether each value is of the kind that its widget holds, as far as that is known."""
    for name, value in zip(names, values, strict=False):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in known.bounds and not number:
            return False
        if name in known.choices and not isinstance(value, str):
            return False
        if name == CONTROL and not isinstance(value, str):
            return False
    return True


def _promoted(workflow: Workflow, node: Node, name: str, border: Border, knowledge: Knowledge) -> Spot | Text:
    """A widget that a subgraph shows on the node that stands for it: the value is there, or still within."""
    host = border.node
    subgraph = workflow.subgraphs[host.subgraph or ""][1]
    inputs = subgraph.get("inputs")
    shown: list[Mapping[str, Any]] = []
    if isinstance(inputs, list):
        shown = [entry for entry in inputs if isinstance(entry, dict)]
    links = next((entry.get("linkIds") for entry in shown if entry.get("name") == border.input), None)
    if isinstance(links, list) and len(links) > 1:
        return text(
            "{input} of {node} comes from the subgraph's input {border}, which feeds more than this; change it there by hand.",
            input=name,
            node=called(node),
            border=border.input,
        )
    values = host.raw.get("widgets_values")
    if isinstance(values, list) and values:
        number = _place_among(host, shown, border.input, len(values))
        if number is None:
            return text(
                "{input} of {node} is set on {host}, but which of its values it is cannot be told; change it there by hand.",
                input=name,
                node=called(node),
                host=called(host),
            )
        if values[number] is not None:
            return Spot(host, border.input, (*host.place, "widgets_values", number), values[number])
    elif isinstance(values, dict) and border.input in values:
        return Spot(host, border.input, (*host.place, "widgets_values", border.input), values[border.input])
    return _widget(node, name, knowledge)


def _place_among(host: Node, shown: list[Mapping[str, Any]], name: str, count: int) -> int | None:
    """Which of the values of a node that stands for a subgraph belongs to one of the subgraph's inputs."""
    properties = host.raw.get("properties")
    proxies = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    names: list[Any]
    if isinstance(proxies, list):
        pairs = [pair for pair in proxies if isinstance(pair, list) and len(pair) == 2]
        for names in (
            [pair[1] if str(pair[0]) == "-1" else None for pair in pairs],
            [pair[1] for pair in pairs if str(pair[0]) == "-1"],
        ):
            if len(names) == count and names.count(name) == 1:
                return names.index(name)
        return None
    names = [entry.get("name") for entry in shown if entry.get("type") in _WIDGET_TYPES]
    return names.index(name) if len(names) == count and names.count(name) == 1 else None
