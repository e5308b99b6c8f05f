"""What ships, and what is not loaded before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("textual", "torch", "hyperscan", "rich.console", "numpy", "hypothesis")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """The names in the sdist, and in the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    script = (
        "import os, sys, hatchling.build as build\n"
        "folder = sys.argv[1]\n"
        "if len(sys.argv) == 2: print(build.build_sdist(folder))\n"
        "else: os.chdir(sys.argv[2]); print(build.build_wheel(folder))\n"
    )
    python = [sys.executable, "-c", script]
    sdist = (
        folder
        / subprocess.run([*python, folder], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[-1]
    )
    with tarfile.open(sdist) as archive:
        in_sdist = archive.getnames()
        archive.extractall(folder, filter="data")
    unpacked = folder / in_sdist[0].partition("/")[0]
    made = subprocess.run(
        [*python, folder, unpacked], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    with zipfile.ZipFile(folder / made) as wheel:
        return in_sdist, wheel.namelist()


def test_the_wheel_carries_rules_demo_texts_and_runner(built: tuple[list[str], list[str]]) -> None:
    _sdist, wheel = built
    rules = {f"gpuwatch/_shipped/rules/{path.relative_to(ROOT / 'rules')}" for path in (ROOT / "rules").rglob("*.yaml")}
    assert rules <= set(wheel)
    assert {
        "gpuwatch/py.typed",
        "gpuwatch/_shipped/rules/schema.json",
        "gpuwatch/_shipped/dashboards/grafana/gpuwatch-now.json",
        "gpuwatch/_shipped/dashboards/prometheus/gpuwatch-alerts.rules.yml",
        "gpuwatch/_shipped/dashboards/prometheus/tests/alerts_test.yml",
        "gpuwatch/demo/portrait.jpg",
        "gpuwatch/demo/oom_large_1280.jsonl",
        "gpuwatch/locale/zh_CN/LC_MESSAGES/gpuwatch.mo",
        "gpuwatch/faces/tui/app.tcss",
        "gpuwatch_runner/ddcolor/network.py",
    } <= set(wheel)
    assert not [name for name in wheel if name.startswith("tests") or name.endswith(".pyc")]


def test_the_sdist_can_be_tested(built: tuple[list[str], list[str]]) -> None:
    sdist, _wheel = built
    names = {name.partition("/")[2] for name in sdist}
    assert {
        "pyproject.toml",
        "Makefile",
        "constraints.txt",
        "LICENSE",
        "README.md",
        "tests/core/test_engine.py",
    } <= names


def test_nothing_heavy_is_loaded_for_the_command_line() -> None:
    code = (
        "import sys, contextlib, io\n"
        "from gpuwatch.faces.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_module_says_why_it_exists() -> None:
    for folder in ("src", "runner"):
        for path in (ROOT / folder).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), path
