"""The node where it lives: installed by the command, loaded as ComfyUI loads it, without gpuwatch on the path."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gpuwatch.adapters.node_pack import FOLDER
from gpuwatch.faces import cli
from gpuwatch_runner import weights
from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.comfyui_node import node
from tests.adapters.checkpoint_samples import state_of
from tests.runner.comfyui_shape import make_comfyui
from tests.runner.conftest import State, grey_scene

ROOT = Path(__file__).parents[2]
BEGINNING = """
import json, sys
from pathlib import Path
comfyui, ours = sys.argv[1], sys.argv[2:]
sys.path[:] = [comfyui, *(p for p in sys.path if Path(p).resolve() not in [Path(o) for o in ours] and p != "")]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
import importlib.util
assert importlib.util.find_spec("gpuwatch") is None, importlib.util.find_spec("gpuwatch")
for absent in ("pynvml", "yaml", "rich", "regex", "psutil"):
    sys.modules[absent] = None
import nodes, torch
import comfy.model_management as mm
torch.set_num_threads(1)
before = list(sys.path)
pack = nodes.load_custom_node(comfyui + "/custom_nodes/gpuwatch-ddcolor")
assert sys.path == before
assert pack is not None
kind = pack.NODE_CLASS_MAPPINGS["GpuwatchDDColor"]
told = {}

def run(image, size, checkpoint="ddcolor_paper_tiny.pth", **more):
    with torch.inference_mode():
        return getattr(kind(), kind.FUNCTION)(image=image, model_input_size=size, checkpoint=checkpoint, **more)[0]

def failing(*arguments, **more):
    try:
        run(*arguments, **more)
    except Exception as error:
        return [type(error).__name__, isinstance(error, mm.OOM_EXCEPTION), str(error)]
"""


@pytest.fixture(scope="module")
def state() -> State:
    """Seeded weights whose colours can be seen."""
    return weights.random_state("tiny")


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory, state: State) -> Path:
    """A ComfyUI with the node in it, and a tiny checkpoint in models/ddcolor."""
    folder = make_comfyui(tmp_path_factory.mktemp("ComfyUI"))
    assert cli.main(["node", "install", str(folder)]) == 0
    torch.save({"params": state}, folder / "models" / "ddcolor" / "ddcolor_paper_tiny.pth")
    return folder


def in_comfyui(folder: Path, code: str, **environment: str) -> dict[str, Any]:
    """Run code in a Python of its own that has ComfyUI's modules and not gpuwatch's: what it told."""
    script = BEGINNING + textwrap.dedent(code) + "\nprint(json.dumps(told))\n"
    ours = [str(ROOT / "src"), str(ROOT / "runner"), str(ROOT)]
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), *ours],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "stderr": done.stderr}


def photo_batch(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Grey photos in bytes' steps, as ComfyUI's LoadImage gives them: (B, H, W, 3) in 0..1."""
    scenes = [np.roll(grey_scene(60, 90), 17 * place, axis=1) for place in range(count)]
    return np.stack([np.repeat(scene[..., None], 3, axis=-1) for scene in scenes]).astype(np.float32) / 255


def test_a_batch_comes_out_as_the_runner_makes_it(comfyui: Path, state: State, tmp_path: Path) -> None:
    batch = photo_batch(3)
    np.save(tmp_path / "batch.npy", batch)
    told = in_comfyui(
        comfyui,
        f"""
        import numpy as np
        import comfy.utils
        image = torch.from_numpy(np.load({str(tmp_path / "batch.npy")!r}))
        out = run(image, 256)
        assert out.dtype == torch.float32 and out.device.type == "cpu" and 0 <= out.min() and out.max() <= 1
        np.save({str(tmp_path / "out.npy")!r}, out.numpy())
        told["asked"] = list(mm.asked)
        told["progress"] = list(comfy.utils.updates)
        patcher = mm.current_loaded_models[0].model
        told["patcher"] = type(patcher).__name__
        told["loaded"] = [patcher.loaded_size(), patcher.model_size()]
        mm.unload_all_models()
        told["unloaded"] = patcher.loaded_size()
        again = run(image[:1], 256)
        told["same"] = bool(torch.allclose(again[0], out[0], atol=1e-3))
        told["loaded_again"] = [len(mm.current_loaded_models), mm.current_loaded_models[0].model is patcher]
        network = patcher.model
        told["weights"] = sum(p.numel() * p.element_size() for p in (*network.parameters(), *network.buffers()))
        # What it learned of memory without gpuwatch there
        told["needs"] = kind.needs.bytes_of("tiny", "fold", "fp32", 512, 1)
        """,
    )
    out = np.load(tmp_path / "out.npy")
    assert out.shape == (3, 60, 90, 3)
    colorizer = Colorizer(weights.build(dict(state), "tiny", "fold"), torch.device("cpu"), size_px=256, dtype="fp32")
    photos = []
    for place in range(3):
        path = tmp_path / f"{place}.png"
        Image.fromarray(np.rint(batch[place, ..., 0] * 255).astype(np.uint8)).save(path)
        photos.append(colorizer.prepare(path))
    colours, _seconds = colorizer.infer([photo.grey for photo in photos])
    for place, (photo, ab) in enumerate(zip(photos, colours, strict=True)):
        content = tmp_path / f"{place}-out.png"
        content.write_bytes(colorizer.finish(photo, ab))
        expected = np.asarray(Image.open(content)).astype(int)
        assert np.abs(np.rint(out[place] * 255).astype(int) - expected).max() <= 1
        assert np.ptp(expected, axis=-1).max() > 20  # there are colours in it
    assert told["patcher"] == "ModelPatcher"
    assert told["loaded"] == [told["weights"], told["weights"]]
    assert told["unloaded"] == 0
    assert told["same"]
    assert told["loaded_again"] == [1, True]
    assert told["asked"][0][0] == "load_models_gpu"
    assert told["asked"][0][1] > 256 << 20
    assert told["asked"][0][2] is True
    assert sum(done for done, _ in told["progress"]) == 3
    assert 400 << 20 < told["needs"] < 1 << 30


def test_passes_shrink_to_what_is_free_and_to_what_runs(comfyui: Path) -> None:
    told = in_comfyui(
        comfyui,
        """
        image = torch.rand(5, 40, 40, 3)
        sizes = []
        run(image[:1], 64)
        network = mm.current_loaded_models[0].model.model
        real = type(network).forward
        runs_out_above = [99]
        def forward(self, batch):
            sizes.append(batch.shape[0])
            if batch.shape[0] > runs_out_above[0]:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return real(self, batch)
        type(network).forward = forward

        whole = run(image, 64)
        told["free"], sizes[:] = list(sizes), []
        needs = [kind.needs.bytes_of("tiny", "fold", "fp32", 64, images) for images in (1, 2, 3)]
        held = mm.current_loaded_models[0].model.model_size()
        mm.free_bytes = needs[1] - held + (256 << 20) + 1
        told["same"] = bool(torch.allclose(run(image, 64), whole, atol=1e-5))
        told["tight"], sizes[:] = list(sizes), []
        mm.free_bytes = 0
        run(image[:2], 64)
        told["none"], sizes[:] = list(sizes), []

        mm.free_bytes, runs_out_above[0] = 1 << 40, 2
        mm.emptied = 0
        run(image, 64)
        told["halved"], told["emptied"], sizes[:] = list(sizes), mm.emptied, []
        runs_out_above[0], mm.free_bytes = 0, 3 << 30
        told["out"] = failing(image, 64)
        told["out_tail"] = failing(image, 64, low_memory="tail")
        runs_out_above[0] = 99
        mm.interrupted = True
        told["interrupted"] = failing(image, 64)
        mm.interrupted = False
        told["after"] = list(run(image, 64).shape)
        """,
    )
    assert told["free"] == [5]
    assert told["tight"] == [2, 2, 1]
    assert told["none"] == [1, 1]
    assert told["halved"] == [5, 2, 2, 1]
    assert told["emptied"] == 1
    assert told["same"]
    assert "2 images in a pass from here on" in told["stderr"]
    name, is_oom, words = told["out"]
    assert (name, is_oom) == ("OutOfMemoryError", True)
    assert words.startswith(
        "CUDA out of memory. Tried to allocate 2.00 GiB.\nGpuwatchDDColor: one image at 64 px (tiny"
    )
    assert "3.00 GiB was free" in words
    assert words.endswith("Set precision to fp16.")
    assert told["out_tail"][2].endswith("Set low_memory to fold: the same picture from less memory.")
    assert told["interrupted"][0] == "InterruptProcessingException"
    assert told["after"] == [5, 40, 40, 3]


def test_what_comes_in_and_what_is_refused(comfyui: Path) -> None:
    (comfyui / "models" / "ddcolor" / "other.pth").write_bytes(b"<html>")
    torch.save({"params": state_of("large")}, comfyui / "models" / "ddcolor" / "mine.pth")
    told = in_comfyui(
        comfyui,
        """
        shapes = {}
        for channels in (1, 3, 4):
            shapes[channels] = list(run(torch.rand(1, 33, 47, channels), 64).shape)
        told["shapes"] = shapes
        odd = torch.rand(1, 8, 8, 3)
        odd[0, 0, 0, 0], odd[0, 0, 1, 0], odd[0, 0, 2, 0] = float("nan"), float("inf"), -3
        plain = run(odd, 64)
        told["finite"] = bool(torch.isfinite(plain).all())
        told["bf16"] = float((run(odd, 64, precision="bf16") - plain).abs().max())
        told["rewrites"] = [float((run(odd, 64, low_memory=rewrite) - plain).abs().max()) for rewrite in ("off", "tail")]
        one = torch.rand(1, 8, 8, 3)
        told["size"] = failing(one, 720)
        told["index"] = failing(one, 2912, low_memory="off")
        told["page"] = failing(one, 64, "other.pth")
        told["absent"] = failing(one, 64, "ddcolor_artistic.pth")
        told["path"] = failing(one, 64, "../ddcolor/ddcolor_paper_tiny.pth")
        told["inputs"] = kind.INPUT_TYPES()
        told["valid"] = [kind.VALIDATE_INPUTS(model_input_size=size) for size in (512, 720, 0, 8192, "x", None, True)]
        told["changed"] = [kind.IS_CHANGED(checkpoint="ddcolor_paper_tiny.pth", image=None, model_input_size=64),
                           kind.IS_CHANGED(checkpoint="none.pth"), kind.IS_CHANGED(checkpoint=None)]
        """,
    )
    assert told["shapes"] == {"1": [1, 33, 47, 3], "3": [1, 33, 47, 3], "4": [1, 33, 47, 3]}
    assert told["finite"]
    assert 0 < told["bf16"] < 0.2
    assert max(told["rewrites"]) < 1e-4
    assert "use 704 px or 736 px" in told["size"][2]
    assert "32-bit indices" in told["index"][2]
    assert "cut short or damaged" in told["page"][2]
    assert "`gpuwatch checkpoint get artistic` downloads it." in told["absent"][2]
    assert "is not the name of a checkpoint" in told["path"][2]
    assert all(
        each[:2] == ["ValueError", False] for each in (told["size"], told["index"], told["page"], told["absent"])
    )
    required = told["inputs"]["required"]
    assert required["model_input_size"] == ["INT", {"default": 512, "min": 32, "max": 4096, "step": 32}]
    assert required["checkpoint"][0][:4] == node.CHECKPOINTS
    assert required["checkpoint"][0][4:] == ["mine.pth", "other.pth"]
    assert required["checkpoint"][1] == {"default": "ddcolor_paper_tiny.pth"}
    assert list(required) == ["image", "model_input_size", "checkpoint"]
    assert list(told["inputs"]["optional"]) == ["precision", "low_memory"]
    assert [valid is True for valid in told["valid"]] == [True, False, False, False, False, True, False]
    assert told["changed"][0].startswith(str(comfyui / "models" / "ddcolor"))
    assert told["changed"][1:] == ["missing", "missing"]


def test_networks_that_are_not_used_any_more_go(comfyui: Path) -> None:
    told = in_comfyui(
        comfyui,
        """
        import gc, weakref
        image = torch.rand(1, 8, 8, 3)
        networks = []
        for rewrite in ("fold", "tail", "off"):
            run(image, 64, low_memory=rewrite)
            networks.append(weakref.ref(mm.current_loaded_models[0].model.model))
        mm.current_loaded_models[:] = []
        gc.collect()
        told["alive"] = [network() is not None for network in networks]
        """,
    )
    assert told["alive"] == [False, True, True]


def test_a_comfyui_without_model_patcher(tmp_path: Path, comfyui: Path) -> None:
    old = make_comfyui(tmp_path / "old", patcher=False)
    assert cli.main(["node", "install", str(old), "--link"]) == 0
    assert sorted(path.name for path in (old / "custom_nodes" / FOLDER).iterdir()) == [
        "__init__.py",
        "gpuwatch-node.json",
        "needs.json",
    ]
    stock = old / "custom_nodes" / "ComfyUI-DDColor" / "checkpoints"
    stock.mkdir(parents=True)
    (stock / "ddcolor_paper_tiny.pth").symlink_to(comfyui / "models" / "ddcolor" / "ddcolor_paper_tiny.pth")
    told = in_comfyui(
        old, 'told["shape"] = list(run(torch.rand(2, 20, 30, 3), 64).shape)\ntold["asked"] = mm.asked[0][0]'
    )
    assert told["shape"] == [2, 20, 30, 3]
    assert told["asked"] == "free_memory"


def test_another_gpuwatch_in_the_process_is_told(comfyui: Path) -> None:
    script = (
        "import sys, types; sys.modules['gpuwatch'] = module = types.ModuleType('gpuwatch'); module.__version__ = '0.0.1'\n"
        "sys.path.insert(0, sys.argv[1]); import nodes\n"
        "assert nodes.load_custom_node(sys.argv[1] + '/custom_nodes/gpuwatch-ddcolor') is None"
    )
    done = subprocess.run([sys.executable, "-c", script, comfyui], capture_output=True, text=True, check=True)
    assert "gpuwatch 0.0.1 is imported in this process already" in done.stderr
