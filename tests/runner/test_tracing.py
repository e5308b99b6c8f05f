"""Traces are what the network does: made anew they are the shipped files, and a real run has their live peak."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.live import peak_of_pass

from gpuwatch.adapters.workload_files import read_trace
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.memory.trace import Trace, trace_of
from gpuwatch.shipped import shipped_folder
from gpuwatch_runner.cost import gflop_per_image
from gpuwatch_runner.ddcolor import DDColor
from gpuwatch_runner.tracing.__main__ import main as tracing_main
from gpuwatch_runner.tracing.compiling import coefficients
from gpuwatch_runner.tracing.ddcolor import shipped_names
from gpuwatch_runner.tracing.files import file_name, packed
from gpuwatch_runner.tracing.recording import Recorder

FOLDER = shipped_folder("rules") / "workloads" / "data" / "ddcolor"
(DDCOLOR,) = (profile for profile in load_workloads() if profile.id == "ddcolor")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for a core which another process has take far longer than one alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shipped(variant: str, dtype: str, rewrite: str, *, many: bool = False) -> Trace:
    trace = DDCOLOR.traces.find(variant, DDCOLOR.same_dtype.get(dtype, dtype), rewrite, grad=False, many=many)
    assert trace is not None
    return trace


@pytest.mark.parametrize("name", ["tiny-fp32-fold-one", "tiny-amp16-none-one"])
def test_a_trace_made_anew_is_the_shipped_one(name: str, tmp_path: Path) -> None:
    before = read_trace(FOLDER / f"{name}.json.gz")
    if before.name["torch"] != torch.__version__.partition("+")[0]:
        pytest.skip(f"the shipped traces are torch {before.name['torch']}'s")
    # In a process of its own: fake CUDA tensors change torch for good.
    child = subprocess.run(
        [sys.executable, "-m", "gpuwatch_runner.tracing", "--only", name, "--jobs", "1", "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert read_trace(tmp_path / f"{name}.json.gz").as_json() == before.as_json()


def test_all_that_is_listed_is_shipped_and_nothing_else() -> None:
    assert sorted(f"{name}.json.gz" for name in shipped_names()) == sorted(path.name for path in FOLDER.iterdir())
    for path in FOLDER.iterdir():
        assert file_name(read_trace(path)) == path.name
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 400_000


@pytest.mark.parametrize(
    ("rewrite", "dtype", "shape"),
    [
        ("none", "fp32", (1, 3, 128, 96)), ("tail", "fp32", (1, 3, 96, 160)), ("fold", "fp32", (1, 3, 128, 160)),
        ("none", "fp32", (3, 3, 64, 96)), ("fold", "bf16", (1, 3, 64, 64)), ("none", "fp16", (1, 3, 64, 64)),
        ("none", "fp32", (1, 3, 32, 32)),
    ],
)  # fmt: skip
def test_a_real_run_has_the_live_peak_of_the_trace(
    rewrite: str, dtype: str, shape: tuple[int, int, int, int], network: Callable[..., DDColor]
) -> None:
    weights = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[dtype]
    real = network("tiny", rewrite).to(weights)
    peak = peak_of_pass(real, torch.rand(shape).to(weights))
    batch, _, height, width = shape
    traced = shipped("tiny", dtype, rewrite, many=batch > 1).at(height, width, batch).peak_bytes
    assert traced == pytest.approx(peak, rel=0.001)


def test_operations_are_those_that_the_runner_counts() -> None:
    for rewrite in ("none", "fold"):
        trace: Any = shipped("tiny", "fp32", rewrite)
        assert trace.flop_at(512, 512) / 1e9 == pytest.approx(gflop_per_image("tiny", 512, rewrite), rel=1e-9)


def test_a_polynomial_is_found_exactly() -> None:
    def value(b: int, h: int, w: int) -> int:
        return 5 - 2 * h + 3 * w + 7 * h * w + 11 * b + 13 * b * h - 17 * b * w + (19 << 20) * b * h * w

    eight = {(b, h, w): value(b, h, w) for b in (2, 3) for h in (2, 3) for w in (2, 3)}
    assert coefficients(eight) == (5, -2, 3, 7, 11, 13, -17, 19 << 20)
    four = {(1, h, w): value(1, h, w) for h in (2, 3) for w in (2, 3)}
    assert coefficients(four) == (16, 11, -14, 7 + (19 << 20))


def test_births_and_deaths_are_recorded_in_order() -> None:
    weight = torch.zeros(8)
    recorder = Recorder([weight, weight[:2]])
    with recorder:
        first = weight + 1
        second = first * 2
        del first
        third = second.view(2, 4).relu()
        del second, third
    recording = recorder.recording
    assert recording.resident_bytes == [32]
    assert recording.births == [("add", "", 32), ("mul", "", 32), ("relu", "", 32)]
    assert recording.events == [0, 1, -1, 2, -2, -3]
    assert recording.peak_bytes() == 96


def test_a_file_is_the_same_for_the_same_trace() -> None:
    trace = shipped("tiny", "fp32", "none")
    assert packed(trace) == packed(trace_of(trace.as_json()))


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("../../etc", "../../etc is no function that can be imported"),
        ("gone\x1b]0;x\x07:build", "gone␛]0;x␇:build is no function that can be imported"),
        ("broken:build", "broken:build is no function that can be imported: out of paper"),
        ("broken", "is no function"),
    ],
)
def test_what_cannot_be_imported_is_told_in_a_sentence(
    module: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('out of paper')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert tracing_main([f"--network={module}"]) == 2
    assert words in capsys.readouterr().err
