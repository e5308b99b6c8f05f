"""Plans for the tests of what is to change in a workflow, and workflows in short."""

from __future__ import annotations

from typing import Any

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.balance import Balance
from gpuwatch.core.workflow.changes import Card, Plan
from gpuwatch.core.workflow.graph import Workflow, read_workflow
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.plan import plan_fix
from gpuwatch.core.workflow.trouble import Trouble
from tests.workflows import knowledge

GIB = 1 << 30
WORKLOADS = load_workloads()
HALF = Balance(
    total_bytes=12 * GIB, free_bytes=GIB, tried_bytes=2 * GIB, allocated_bytes=9 * GIB, reserved_bytes=9 * GIB
)


def planned(
    workflow: Workflow, *troubles: Trouble, gib: float = 12, known: Knowledge | None = None, **more: Any
) -> Plan:
    return plan_fix(workflow, troubles, Card(round(gib * GIB)), WORKLOADS, known or knowledge(), **more)


def changes(plan: Plan) -> list[tuple[str, str, Any, Any]]:
    return [(change.node.id, change.input, change.before, change.after) for change in plan.changes]


def api(**nodes: Any) -> Workflow:
    return read_workflow({name[1:]: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()})


def hires() -> dict[str, Any]:
    """Two samplers with an upscale between them, as people make large pictures."""
    return {
        "_1": ("EmptyLatentImage", {"width": 1024, "height": 768, "batch_size": 1}),
        "_2": ("KSampler", {"latent_image": ["1", 0], "seed": 1}),
        "_3": ("LatentUpscaleBy", {"samples": ["2", 0], "upscale_method": "bislerp", "scale_by": 2.0}),
        "_4": ("KSampler", {"latent_image": ["3", 0], "seed": 1}),
        "_5": ("VAEDecode", {"samples": ["4", 0]}),
    }
