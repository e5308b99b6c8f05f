"""gpuwatch's own node in a workflow: reckoned as it runs, and its exact rewrite before a smaller size."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.workflow.changes import Card
from gpuwatch.core.workflow.graph import read_workflow
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.plan import plan_fix

GIB = 1 << 30
LARGE = "ddcolor_modelscope.pth"


def changed(gib: int, **inputs: Any) -> dict[str, Any]:
    node = {"class_type": "GpuwatchDDColor", "inputs": {"image": ["1", 0], "checkpoint": LARGE, **inputs}}
    workflow = read_workflow({"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}, "2": node})
    plan = plan_fix(workflow, [], Card(gib * GIB), load_workloads(), Knowledge())
    assert plan.fits == "yes"
    return {change.input: change.after for change in plan.changes}


@pytest.mark.parametrize("inputs", [{}, {"low_memory": "fold"}, {"low_memory": "fold", "precision": "fp32"}])
def test_what_fits_as_the_node_runs_it_is_left_alone(inputs: dict[str, Any]) -> None:
    assert changed(6, model_input_size=1280, **inputs) == {}


def test_the_exact_rewrite_goes_before_a_smaller_size() -> None:
    assert changed(6, model_input_size=1280, low_memory="off", precision="fp32") == {"low_memory": "fold"}
    both = changed(2, model_input_size=1280, low_memory="off", precision="fp32")
    assert both["low_memory"] == "fold"
    assert 640 <= both["model_input_size"] < 1280


def test_without_a_rewrite_left_the_size_gets_smaller() -> None:
    assert set(changed(2, model_input_size=1280, low_memory="fold")) == {"model_input_size"}
