"""The pack of ComfyUI's node: what installing writes, what taking away takes, and that what others changed stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwatch.adapters.node_pack import FOLDER
from gpuwatch.faces import cli
from tests.runner.comfyui_shape import make_comfyui


@pytest.fixture
def placed(tmp_path: Path) -> Callable[..., int]:
    folder = make_comfyui(tmp_path / "ComfyUI")

    def run(action: str, *more: str) -> int:
        return cli.main(["node", action, str(folder), *more])

    return run


def test_the_pack_comes_and_goes(
    placed: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    custom_nodes = tmp_path / "ComfyUI" / "custom_nodes"
    folder = custom_nodes / FOLDER
    others = sorted(custom_nodes.iterdir())
    assert placed("status") == 1
    assert placed("uninstall") == 0
    assert placed("install", "--dry-run") == 0
    assert sorted(custom_nodes.iterdir()) == others
    assert placed("install", "--json") == 0
    written = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (written["mode"], written["before"], written["written"]) == ("copy", None, True)
    assert "packages/gpuwatch_runner/comfyui_node/node.py" in written["files"]
    assert not [name for name in written["files"] if "/faces/" in name or "/adapters/" in name]
    assert placed("status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "folder": str(folder), "version": written["version"], "mode": "copy", "files": len(written["files"]),
        "changed": [], "missing": [], "current": True,
    }  # fmt: skip

    (folder / "mine.txt").write_text("keep me")
    (folder / "packages" / "gpuwatch" / "errors.py").write_text("changed")
    (folder / "needs.json").unlink()
    assert placed("status") == 0
    told = capsys.readouterr().out
    assert "changed: packages/gpuwatch/errors.py" in told
    assert "missing: needs.json" in told
    for action in ("install", "uninstall"):
        assert placed(action) == 2
        assert "1 files in" in capsys.readouterr().err
    assert placed("uninstall", "--force") == 0
    assert [path.relative_to(folder) for path in folder.rglob("*")] == [Path("mine.txt")]
    assert "kept" in capsys.readouterr().out
    assert placed("install") == 2
    assert "gpuwatch did not write it" in capsys.readouterr().err
    assert (folder / "mine.txt").read_text() == "keep me"


def test_an_upgrade_leaves_nothing_of_the_old(placed: Callable[..., int], tmp_path: Path) -> None:
    folder = tmp_path / "ComfyUI" / "custom_nodes" / FOLDER
    assert placed("install") == 0
    stamp = json.loads((folder / "gpuwatch-node.json").read_text())
    (folder / "packages" / "old.py").write_text("")
    stamp["gpuwatch"] = "0.0.1"
    (folder / "gpuwatch-node.json").write_text(json.dumps(stamp))
    compiled = folder / "packages" / "gpuwatch" / "__pycache__"
    compiled.mkdir()
    (compiled / "errors.cpython-311.pyc").touch()
    assert placed("install", "--link") == 0
    assert sorted(path.name for path in folder.rglob("*")) == ["__init__.py", "gpuwatch-node.json", "needs.json"]
    assert [path.name for path in folder.parent.iterdir() if "gpuwatch" in path.name] == [FOLDER]
    assert placed("uninstall") == 0
    assert not folder.exists()


def test_compiled_files_go_with_their_sources(placed: Callable[..., int], tmp_path: Path) -> None:
    folder = tmp_path / "ComfyUI" / "custom_nodes" / FOLDER
    assert placed("install") == 0
    subprocess.run([sys.executable, "-m", "compileall", "-q", folder], check=True)
    assert list(folder.rglob("*.pyc"))
    assert placed("uninstall") == 0
    assert not folder.exists()


@pytest.mark.parametrize(
    "stamp", ["[]", "{", "[" * 5000, '{"files": {"../../main.py": "0"}, "mode": "copy", "gpuwatch": "1"}', "null"]
)
def test_a_stamp_that_is_not_ours(
    stamp: str, placed: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ComfyUI" / "custom_nodes" / FOLDER
    folder.mkdir()
    (folder / "gpuwatch-node.json").write_text(stamp)
    for action in ("install", "uninstall", "status"):
        assert placed(action) == 2
        assert "gpuwatch did not write it" in capsys.readouterr().err
    assert (tmp_path / "ComfyUI" / "main.py").exists()


def test_what_is_no_comfyui(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "none", Path("/dev/null")):
        assert cli.main(["node", "install", str(folder)]) == 2
        assert "it has no main.py, nodes.py, comfy/model_management.py, custom_nodes" in capsys.readouterr().err
    make_comfyui(tmp_path / "ComfyUI")
    assert cli.main(["node", "status", str(tmp_path)]) == 2
    assert f"Is {tmp_path / 'ComfyUI'} meant?" in capsys.readouterr().err


def test_a_link_in_its_place_is_left_alone(
    placed: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ComfyUI" / "custom_nodes" / FOLDER).symlink_to(tmp_path / "elsewhere")
    assert placed("install") == 2
    assert "gpuwatch did not write it" in capsys.readouterr().err


def test_what_stands_in_a_files_place_is_a_change_and_not_read(
    placed: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ComfyUI" / "custom_nodes" / FOLDER
    assert placed("install") == 0
    (folder / "needs.json").unlink()
    (folder / "needs.json").symlink_to("/dev/zero")
    (folder / "__init__.py").unlink()
    os.mkfifo(folder / "__init__.py")
    capsys.readouterr()
    assert placed("status") == 0
    assert "changed: __init__.py, needs.json" in capsys.readouterr().out
    assert placed("uninstall") == 2
