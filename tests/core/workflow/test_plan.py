"""Which values change, and to what: planners on real workflows."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.balance import Balance
from gpuwatch.core.incidents import Frame
from gpuwatch.core.workflow.changes import Card, Plan
from gpuwatch.core.workflow.graph import NotWorkflow, Workflow, read_workflow
from gpuwatch.core.workflow.nodes import Bounds, Knowledge, told_type
from gpuwatch.core.workflow.places import Edit, edited, edited_text
from gpuwatch.core.workflow.places import Path as Place
from gpuwatch.core.workflow.plan import fixed_prompt, plan_fix
from gpuwatch.core.workflow.shrink import fewer, share_of, smaller_area, smaller_factor, smaller_sides
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.texts import render
from tests.workflows import OURS, as_prompt, complaints, knowledge, loaded, object_info, told_knowledge

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


# -- nodes that a profile knows ------------------------------------------------------------------------------------------


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


# -- nodes that nothing is known of but what they have -------------------------------------------------------------------


def test_a_batch_goes_first_and_the_size_with_what_is_left() -> None:
    workflow = api(
        _1=("EmptyLatentImage", {"width": 1024, "height": 1024, "batch_size": 4}),
        _2=("KSampler", {"latent_image": ["1", 0]}),
    )
    assert changes(planned(workflow, Trouble("2", "KSampler", balance=HALF))) == [("1", "batch_size", 4, 1)]
    tight = replace(HALF, free_bytes=0)
    assert changes(planned(workflow, Trouble("2", "KSampler", balance=tight))) == [("1", "batch_size", 4, 1)]
    two = api(
        _1=("EmptyLatentImage", {"width": 1024, "height": 1024, "batch_size": 2}),
        _2=("KSampler", {"latent_image": ["1", 0]}),
    )
    names = [change[1] for change in changes(planned(two, Trouble("2", "KSampler", balance=tight)))]
    assert names == ["batch_size", "width", "height"]


def test_the_nearest_upscale_goes_before_the_first_size() -> None:
    workflow = api(**hires())
    assert changes(planned(workflow, Trouble("4", "KSampler", balance=HALF))) == [("3", "scale_by", 2.0, 1.37)]
    assert changes(planned(workflow, Trouble("2", "KSampler", balance=HALF)))[0][:2] == ("1", "width")


def test_a_size_keeps_its_shape_and_the_nodes_steps() -> None:
    workflow = loaded("templates/flux_schnell.json")
    plan = planned(workflow, Trouble(node_type="KSampler", balance=HALF))
    values = {change[1]: change[3] for change in changes(plan)}
    assert values["width"] == values["height"] < 1024
    assert values["width"] % 16 == 0
    assert values["width"] * values["height"] <= 1024 * 1024 * 0.475


def test_a_video_gets_shorter_before_it_gets_smaller() -> None:
    workflow = loaded("templates/video_wan2_2_14B_flf2v.json")
    plan = planned(workflow, Trouble(node_type="KSamplerAdvanced", balance=HALF))
    (node_id, name, before, after), *_more = changes(plan)
    assert (workflow.node(node_id).type, name) == ("WanFirstLastFrameToVideo", "length")  # type: ignore[union-attr]
    assert before / 2 <= after + 4 < before
    assert after % 4 == 1


def test_a_number_in_a_node_of_its_own_is_changed_there() -> None:
    workflow = loaded("templates/video_wan_vace_flf2v.json")
    plan = planned(workflow, Trouble(node_type="KSampler", balance=HALF))
    assert [(change.node.type, change.input) for change in plan.changes] == [("PrimitiveInt", "value")]


def test_a_value_that_a_subgraph_shows_is_changed_on_its_node() -> None:
    workflow = loaded("templates/01_qwen_t2i_subgraphed.json")
    plan = planned(workflow, Trouble(node_type="KSampler", balance=HALF))
    assert {(change.node.subgraph is not None, change.input) for change in plan.changes} == {
        (True, "width"),
        (True, "height"),
    }


def test_tiles_get_smaller_where_a_tiled_node_failed() -> None:
    workflow = api(
        _1=("EmptyLatentImage", {"width": 2048, "height": 2048, "batch_size": 1}),
        _5=("VAEDecodeTiled", {"samples": ["1", 0], "tile_size": 512, "overlap": 64}),
        _6=("UltimateSDUpscale", {"image": ["5", 0], "upscale_by": 2.0, "tile_width": 1024, "tile_height": 1024}),
    )
    assert changes(planned(workflow, Trouble("5", "VAEDecodeTiled", balance=HALF))) == [("5", "tile_size", 512, 352)]
    upscale = changes(planned(workflow, Trouble("6", "UltimateSDUpscale", balance=HALF)))
    assert upscale == [("6", "tile_width", 1024, 704), ("6", "tile_height", 1024, 704)]


def test_the_decoder_becomes_the_tiled_one_only_where_the_server_has_it() -> None:
    workflow = loaded("sd15.json")
    failed = Trouble(
        frames=(Frame("/opt/ComfyUI/nodes.py", 295, "decode"), Frame("/opt/ComfyUI/comfy/sd.py", 700, "decode"))
    )
    plan = planned(workflow, failed, known=told_knowledge())
    assert changes(plan) == [("8", "class_type", "VAEDecode", "VAEDecodeTiled")]
    prompt = edited(workflow.value, plan.edits)
    assert complaints(prompt, object_info()) == []
    assert {key: value for key, value in prompt.items() if key != "8"} == {
        key: value for key, value in workflow.value.items() if key != "8"
    }
    assert prompt["8"]["inputs"]["samples"] == workflow.value["8"]["inputs"]["samples"]
    by_version = planned(workflow, failed, known=replace(knowledge(), version=(0, 24, 0)))
    assert changes(by_version) == changes(plan)
    for known in (knowledge(), replace(knowledge(), version=(0, 2, 0)), replace(knowledge(), complete=True)):
        assert {change[1] for change in changes(planned(workflow, failed, known=known))} == {"width", "height"}


def test_tiles_that_the_server_tried_by_itself_are_made_smaller_still() -> None:
    frames = tuple(Frame("/c/comfy/sd.py", line, name) for line, name in enumerate(("decode", "decode_tiled_"), 1))
    plan = planned(loaded("sd15.json"), Trouble(frames=frames), known=told_knowledge())
    assert edited(loaded("sd15.json").value, plan.edits)["8"]["inputs"]["tile_size"] == 256


def test_in_the_editors_form_the_tiled_decoder_gets_its_values_in_order() -> None:
    workflow = loaded("templates/flux_schnell.json")
    (decode,) = workflow.of_type("VAEDecode")
    plan = planned(workflow, Trouble(decode.id, "VAEDecode"), known=replace(knowledge(), version=(0, 3, 64)))
    again = read_workflow(edited(workflow.value, plan.edits)).node(decode.id)
    assert again is not None
    assert (again.type, again.raw["widgets_values"]) == ("VAEDecodeTiled", [512, 64, 64, 8])
    assert again.raw["inputs"] == decode.raw["inputs"]


def test_what_guides_the_picture_is_left_where_the_picture_itself_can_be_smaller() -> None:
    workflow = api(
        _1=("EmptyLatentImage", {"width": 1024, "height": 1024, "batch_size": 1}),
        _2=("ImageScale", {"image": ["9", 0], "width": 512, "height": 512}),
        _3=("ControlNetApply", {"image": ["2", 0]}),
        _4=("KSampler", {"positive": ["3", 0], "latent_image": ["1", 0]}),
    )
    assert {change[0] for change in changes(planned(workflow, Trouble("4", "KSampler", balance=HALF)))} == {"1"}


def test_a_failure_without_numbers_asks_for_half_and_is_uncertain() -> None:
    plan = planned(loaded("sd15.json"), Trouble("3", "KSampler"))
    sides = {change[1]: change[3] for change in changes(plan)}
    assert sides["width"] * sides["height"] <= 128 * 128 / 2
    assert (plan.fits, plan.peak_bytes) == ("uncertain", None)
    assert "no sizes" in render(plan.changes[0].why)


def test_numbers_that_contradict_each_other_are_explained() -> None:
    odd = replace(HALF, free_bytes=5 * GIB)
    plan = planned(loaded("sd15.json"), Trouble("3", "KSampler", balance=odd))
    assert any("more than the 2.00 GiB" in render(note) for note in plan.notes)


def test_several_failures_are_all_helped_and_one_value_goes_to_the_least() -> None:
    workflow = api(**hires())
    plan = planned(workflow, Trouble("2", "KSampler", balance=HALF), Trouble("4", "KSampler", balance=HALF))
    assert [change[0] for change in changes(plan)] == ["1", "1", "3"]
    one = planned(workflow, Trouble("2", "KSampler", balance=HALF))
    tighter = planned(
        workflow, Trouble("2", "KSampler", balance=HALF), Trouble("2", "KSampler", balance=replace(HALF, free_bytes=0))
    )
    assert changes(tighter)[0][3] < changes(one)[0][3]


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (Trouble("77"), "The failed node 77 is not in this workflow"),
        (Trouble("3", "Other"), "here it is a KSampler"),
        (Trouble(None, "Other"), "The failed node, Other, is not in this workflow"),
        (Trouble(pack="ComfyUI-DDColor"), "DDColor_Colorize, is not in this workflow"),
        (Trouble(), "does not tell which node"),
        (Trouble(frames=(Frame("/c/comfy/sd.py", 1, "encode"),)), "no node here calls it"),
        (Trouble("4", "CheckpointLoaderSimple"), "neither it nor a node before it"),
    ],
)
def test_what_cannot_be_helped_is_told_with_the_reason(trouble: Trouble, words: str) -> None:
    plan = planned(loaded("sd15.json"), trouble)
    assert not plan.changes
    assert any(words in render(why) for why in plan.unfixable)


def test_without_a_failure_and_without_a_known_node_nothing_is_done() -> None:
    plan = planned(loaded("image_scale_no_model.json"))
    assert not plan.changes
    assert "--log" in render(plan.unfixable[0])


def test_a_switched_off_node_is_left_alone() -> None:
    value = loaded("ddcolor_modelscope_1280.ui.json").value
    value["nodes"][1]["mode"] = 4
    assert not planned(read_workflow(value), gib=4).changes


def test_a_failed_prompt_is_given_back_ready_to_be_queued() -> None:
    prompt = loaded("ddcolor_modelscope_1280.json").value
    card = Card(6 * GIB)
    new, plan = fixed_prompt(prompt, [Trouble("3", "DDColor_Colorize")], card, WORKLOADS, told_knowledge())
    assert prompt["3"]["inputs"]["model_input_size"] == 1280
    assert new["3"]["inputs"]["model_input_size"] == plan.changes[0].after
    assert complaints(new, object_info()) == []
    same, none = fixed_prompt(new, [], card, WORKLOADS, told_knowledge())
    assert (same, none.changes) == (new, ())


# -- what others wrote, damaged ----------------------------------------------------------------------------------------------

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


# -- the arithmetic --------------------------------------------------------------------------------------------------------


def test_the_share_is_what_was_free_of_what_was_asked() -> None:
    assert share_of(HALF) == pytest.approx(0.475)
    assert share_of(replace(HALF, reserved_bytes=9 * GIB + GIB // 2)) == pytest.approx(0.7125)
    assert share_of(HALF, less_bytes=GIB) == 0.25
    assert share_of(replace(HALF, free_bytes=None)) is None


@pytest.mark.parametrize("share", [0.25, 0.4, 0.7, 0.9])
@pytest.mark.parametrize(("width", "height"), [(1024, 1024), (1920, 1080), (832, 480), (512, 2048), (720, 1280)])
@pytest.mark.parametrize("step", [8, 16, 64])
def test_smaller_sides_are_smaller_by_the_share_and_look_alike(
    width: int, height: int, share: float, step: int
) -> None:
    bounds = Bounds(step, 16384, step)
    wide, high, came_to = smaller_sides(width, height, share, bounds, bounds)
    assert wide % step == high % step == 0
    assert came_to <= share
    assert came_to >= share * (0.5 if step == 64 else 0.8)
    assert abs(wide / high / (width / height) - 1) <= (0.4 if step == 64 else 0.06)


def test_steps_count_from_the_least() -> None:
    frames = Bounds(1, 16384, 4)
    assert [frames.below(value) for value in (80, 81, 84.9, 1)] == [77, 81, 81, 1]
    assert fewer(81, 0.5, frames, 17)[0] == 37
    assert fewer(21, 0.25, frames, 17)[0] == 17
    assert fewer(9, 0.25, frames, 17)[0] == 9
    assert smaller_factor(2.0, 0.25, Bounds(0.05, 4, 0.05, whole=False))[0] == 1.0
    assert smaller_area(1.0, 0.33, Bounds(0.01, 16, 0.01, whole=False))[0] == 0.33
    assert Bounds(32, 4096, 32).takes(1056)
    assert not Bounds(32, 4096, 32).takes(720)
