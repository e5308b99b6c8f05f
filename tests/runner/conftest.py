"""What the runner's tests share: golden weights made once a session, networks built around them without a copy."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gpuwatch_runner import weights
from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.ddcolor import DDColor
from gpuwatch_runner.photo import Photo, Sheet

GOLDEN = Path(__file__).parents[1] / "data" / "ddcolor"
State = dict[str, torch.Tensor]

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; keep what needs the large weights on one worker."""
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if "[large" in item.name:
            item.add_marker(pytest.mark.xdist_group("ddcolor-large"))


@pytest.fixture(scope="session")
def golden_weights() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_weights", GOLDEN / "golden_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden_state(golden_weights: ModuleType) -> Callable[[str], State]:
    made: dict[str, State] = {}

    @torch.inference_mode(False)  # made inside a test's inference mode they could be loaded by no later test
    def make(variant: str) -> State:
        if variant != "large" and made.pop("large", None):  # 870 MiB, which two tests want and a worker should not keep
            with suppress(OSError, AttributeError):  # no glibc
                ctypes.CDLL(None).malloc_trim(0)
        if variant not in made:
            arrays = golden_weights.make_state_dict(golden_weights.load_layout(variant))
            made[variant] = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return dict(made[variant])

    return make


@pytest.fixture(scope="session")
def tiny_state(golden_state: Callable[[str], State]) -> State:
    return golden_state("tiny")


@pytest.fixture(scope="session")
def network(golden_state: Callable[[str], State]) -> Callable[..., DDColor]:
    """The network with golden weights; networks of a variant share them."""

    def make(variant: Any, rewrite: Any = "none") -> DDColor:
        return weights.build(golden_state(variant), variant, rewrite)

    return make


@pytest.fixture(scope="session")
def colorizer(network: Callable[..., DDColor]) -> Colorizer:
    """The small network on the CPU, for photos whose colours do not matter."""
    return Colorizer(network("tiny", "fold"), torch.device("cpu"), size_px=32, dtype="fp32")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A directory with a grey JPEG and a grey PNG of different sizes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, height, width in (("first.jpg", 60, 90), ("second.png", 80, 50)):
        Image.fromarray(grey_scene(height, width)).save(folder / name)
    return folder


def grey_scene(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A smooth scene with some of every brightness."""
    y, x = np.mgrid[0:height, 0:width]
    return np.clip(128 + 90 * np.sin(x / 13) * np.cos(y / 17) + 30 * x / width, 0, 255).astype(np.uint8)


def encoded(rgb: Any, photo: Photo) -> bytes:
    """The colours (H, W, 3) as the file that `photo` asks for."""
    sheet = Sheet(photo)
    sheet.add(rgb)
    return sheet.encoded()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], int, str]]:
    """Run the runner as a real child in a directory of its own: its events, exit code and stderr."""

    def start(*arguments: object) -> tuple[list[dict[str, Any]], int, str]:
        child = subprocess.run(
            [sys.executable, "-m", "gpuwatch_runner", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return [json.loads(line) for line in child.stdout.splitlines()], child.returncode, child.stderr

    return start
