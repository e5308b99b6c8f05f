"""Nodes that a profile knows: the largest size that fits, the smaller network, and why neither."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gpuwatch.core.workflow.graph import read_workflow
from gpuwatch.core.workflow.nodes import Bounds, Knowledge
from gpuwatch.core.workflow.places import edited
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.texts import render
from tests.core.workflow.planning import GIB, changes, planned
from tests.workflows import OURS, as_prompt, complaints, knowledge, loaded, object_info, told_knowledge


@pytest.mark.parametrize("gib", [4, 6, 8, 12])
@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_what_is_changed_fits_the_card_and_the_server_takes_it(path: Any, gib: int) -> None:
    workflow = read_workflow(json.loads(path.read_text()))
    plan = planned(workflow, gib=gib, known=told_knowledge())
    for outlook in plan.outlooks:
        assert outlook.fits == "yes"
        assert outlook.need_bytes is not None
        assert outlook.need_bytes.high <= gib * GIB
    again = read_workflow(edited(workflow.value, plan.edits))
    assert complaints(as_prompt(again, told_knowledge()), object_info()) == []
    assert not planned(again, gib=gib, known=told_knowledge()).changes
    assert bool(plan.changes) or "2048" not in path.name
    assert not plan.changes or "ddcolor" in path.name


def test_the_largest_size_that_fits_is_taken_within_the_nodes_own_bounds() -> None:
    workflow = loaded("ddcolor_modelscope_1280.json")
    ((_node, name, before, after),) = changes(planned(workflow, gib=6))
    assert (name, before) == ("model_input_size", 1280)
    larger = edited(workflow.value, planned(workflow, gib=6).edits)
    larger["3"]["inputs"]["model_input_size"] = after + 32
    assert planned(read_workflow(larger), gib=6).changes
    ours = knowledge().shipped["DDColor_Colorize"]
    coarse = replace(ours, bounds={"model_input_size": Bounds(256, 4096, 256)})
    bound = Knowledge({**knowledge().shipped, "DDColor_Colorize": coarse})
    assert changes(planned(workflow, gib=6, known=bound))[0][3] == after // 256 * 256


def test_a_subgraphs_node_is_changed_within_it() -> None:
    plan = planned(loaded("ddcolor_modelscope_2048_subgraph.ui.json"), Trouble("4:2", "DDColor_Colorize"), gib=8)
    assert [change[:3] for change in changes(plan)] == [("4:2", "model_input_size", 2048)]


def test_the_smaller_network_where_the_person_wants_the_size() -> None:
    workflow = loaded("ddcolor_modelscope_1280.json")
    plan = planned(workflow, gib=7, keep_size=True)
    assert changes(plan) == [("3", "checkpoint", "ddcolor_modelscope.pth", "ddcolor_paper_tiny.pth")]
    without = told_knowledge().told["DDColor_Colorize"]
    without = replace(without, choices={"checkpoint": ("ddcolor_modelscope.pth",)})
    only = Knowledge(knowledge().shipped, {"DDColor_Colorize": without})
    assert [change[1] for change in changes(planned(workflow, gib=7, keep_size=True, known=only))] == [
        "model_input_size"
    ]


def test_the_smaller_network_where_no_size_of_the_large_one_fits() -> None:
    plan = planned(loaded("ddcolor_modelscope_1280.ui.json"), gib=1.5)
    assert {change[1] for change in changes(plan)} == {"checkpoint", "model_input_size"}
    assert plan.fits == "yes"


def test_a_card_on_which_nothing_fits_is_said_to_be() -> None:
    plan = planned(loaded("ddcolor_modelscope_1280.json"), gib=0.5)
    assert (plan.changes, plan.fits) == ((), "no")
    assert "not even the smallest size" in render(plan.unfixable[0])


def test_a_job_that_fits_is_not_made_smaller() -> None:
    plan = planned(loaded("ddcolor_paper_tiny_1024.json"), Trouble("3", "DDColor_Colorize"), gib=8)
    assert not plan.changes
    assert "something else held its memory" in render(plan.unfixable[0])


def test_a_size_that_the_network_does_not_take_is_mended() -> None:
    value = json.loads(OURS[0].read_text())
    value["3"]["inputs"]["model_input_size"] = 720
    plan = planned(read_workflow(value), gib=12)
    assert changes(plan) == [("3", "model_input_size", 720, 704)]


@pytest.mark.parametrize("side", [0, -5, 31, -(2**40)])
def test_a_size_that_nothing_can_have_meant_becomes_the_default(side: int) -> None:
    node = {
        "class_type": "DDColor_Colorize",
        "inputs": {"model_input_size": side, "checkpoint": "ddcolor_paper_tiny.pth"},
    }
    plan = planned(read_workflow({"3": node}), gib=8)
    assert [(change.before, change.after) for change in plan.changes] == [(side, 512)]


def test_two_nodes_share_the_card() -> None:
    value = json.loads(OURS[0].read_text())
    value["5"] = json.loads(json.dumps(value["3"]))
    alone = changes(planned(loaded("ddcolor_modelscope_1280.json"), gib=6))[0][3]
    both = changes(planned(read_workflow(value), gib=6))
    assert {change[0] for change in both} == {"3", "5"}
    assert all(change[3] < alone for change in both)


def test_a_size_over_a_link_is_told_and_not_guessed() -> None:
    value = json.loads(OURS[0].read_text())
    value["7"] = {"class_type": "ComputeSize", "inputs": {}}
    value["3"]["inputs"]["model_input_size"] = ["7", 0]
    plan = planned(read_workflow(value), Trouble("3", "DDColor_Colorize", inputs={"model_input_size": 1280}), gib=6)
    words = " ".join(render(why) for why in plan.unfixable)
    assert not plan.changes
    assert "ComputeSize #7 computes it" in words
    assert "By hand: set model_input_size of DDColor_Colorize #3 to " in words
