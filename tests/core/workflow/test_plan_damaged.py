"""Workflows and servers that make no sense: refused or planned for, and never made worse."""

from __future__ import annotations

import json
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from gpuwatch.core.workflow.graph import NotWorkflow, read_workflow
from gpuwatch.core.workflow.nodes import Bounds, told_type
from gpuwatch.core.workflow.places import Edit, edited, edited_text
from gpuwatch.core.workflow.places import Path as Place
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.texts import render
from tests.core.workflow.planning import HALF, planned
from tests.workflows import knowledge, loaded, told_knowledge

JUNK = [None, True, -1, 0, 1e308, 10**30, "", "x", [], {}, [1, 2], ["1", 0], {"a": 1}, -10, -20, [[1, 2, 3, 4, 5, 6]]]


def places(value: Any, here: Place = ()) -> list[Place]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, each in inner for place in places(each, (*here, key)))]


@pytest.mark.parametrize(
    "name", ["sd15.json", "ddcolor_modelscope_2048_subgraph.ui.json", "templates/01_qwen_t2i_subgraphed.json"]
)
def test_a_damaged_workflow_is_refused_or_planned_for_and_never_worse(name: str) -> None:
    whole = loaded(name).value
    anywhere = [place for place in places(whole) if place]
    random = Random(name)  # noqa: S311 - the same damage each time
    troubles = [Trouble(node_type=kind, balance=HALF) for kind in ("KSampler", "VAEDecode", "DDColor_Colorize")]
    for _round in range(150):
        value = whole
        for place in random.sample(anywhere, 6):
            with suppress(LookupError, TypeError):
                value = edited(value, [Edit(place, random.choice(JUNK))])
        try:
            workflow = read_workflow(value)
        except NotWorkflow:
            continue
        plan = planned(workflow, *troubles, gib=6, known=random.choice([knowledge(), told_knowledge()]))
        assert json.loads(edited_text(json.dumps(value), plan.edits)) == edited(value, plan.edits)
        assert all(render(words) for words in (*plan.unfixable, *plan.notes))


def test_bounds_that_make_no_sense_are_not_taken_from_a_server() -> None:
    told = told_type(
        "A", {"input": {"required": {"x": ["INT", {"min": float("nan"), "max": "9", "step": 0}], "y": [{}, 5]}}}
    )
    assert told is not None
    assert told.bounds == {"x": Bounds(0, 2**53, 1)}
