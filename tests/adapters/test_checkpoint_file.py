"""What a checkpoint file is, told without torch; torch only makes the files."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gpuwatch.adapters import checkpoint_file
from gpuwatch.adapters.checkpoint_file import inspect_file
from gpuwatch.core.checkpoint import LAYOUT_DIGESTS, PUBLISHED, layout_digest
from gpuwatch.errors import UsageError
from gpuwatch_runner.weights import layout
from tests.adapters.checkpoint_samples import Payload, state_of

DDCOLOR = {"tiny": (440, 55_051_016), "large": (602, 227_921_864)}


@pytest.mark.parametrize("variant", ["tiny", "large"])
def test_the_layouts_are_the_networks_own(variant: Any) -> None:
    assert layout_digest((name, tuple(shape)) for name, shape in layout(variant).items()) == LAYOUT_DIGESTS[variant]


@pytest.mark.parametrize("variant", ["tiny", "large"])
@pytest.mark.parametrize("wrap", [lambda state: {"params": state}, lambda state: state], ids=["params", "plain"])
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_ddcolor(variant: Any, wrap: Callable[[Any], Any], new: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(wrap(state_of(variant)), path, _use_new_zipfile_serialization=new)
    found = inspect_file(path)
    assert (found.network.name, found.network.variant, found.network.complete) == ("DDColor", variant, True)
    assert (found.tensors, found.parameters) == DDCOLOR[variant]
    assert found.format == ("torch (zip)" if new else "torch (legacy)")
    assert found.names == ()
    assert found.damaged is None
    assert found.usable


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({"encoder.arch.stages.0.0.norm.weight": torch.zeros(96, dtype=torch.float16)}, path)
    found = inspect_file(path)
    assert (found.format, found.network.name, found.network.variant) == ("safetensors", "DDColor", "tiny")
    assert not found.network.complete
    assert found.dtypes == {"float16": 1}
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert "header speaks of" in str(inspect_file(path).damaged)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, "does not fill its place"),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 4]}}, "no sensible shape"),
        ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, "no sensible shape"),
        ({"a": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 4]}}, "no sensible shape"),
        ({"a": {"dtype": "F32", "shape": [9] * 65, "data_offsets": [0, 4]}}, "no sensible shape"),
        ({"a": {"dtype": "F32", "shape": [1]}}, "data_offsets"),
        ({"a": 1}, "not subscriptable"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1 << 40]}}, "does not fill its place"),
    ],
)
def test_safetensors_that_are_wrong(header: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    packed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + bytes(4))
    assert words in str(inspect_file(path).damaged)


def test_a_payload_is_named_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "payload.pth"
    for new in (True, False):
        torch.save(
            {"params": state_of("tiny"), "x": Payload(tmp_path / "was-run")}, path, _use_new_zipfile_serialization=new
        )
        found = inspect_file(path)
        assert found.network.complete
        assert [str(name) for name in found.dangerous] == ["posix.mkdir"]
        assert not found.usable
    assert not (tmp_path / "was-run").exists()


def test_a_payload_before_the_object_of_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    parts = [magic, pickle.dumps(Payload(tmp_path / "was-run"), 2), pickle.dumps({}, 2), pickle.dumps({}, 2)]
    path.write_bytes(b"".join(parts))
    assert [str(name) for name in inspect_file(path).dangerous] == ["posix.mkdir"]


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("keep", [0.2, 0.9, 0.999])
def test_cut_short(keep: float, new: bool, tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    torch.save({"params": {"a": torch.zeros(4000), "b": torch.zeros(4000)}}, path, _use_new_zipfile_serialization=new)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert inspect_file(path).damaged


def test_values_that_are_missing_from_the_archive(tmp_path: Path) -> None:
    path, short = tmp_path / "model.pth", tmp_path / "short.pth"
    torch.save({"a": torch.zeros(4000)}, path)
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(short, "w") as cut:
        for member in whole.namelist():
            content = whole.read(member)
            cut.writestr(member, content[:-1] if member.endswith("data/0") else content)
    assert inspect_file(short).damaged == "the values of a are not all there"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "git-lfs pointer"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (bytes(range(256)) * 40, "unknown"),
        (b"PK\x03\x04" + bytes(500), "torch (zip)"),
        (b"\x80\x02.", "pickle"),
        (b"\0", "unknown"),
    ],
)
def test_what_is_no_checkpoint(content: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    found = inspect_file(path)
    assert (found.format, found.tensors, found.usable) == (kind, 0, False)


def test_archives_made_to_hurt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"N0" * (20 << 20) + b"N.")
    assert inspect_file(path).damaged  # read to its limit, and no further
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("b/data.pkl", pickle.dumps(Payload(tmp_path / "x"), 2))
    assert inspect_file(path).damaged == "it has a member twice"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert inspect_file(path).format == "zip"
    monkeypatch.setattr(checkpoint_file, "DIRECTORY_LIMIT_BYTES", 10)
    assert inspect_file(path).damaged == "its list of members is too long"


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.1.model.x"], "Stable Diffusion XL"),
        (["model.diffusion_model.out.2.bias", "cond_stage_model.transformer.text_model.x"], "Stable Diffusion 1"),
        (["double_blocks.0.img_attn.proj.bias", "single_blocks.0.linear1.bias"], "Flux"),
        (["lora_unet_down_blocks_0.lora_up.weight"], "LoRA"),
        (["conv_first.weight", "body.0.rdb1.conv1.weight"], "ESRGAN"),
        (["something.else"], None),
        (["encoder.arch.stages.0.0.norm.bias"], None),
    ],
)
def test_other_networks_by_their_names(entries: list[str], name: str | None, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({entry: torch.zeros(1) for entry in entries}, path)
    assert inspect_file(path).network.name == name


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, words in (("none", "cannot be read"), (".", "is a directory"), ("loop", "cannot be read")):
        with pytest.raises(UsageError, match=words):
            inspect_file(tmp_path / name)
    with pytest.raises(UsageError, match="is no file"):
        inspect_file(Path("/dev/null"))


def test_torch_is_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"params": state_of("tiny")}, path)
    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path\n"
        "from gpuwatch.adapters.checkpoint_file import inspect_file\n"
        "print(inspect_file(Path(sys.argv[1])).network.variant)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "tiny"


def test_the_names_are_the_nodes_words() -> None:
    assert [each.file for each in PUBLISHED.values()] == [
        "ddcolor_paper_tiny.pth",
        "ddcolor_modelscope.pth",
        "ddcolor_artistic.pth",
        "ddcolor_paper.pth",
    ]
