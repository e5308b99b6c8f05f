"""The advice to use gpuwatch's node: given where the same size then fits, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwatch.core.case import Surroundings
from gpuwatch.core.diagnosis import Fix
from gpuwatch.faces.report import fix_json
from gpuwatch.texts import render
from tests.core.test_advice import GIB, SIX_GIB_CARD, WORKLOADS, fix, told

LARGE = {"checkpoint": "ddcolor_modelscope.pth"}


def card(total_gib: float, **more: Any) -> Any:
    return told({"tried_bytes": GIB, **more}, Surroundings(WORKLOADS, gpu_total_bytes=round(total_gib * GIB)), **LARGE)


def switch(total_gib: float, **inputs: Any) -> Fix | None:
    around = Surroundings(WORKLOADS, gpu_total_bytes=round(total_gib * GIB))
    return fix(told({"tried_bytes": GIB}, around, **{**LARGE, **inputs}), "switch_node")


def test_it_comes_second_to_the_smaller_size_and_keeps_the_size() -> None:
    diagnosis = told(SIX_GIB_CARD)
    actions = [each.action for each in diagnosis.fixes]
    assert actions.index("switch_node") == actions.index("shrink_size") + 1
    found = fix(diagnosis, "switch_node")
    assert found is not None
    assert found.predicted is not None
    assert found.predicted.fits == "yes"
    assert found.predicted.peak_bytes < 3.5 * GIB
    assert "keep model_input_size 1280" in render(found.title)
    assert found.safety == "restarts"
    told_json = fix_json(found)
    assert told_json["command"] == "gpuwatch node install COMFYUI_DIR"
    assert told_json["params"] == {
        "node_type": "DDColor_Colorize",
        "to": "GpuwatchDDColor",
        "inputs": {"low_memory": "fold"},
    }


@pytest.mark.parametrize(
    ("total_gib", "size", "advised"),
    [
        (6, 1280, True),
        (3, 1280, True),
        (24, 1280, False),  # the stock node fits: something else was in the way
        (1, 1280, False),  # not even the rewrite fits
        (2, 720, False),  # no network runs at 720
        (24, 2912, True),  # beyond the stock node's indices, whatever the memory
        (4, 4096, False),
    ],
)
def test_only_where_it_helps(total_gib: float, size: int, advised: bool) -> None:
    found = switch(total_gib, model_input_size=size)
    assert (found is not None) == advised


def test_without_a_size_nothing_is_promised() -> None:
    assert fix(card(6), "switch_node") is None
