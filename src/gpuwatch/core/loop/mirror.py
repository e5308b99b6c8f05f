"""The editor's own copy of a prompt, changed as the prompt was: it goes into the pictures that are saved.

A picture opened in the editor then shows what made it. Where a value cannot be found there with certainty, the copy stays as it
is and that is said: the API form beside it in the picture is right in any case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gpuwatch.core.workflow.changes import Change
from gpuwatch.core.workflow.graph import Node, NotWorkflow, read_workflow
from gpuwatch.core.workflow.inputs import Spot, find_input
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.places import Edit, edited


def mirrored(
    extra_data: Mapping[str, Any], changes: Iterable[Change], knowledge: Knowledge
) -> Mapping[str, Any] | None:
    """The extra data with its workflow changed; the same where it has none; None where it cannot be changed with certainty."""
    info = extra_data.get("extra_pnginfo")
    value = info.get("workflow") if isinstance(info, dict) else None
    if not isinstance(info, dict) or value is None:
        return extra_data
    try:
        workflow = read_workflow(value)
    except NotWorkflow:
        return None
    edits: list[Edit] = []
    for change in changes:
        node = workflow.node(change.node.id)
        if workflow.form != "ui" or node is None or node.type != change.node.type or node.id in workflow.ambiguous:
            return None
        more = _retyped(node, change, knowledge) if change.input == "class_type" else None
        if more is None and change.input != "class_type":
            spot = find_input(workflow, node, change.input, knowledge)
            if isinstance(spot, Spot) and spot.value == change.before:
                more = [Edit(spot.place, change.after)]
        if more is None:
            return None
        edits += more
    return {**extra_data, "extra_pnginfo": {**info, "workflow": edited(value, edits)}}


def _retyped(node: Node, change: Change, knowledge: Knowledge) -> list[Edit] | None:
    """Another type, with its values in its own order; None where that order is not known."""
    was, now = knowledge.of(str(change.before)), knowledge.of(str(change.after))
    values = node.raw.get("widgets_values")
    if now is None or now.widgets is None or not isinstance(values, list):
        return None
    named = dict(zip((was.widgets if was else None) or (), values, strict=False))
    for edit in change.edits:
        named |= edit.added
    for name in now.widgets:
        if name not in named and now.choices.get(name):
            named[name] = now.choices[name][0]
    if any(name not in named for name in now.widgets):
        return None
    return [
        Edit((*node.place, "type"), change.after),
        Edit((*node.place, "widgets_values"), [named[name] for name in now.widgets]),
    ]
