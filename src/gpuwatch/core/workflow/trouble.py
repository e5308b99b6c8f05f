"""What failed, as far as a log or a job's end told it, and the nodes of a workflow that it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.core.balance import Balance, balance_of
from gpuwatch.core.incidents import Frame, Incident
from gpuwatch.core.rules import MEMORY_LABELS
from gpuwatch.core.workflow.graph import Node, Workflow
from gpuwatch.core.workflow.nodes import Knowledge, Where
from gpuwatch.core.workloads import Workloads
from gpuwatch.texts import Text, text

PICTURES = frozenset({
    "latent_image", "latent", "latents", "samples", "image", "images", "pixels", "video_latent", "av_latent", "start_image",
    "input", "frames",
})  # fmt: skip
"""Names of inputs that bring the picture or video that a node works on."""
_LABELS = MEMORY_LABELS | {"mps_oom", "directml_oom"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """One failure for want of GPU memory."""

    node_id: str | None = None
    node_type: str | None = None
    pack: str | None = None
    frames: tuple[Frame, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    balance: Balance = field(default_factory=Balance)
    fragmented: bool = False

    def ran(self, file: str, function: str) -> bool:
        """Whether the traceback passes through a function of a source file."""
        return any(
            frame.function == function and frame.file.replace("\\", "/").endswith("/" + file) for frame in self.frames
        )


def troubles_of(incidents: Iterable[Incident]) -> list[Trouble]:
    """The failures for want of memory among incidents, each node once, as it failed last."""
    found: dict[tuple[str | None, str | None, str | None], Trouble] = {}
    for incident in incidents:
        if incident.label not in _LABELS or incident.state == "recovered":
            continue
        node = incident.node
        trouble = Trouble(
            node.id,
            node.type,
            node.pack,
            incident.frames,
            node.inputs,
            balance_of(incident.facts),
            incident.label == "cuda_oom_fragmentation",
        )
        key = (node.id, node.type, node.pack)
        found.pop(key, None)
        found[key] = trouble
    return list(found.values())


def failed_nodes(workflow: Workflow, trouble: Trouble, workloads: Workloads, knowledge: Knowledge) -> list[Node] | Text:
    """The nodes of this workflow that a failure means, or why none does. By id, else by type, else by the traceback."""
    if trouble.node_id is not None:
        node = workflow.node(trouble.node_id)
        if node is not None and trouble.node_type in (None, node.type):
            return [node]
        if trouble.node_type is None:
            return text("The failed node {id} is not in this workflow.", id=trouble.node_id)
    if trouble.node_type is not None:
        nodes = workflow.of_type(trouble.node_type)
        if nodes:
            return nodes
        other = workflow.node(trouble.node_id) if trouble.node_id else None
        if other is not None:
            return text(
                "The failed node {id} was a {type}; here it is a {other}. Is this the workflow that failed?",
                id=trouble.node_id,
                type=trouble.node_type,
                other=other.type,
            )
        return text("The failed node, {type}, is not in this workflow.", type=trouble.node_type)
    profile = workloads.find(None, trouble.pack) if trouble.pack else None
    if profile is not None:
        return workflow.of_type(*profile.node_types) or text(
            "The failed node, {type}, is not in this workflow.", type=profile.node_types[0]
        )
    where = where_of(trouble, knowledge)
    if where is None:
        return text("The failure does not tell which node it was.")
    return workflow.of_type(*where.types) or text(
        "The failure was in {function} of {file}, and no node here calls it.", function=where.function, file=where.file
    )


def where_of(trouble: Trouble, knowledge: Knowledge) -> Where | None:
    """The first place in the traceback that tells which nodes were at work."""
    return next((where for where in knowledge.traces if trouble.ran(where.file, where.function)), None)


def upstream(workflow: Workflow, node: Node, *, pictures: bool = False) -> list[Node]:
    """The nodes that a node's result comes from, nearest first, without itself.

    With `pictures` only over the inputs that bring what is worked on, not what guides it.
    """
    found: dict[str, Node] = {}
    edge = [node]
    while edge:
        nearer, edge = edge, []
        for each in nearer:
            for name in workflow.linked_inputs(each):
                if pictures and name not in PICTURES:
                    continue
                source = workflow.source(each, name)
                if isinstance(source, Node) and source.id not in found and source.id != node.id:
                    found[source.id] = source
                    edge.append(source)
    return list(found.values())
