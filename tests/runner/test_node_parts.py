"""The node's parts by themselves, here and not in ComfyUI: which checkpoint, which precision, how much it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpuwatch.errors import UsageError
from gpuwatch_runner.comfyui_node import models, node
from gpuwatch_runner.comfyui_node.needs import Needs, images_indexed, read_needs
from tests.core.test_switch_node import switch


def test_checkpoints_are_found_in_gpuwatchs_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUWATCH_DATA_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="in none of"):
        node.find_checkpoint("ddcolor_paper_tiny.pth")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "ddcolor_paper_tiny.pth").touch()
    assert node.find_checkpoint("ddcolor_paper_tiny.pth") == tmp_path / "checkpoints" / "ddcolor_paper_tiny.pth"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b.pth", "/etc/passwd", "a\\b.pth"])
def test_names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a checkpoint"):
        node.find_checkpoint(name)


@pytest.mark.parametrize(
    ("total_bytes", "device", "dtype"), [(8 << 30, "cuda", "fp32"), (1 << 30, "cuda", "fp16"), (1 << 30, "cpu", "fp32")]
)
def test_auto_is_fp32_where_that_fits(
    total_bytes: int, device: str, dtype: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Management:
        def get_torch_device(self) -> torch.device:
            return torch.device(device)

        def get_total_memory(self, _device: torch.device) -> int:
            return total_bytes

    monkeypatch.setattr(node, "management", Management)
    monkeypatch.setattr(node.GpuwatchDDColor, "needs", Needs({("tiny", "none", "fp32", 1): [(512, 2e9)]}))
    chosen = node.GpuwatchDDColor().dtype_for(Path("ddcolor_paper_tiny.pth"), "auto", "none", 512)
    assert chosen == dtype
    assert ("fp16 is used" in caplog.text) == (dtype == "fp16")
    assert node.GpuwatchDDColor().dtype_for(Path("x"), "bf16", "none", 512) == "bf16"


def test_needs_between_and_beyond_their_points(tmp_path: Path) -> None:
    needs = Needs(
        {("tiny", "fold", "fp32", 1): [(512, 100.0), (1024, 400.0)], ("tiny", "fold", "fp32", 2): [(512, 150.0)]}
    )
    assert needs.bytes_of("tiny", "fold", "fp32", 512, 1) == 100
    assert needs.bytes_of("tiny", "fold", "fp32", 512, 4) == 250
    assert needs.bytes_of("tiny", "fold", "fp32", 1024, 1) == 400
    assert needs.bytes_of("tiny", "fold", "fp32", 256, 1) == 100
    assert needs.bytes_of("tiny", "fold", "fp32", 2048, 1) == 1600
    assert needs.bytes_of("tiny", "tail", "fp32", 512, 1) is None
    path = tmp_path / "needs.json"
    for damage in ("", "[]", "{}", '{"passes": [1]}', '{"passes": [{"variant": "tiny"}]}'):
        path.write_text(damage)
        assert read_needs(path) == Needs()
    assert read_needs(tmp_path / "none.json") == Needs()


@pytest.mark.parametrize(
    ("there", "wanted", "elsewhere"),
    [
        ("cpu", "cpu", False),
        ("mps:0", "mps", False),
        ("cuda:0", "cuda", False),
        ("cuda:1", "cuda:0", True),
        ("cpu", "cuda:0", True),
    ],
)
def test_where_weights_are(there: str, wanted: str, elsewhere: bool) -> None:
    assert models._elsewhere(torch.device(there), torch.device(wanted)) == elsewhere


def test_indices_end_before_memory_does() -> None:
    assert images_indexed("none", 2880) == 1
    assert images_indexed("tail", 2912) == 0
    assert images_indexed("none", 1280) == 5
    assert images_indexed("fold", 4096) > 1


def test_the_advice_and_the_node_have_the_same_words() -> None:
    found = switch(6, model_input_size=1280)
    assert found is not None
    assert found.params["to"] == node.NAME
    inputs = node.GpuwatchDDColor.INPUT_TYPES()
    for name, value in found.params["inputs"].items():
        assert value in inputs["optional"][name][0]
