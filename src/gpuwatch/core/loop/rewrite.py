"""The fix that keeps the picture: gpuwatch's own DDColor node in the place of the stock one, with its exact rewrite.

It takes the stock node's inputs and links; only its type changes and one value is added. It can be tried where the server
says that it has the node, and the rewritten network surely fits where the stock one does not.
"""

from __future__ import annotations

from gpuwatch.core.memory.simulate import Size
from gpuwatch.core.planners import REWRITING_NODE
from gpuwatch.core.workflow.changes import Card, Change, Draft, Outlook, Plan, Work
from gpuwatch.core.workflow.graph import Node, Workflow
from gpuwatch.core.workflow.inputs import Spot, find_input
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.places import Edit
from gpuwatch.core.workflow.sized import room_of
from gpuwatch.core.workflow.trouble import Trouble, failed_nodes
from gpuwatch.core.workload import WorkloadProfile, fits, predict
from gpuwatch.core.workloads import Workloads
from gpuwatch.texts import Text, text

INPUT, REWRITE = "low_memory", "fold"
_WORKLOAD = "ddcolor"


def plan_rewrite(
    workflow: Workflow, trouble: Trouble, card: Card, workloads: Workloads, knowledge: Knowledge
) -> Plan | None:
    """The failed node as the rewriting one, at its size; None where that cannot be or is not sure to fit."""
    profile = workloads.named(_WORKLOAD)
    ours = knowledge.told.get(REWRITING_NODE)
    if profile is None or ours is None or REWRITE not in ours.choices.get(INPUT, ()):
        return None
    nodes = failed_nodes(workflow, trouble, workloads, knowledge)
    if isinstance(nodes, Text) or len(nodes) != 1 or nodes[0].type not in profile.node_types:
        return None
    if workflow.form != "api" or not isinstance(nodes[0].raw.get("inputs"), dict):
        return None
    work = Work(workflow, card, knowledge, Draft())
    return _planned(work, nodes[0], trouble, profile)


def _planned(work: Work, node: Node, trouble: Trouble, profile: WorkloadProfile) -> Plan | None:
    workflow, card, knowledge = work.workflow, work.card, work.knowledge
    size = find_input(workflow, node, profile.size_input, knowledge)
    checkpoint = find_input(workflow, node, profile.checkpoint_input, knowledge)
    side = size.value if isinstance(size, Spot) else trouble.inputs.get(profile.size_input)
    name = checkpoint.value if isinstance(checkpoint, Spot) else trouble.inputs.get(profile.checkpoint_input)
    variant = profile.variant_of(name if isinstance(name, str) else None)
    if isinstance(side, bool) or not isinstance(side, int) or variant is None:
        return None
    if profile.invalid(Size(side, side), REWRITE) is not None:
        return None
    room = room_of(card, profile, trouble.balance)
    need = predict(
        profile, variant, side, rewrite=REWRITE, context_bytes=room.context_bytes, room_bytes=room.torch_bytes
    )
    if fits(need, room.torch_bytes) != "yes":
        return None
    why = text(
        "gpuwatch's node with {input} {rewrite} at {side}: at most {need_bytes}. The same picture: colours agree to 1e-5.",
        input=INPUT,
        rewrite=REWRITE,
        side=side,
        need_bytes=need.process_bytes.high,
    )
    edits = (Edit((*node.place, "class_type"), REWRITING_NODE), Edit((*node.place, "inputs"), added={INPUT: REWRITE}))
    change = Change(node, "class_type", node.type, REWRITING_NODE, why, edits)
    return Plan((change,), (Outlook(node, "yes", need.process_bytes, None, card.total_bytes - card.used_bytes),))
