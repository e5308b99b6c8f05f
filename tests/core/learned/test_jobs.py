"""What is read off a workflow: its kind, and its size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.core.learned.jobs import SizedNode, share_left, smaller
from gpuwatch.core.learned.reading import ran_of
from gpuwatch.core.workflow.graph import NotWorkflow, read_workflow
from tests.core.learned.samples import ran
from tests.standin.prompts import TINY, painting, workflow
from tests.workflows import knowledge


def text_to_picture(width: int, height: int, batch: int = 1, **sampler: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl/base_1.0.safetensors"}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": width, "height": height, "batch_size": batch}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a secret.wish about 512 ducks"}},
        "4": {"class_type": "KSampler", "inputs": {"model": ["1", 0], "latent_image": ["2", 0], "seed": 5, **sampler}},
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0]}},
    }


def test_jobs_of_other_sizes_seeds_and_words_are_of_one_kind() -> None:
    one, other = ran(text_to_picture(1024, 768)), ran(text_to_picture(512, 512, 4, seed=77, steps=30))
    assert one.kind == other.kind
    assert (one.pixels, other.pixels) == (1024 * 768, 4 * 512 * 512)
    assert one.kind.settings == ("base_1.0.safetensors",)
    assert (one.sized.type, dict(one.sized.sizes)) == ("EmptyLatentImage", {"width": 1024, "height": 768})
    assert "EmptyLatentImage" not in one.kind.nodes
    assert "wish" not in repr(one)


def test_another_model_precision_or_tile_is_another_kind() -> None:
    plain = ran(painting(512, 512))
    other = painting(512, 512)
    for name, value in (
        ("model", "quill.safetensors"),
        ("precision", "fp16"),
        ("tile_size", 256),
        ("mode", "fp8_e4m3fn"),
    ):
        changed = painting(512, 512)
        changed["5"]["inputs"][name] = value
        assert ran(changed).kind != plain.kind
    other["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}}
    assert ran(other).kind == plain.kind


def test_sizes_stand_in_many_inputs_and_behind_links() -> None:
    assert ran(workflow(768, TINY)).pixels == 768**2
    linked = painting(512, 512)
    linked["7"] = {"class_type": "PrimitiveInt", "inputs": {"value": 832}}
    linked["5"]["inputs"]["width"] = ["7", 0]
    assert ran(linked).pixels == 832 * 512
    video = painting(640, 480)
    video["5"]["inputs"]["length"] = 81
    assert ran(video).pixels == 640 * 480 * 81
    area = painting(1, 1)
    area["8"] = {"class_type": "ImageScaleToTotalPixels", "inputs": {"megapixels": 1.5}}
    assert ran(area).pixels == int(1.5 * 2**20)


@pytest.mark.parametrize(
    "inputs",
    [{}, {"width": 0, "height": 512}, {"width": -5, "height": 5}, {"width": "512", "height": 512}, {"width": True, "height": True},
     {"width": 10**9, "height": 10**9}, {"width": float("nan"), "height": 3}, {"width": ["9", 0], "height": 4}, {"width": 512}],
)  # fmt: skip
def test_where_no_size_can_be_read_nothing_is(inputs: dict[str, Any]) -> None:
    assert ran_of(read_workflow({"5": {"class_type": "GWPainter", "inputs": inputs}})) is None


def test_both_forms_of_one_workflow_are_of_one_kind() -> None:
    ui = {
        "nodes": [
            {"id": 5, "type": "EmptyLatentImage", "widgets_values": [832, 1216, 1], "inputs": [], "outputs": []},
            {"id": 4, "type": "CheckpointLoaderSimple", "widgets_values": ["sdxl/base_1.0.safetensors"]},
            {"id": 6, "type": "KSampler", "widgets_values": [1, "fixed", 20, 8, "euler", "normal", 1]},
            {"id": 7, "type": "CLIPTextEncode", "widgets_values": ["ducks"]},
            {"id": 8, "type": "VAEDecode"},
            {"id": 9, "type": "VAEDecode", "mode": 4},
            {"id": 10, "type": "SaveImage", "widgets_values": ["x"]},
        ],
        "links": [],
    }
    found = ran_of(read_workflow(ui), knowledge())
    assert found is not None
    assert found.kind == ran(text_to_picture(832, 1216)).kind
    assert found.pixels == 832 * 1216


@given(
    st.dictionaries(st.text(max_size=5), st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["class_type", "inputs", "width", "height", "batch_size", "size", "model"]), inner, max_size=6),
        max_leaves=25), max_size=4)
)  # fmt: skip
def test_whatever_a_server_sends_is_read_or_is_none(value: dict[str, Any]) -> None:
    try:
        found = ran_of(read_workflow(value))
    except NotWorkflow:
        return
    assert found is None or 1 <= found.pixels <= 1 << 50


@given(st.integers(8, 4096), st.integers(8, 4096), st.floats(0.001, 0.999))
def test_smaller_sizes_leave_no_more_than_their_share(width: int, height: int, share: float) -> None:
    sized = SizedNode("1", "X", {"width": width, "height": height})
    sizes = smaller(sized, share)
    if sizes is not None:
        assert sizes["width"] * sizes["height"] <= width * height * share_left(sized, sizes) * (1 + 1e-9)
        assert share_left(sized, sizes) <= share * (1 + 1e-9)
        step = next(step for step in (64, 32, 16, 8, 1) if width % step == height % step == 0)
        assert sizes["width"] % step == sizes["height"] % step == 0
