"""Nodes of which only what they have is known: less of it, by the share of the failed request that was free."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwatch.core.incidents import Frame
from gpuwatch.core.workflow.changes import Card
from gpuwatch.core.workflow.graph import read_workflow
from gpuwatch.core.workflow.nodes import Bounds
from gpuwatch.core.workflow.places import edited
from gpuwatch.core.workflow.plan import plan_fix
from gpuwatch.core.workflow.shrink import fewer, share_of, smaller_area, smaller_factor, smaller_sides
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.texts import render
from tests.core.workflow.planning import GIB, HALF, WORKLOADS, api, changes, hires, planned
from tests.workflows import complaints, knowledge, loaded, object_info, told_knowledge


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
    plan = plan_fix(read_workflow(prompt), [Trouble("3", "DDColor_Colorize")], card, WORKLOADS, told_knowledge())
    new = edited(prompt, plan.edits)
    assert prompt["3"]["inputs"]["model_input_size"] == 1280
    assert new["3"]["inputs"]["model_input_size"] == plan.changes[0].after
    assert complaints(new, object_info()) == []
    assert plan_fix(read_workflow(new), [], card, WORKLOADS, told_knowledge()).changes == ()


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
