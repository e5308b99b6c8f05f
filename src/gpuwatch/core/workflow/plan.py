"""What is to change in a workflow so that it fits a card: the way from failures to edits, for files and for prompts alike."""

from __future__ import annotations

from collections.abc import Sequence

from gpuwatch.core.learned.runs import Learned
from gpuwatch.core.workflow.changes import Card, Draft, Plan, Work
from gpuwatch.core.workflow.graph import Node, Workflow
from gpuwatch.core.workflow.inputs import called
from gpuwatch.core.workflow.levers import plan_levers
from gpuwatch.core.workflow.measured import plan_measured
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.sized import plan_sized
from gpuwatch.core.workflow.tiling import plan_tiling
from gpuwatch.core.workflow.trouble import Trouble, failed_nodes
from gpuwatch.core.workload import WorkloadProfile
from gpuwatch.core.workloads import Workloads
from gpuwatch.texts import Text, text

_NOTHING_LEARNED = Learned()


def plan_fix(
    workflow: Workflow,
    troubles: Sequence[Trouble],
    card: Card,
    workloads: Workloads,
    knowledge: Knowledge,
    *,
    keep_size: bool = False,
    learned: Learned = _NOTHING_LEARNED,
) -> Plan:
    """Plan for every failure that this workflow has; without one, for the nodes whose predicted need the card lacks.

    `learned` is what jobs took on this machine.
    """
    draft = Draft()
    work = Work(workflow, card, knowledge, draft)
    failed: dict[str, tuple[Node, Trouble | None]] = {}
    for trouble in troubles:
        nodes = failed_nodes(workflow, trouble, workloads, knowledge)
        if isinstance(nodes, Text):
            draft.cannot(nodes)
            continue
        if len(nodes) > 1:
            draft.note(
                text(
                    "Which of the {count} nodes of type {type} failed is not told; each is looked at.",
                    count=len(nodes),
                    type=nodes[0].type,
                )
            )
        for node in nodes:
            # Where one of several of a profile failed, its size tells which needs less: the others did not fail.
            sure = len(nodes) == 1 or not any(node.type in profile.node_types for profile in workloads.profiles)
            failed[node.id] = (node, trouble if sure else None)
    profiled: dict[str, tuple[Node, WorkloadProfile]] = {
        node.id: (node, profile) for profile in workloads.profiles for node in workflow.of_type(*profile.node_types)
    }
    for node, _profile in profiled.values():
        failed.setdefault(node.id, (node, None))
    for node_id, (node, own) in failed.items():
        if node_id in profiled:
            profile = profiled[node_id][1]
            others = [other for other, same in profiled.values() if other is not node and same is profile]
            plan_sized(work, node, profile, others, own, keep_size=keep_size)
        elif own is not None and not (plan_measured(work, learned, node) or plan_tiling(work, node, own)):
            plan_levers(work, node, own)
    for change in draft.changes.values():
        if change.node.copies > 1:
            draft.note(
                text(
                    "{node} is in a subgraph that is used {count} times: the value changes in all of them.",
                    node=called(change.node),
                    count=change.node.copies,
                )
            )
    if troubles and failed and not draft.changes and not draft.unfixable:
        draft.cannot(
            text(
                "Each node that may have failed fits this card by itself: something else held its memory. Free that first "
                "(`POST /free` with free_memory), or close other programs on the card."
            )
        )
    if not failed and not draft.unfixable and not plan_measured(work, learned):
        draft.cannot(
            text(
                "No node here is known to need much, and no failure was told: give the log with --log, or the failed "
                "job with --error."
            )
        )
    return draft.done()
