"""Checkpoints: both formats are read, and everything else is refused with a sentence that says what is wrong."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gpuwatch.core.checkpoint import VARIANT_ENTRY
from gpuwatch.errors import UsageError
from gpuwatch_runner.weights import layout, read_checkpoint
from tests.runner.conftest import State


@pytest.fixture(scope="module")
def sparse() -> State:
    """A state of the right names and shapes whose entries take no memory and no room on disk."""
    return empty_state("tiny")


def empty_state(variant: Any) -> State:
    return {
        name: torch.zeros((), dtype=torch.long if name.endswith("tracked") else torch.float32).expand(shape)
        for name, shape in layout(variant).items()
    }


def refusal(path: Path, asked: Any = None) -> str:
    with pytest.raises(UsageError) as refused:
        read_checkpoint(path, asked)
    return str(refused.value)


@pytest.mark.parametrize("wrap", [lambda state: {"params": state}, lambda state: state], ids=["params", "plain"])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_torch_checkpoint_is_read(suffix: str, wrap: Callable[[State], Any], sparse: State, tmp_path: Path) -> None:
    path = tmp_path / f"ddcolor{suffix}"
    torch.save(wrap(sparse), path)
    state, variant = read_checkpoint(path)
    assert variant == "tiny"
    assert set(state) == set(sparse)
    assert refusal(path, "large") == f"{path} holds the tiny network, not large"


def test_safetensors_in_half_precision_become_float32(tiny_state: State, tmp_path: Path) -> None:
    path = tmp_path / "ddcolor.safetensors"
    save_file({name: value.half() if value.is_floating_point() else value for name, value in tiny_state.items()}, path)
    state, variant = read_checkpoint(path, "tiny")
    assert variant == "tiny"
    assert state[VARIANT_ENTRY].dtype == torch.float32
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(path) == f"The checkpoint {path} is cut short or damaged"


def test_the_large_variant_is_seen_by_its_first_norm(tmp_path: Path) -> None:
    path = tmp_path / "ddcolor.pth"
    torch.save(
        empty_state("large"),
        path,
    )
    with pytest.raises(UsageError, match="holds the large network, not tiny"):
        read_checkpoint(path, "tiny")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.pth"
    assert refusal(path) == f"The checkpoint {path} does not exist"


def test_a_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"The checkpoint {tmp_path} is a directory; name the file in it"


def test_a_name_that_is_too_long_and_a_pipe(tmp_path: Path) -> None:
    long, pipe = tmp_path / ("x" * 300), tmp_path / "pipe.pth"
    os.mkfifo(pipe)
    assert refusal(long) == f"The checkpoint {long} cannot be read: File name too long"
    assert refusal(pipe) == f"The checkpoint {pipe} is a pipe or a device; name a file"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_an_empty_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"empty{suffix}"
    path.touch()
    assert refusal(path) == f"The checkpoint {path} is empty"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"<html>404</html>", b"version https://git-lfs", bytes(range(256)) * 40, b"PK\x03\x04" + bytes(500), b"\x80\x02.", b"\0"],
    ids=["page", "pointer", "noise", "zip", "pickle", "nul"],
)  # fmt: skip
def test_bytes_that_are_no_checkpoint(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bytes{suffix}"
    path.write_bytes(content)
    assert refusal(path) == f"The checkpoint {path} is cut short or damaged"


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95])
def test_a_file_cut_short(keep: float, sparse: State, tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    torch.save({"params": sparse}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    assert refusal(path) == f"The checkpoint {path} is cut short or damaged"


def save_pickle(protocol: int, value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol))


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("save", [torch.save, *(partial(save_pickle, protocol) for protocol in range(2, 6))])
def test_code_in_a_checkpoint_is_not_run(save: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "payload.pth"
    save({"params": Payload(tmp_path / "was-run")}, path)
    assert refusal(path) == f"The checkpoint {path} carries code besides weights and was not loaded"
    assert not (tmp_path / "was-run").exists()


def test_another_network_says_what_is_missing(sparse: State, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(2)}, path)
    assert refusal(path) == f"The checkpoint {path} is not DDColor's: it has no {VARIANT_ENTRY}"
    torch.save({VARIANT_ENTRY: torch.zeros(128)}, path)
    assert "has 128 values, not 96 (tiny) or 192 (large)" in refusal(path)
    torch.save([1, 2], path)
    assert "it is not a table of weights" in refusal(path)

    short = {name: value for name, value in sparse.items() if not name.startswith("refine_net")}
    torch.save(short, path)
    assert "4 entries are missing, among them refine_net.0.0.bias" in refusal(path)
    torch.save({**sparse, "head.weight": torch.zeros(2)}, path)
    assert "1 entries are not known, among them head.weight" in refusal(path)
    torch.save({**sparse, "std": torch.zeros(3)}, path)
    assert "std is (3,), not (1, 3, 1, 1)" in refusal(path)


def test_a_name_that_says_another_format(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"onnx")
    assert ".pth, .pt, .safetensors" in refusal(path)
