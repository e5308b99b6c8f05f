"""The GPU protocol, proven as far as a machine without a GPU can: its plan, its file, its children, its arithmetic."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.gpu import __main__ as protocol
from benchmarks.gpu.measures import budget, memory, oom, stages, throughput, trace
from benchmarks.gpu.plan import DTYPES, SIZES_PX, VARIANTS, Case, all_cases, cpu_cases
from benchmarks.gpu.results import Results

from gpuwatch_runner.cost import gflop_per_image

ROOT = Path(__file__).parents[2]
SMALL = Case("memory", device="cpu", size_px=64)
MACHINE = {"device": "Some Card (80 GB)", "total_bytes": 80 << 30}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_plan_has_every_point_of_the_grid_once() -> None:
    cases = all_cases()
    assert len(cases) == len(set(cases))
    grid = {Case("memory", variant=v, size_px=s, dtype=d) for v in VARIANTS for s in SIZES_PX for d in DTYPES}
    assert grid <= set(cases)
    assert {case.kind for case in cases} == {"peaks", "memory", "oom", "budget", "trace", "stages", "throughput"}
    assert {case.limit_bytes for case in cases if case.kind == "oom"} == {None, *(n << 30 for n in (8, 12, 16, 24))}
    assert len({case.title for case in cases}) == len(cases)
    assert all(case.size_px % 32 == 0 for case in cases)


def test_every_kind_and_switch_has_a_sample_for_the_cpu() -> None:
    assert {case.kind for case in cpu_cases()} == {case.kind for case in all_cases()}
    assert {case.dtype for case in cpu_cases()} == set(DTYPES)
    assert all(case.device == "cpu" for case in cpu_cases())


def test_without_cuda_it_says_so_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert protocol.main(["--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_run_as_a_file_it_measures_in_children_and_keeps_a_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu/__main__.py", "--cpu", "--only", "budget", "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "src:runner"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    assert content["complete"] is True
    assert content["torch"] == torch.__version__
    assert [entry["case"]["kind"] for entry in content["cases"]] == ["budget"]
    assert "skipped" in content["cases"][0]


def test_a_case_that_fails_leaves_its_last_words() -> None:
    outcome = protocol.Child(replace(SMALL, kind="nonsense")).measure(60)
    assert "benchmarks.gpu.measures.nonsense" in outcome["error"]


def test_a_run_without_time_starts_nothing_and_says_what_is_left(tmp_path: Path) -> None:
    assert protocol.main(["--cpu", "--budget", "0", "--out", str(tmp_path)]) == 0
    content = json.loads(next(tmp_path.iterdir()).read_text())
    assert content["complete"] is False
    assert len(content["not_started"]) == len(cpu_cases())


def test_the_file_is_whole_after_every_case(tmp_path: Path) -> None:
    results = Results(tmp_path, MACHINE, 450)
    for count in (1, 2):
        results.add(SMALL, {"result": {"peak": count}, "seconds": 1.0}, 1.0)
        content = json.loads(results.path.read_text())
        assert len(content["cases"]) == count
        assert content["complete"] is False
    assert results.path.name.startswith("some-card-80-gb-")
    assert [path.name for path in tmp_path.iterdir()] == [results.path.name]


def test_events_go_to_a_file_beside(tmp_path: Path) -> None:
    results = Results(tmp_path, MACHINE, 450)
    events = {"columns": ["action"], "events": [["alloc"]]}
    results.add(replace(SMALL, kind="trace"), {"result": {"events": events, "marks": {}}, "seconds": 1.0}, 1.0)
    result = json.loads(results.path.read_text())["cases"][0]["result"]
    assert "events" not in result
    assert json.loads(gzip.decompress((tmp_path / result["events_file"]).read_bytes())) == events


def test_an_allocator_is_the_childs_environment_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "garbage_collection_threshold:0.5")
    assert not [name for name in protocol.environment(SMALL) if "ALLOC_CONF" in name]
    chosen = protocol.environment(replace(SMALL, allocator="async"))
    assert chosen["PYTORCH_ALLOC_CONF"] == "backend:cudaMallocAsync"


def test_a_snapshot_becomes_short_rows() -> None:
    frames = [
        {"filename": "/x/torch/nn/functional.py", "line": 1, "name": "pad"},
        {"filename": "/x/gpuwatch_runner/ddcolor/pixel_decoder.py", "line": 7, "name": "_pad"},
    ]
    snapshot = {
        "device_traces": [
            [
                {"action": "segment_alloc", "addr": 1000, "size": 2048, "time_us": 50, "frames": frames},
                {"action": "alloc", "addr": 1512, "size": 512, "time_us": 51, "frames": frames},
                {"action": "snapshot", "addr": 0, "size": 512, "time_us": 55, "frames": []},
                {"action": "oom", "device_free": 9, "size": 4096, "time_us": 60, "frames": []},
            ]
        ],
        "segments": [
            {
                "address": 1000,
                "total_size": 2048,
                "segment_type": "small",
                "blocks": [{"size": 512, "state": "active_allocated"}, {"size": 1536, "state": "inactive"}],
            }
        ],
    }
    compact = trace.compact(snapshot)
    assert compact["events"] == [
        ["segment_alloc", 0, 2048, 0, 0],
        ["alloc", 512, 512, 1, 0],
        ["snapshot", None, 512, 5, 1],
        ["oom", None, 4096, 10, 1],
    ]
    assert compact["places"] == ["pixel_decoder.py:7 _pad", ""]
    assert compact["segments"][0]["blocks"] == [[512, "active_allocated"], [1536, "inactive"]]


@pytest.mark.parametrize("needed_mib", [101, 555, 899, 900])
def test_halving_finds_the_least_budget(needed_mib: int) -> None:
    tried: list[int] = []

    def fits(budget_bytes: int) -> bool:
        tried.append(budget_bytes)
        return budget_bytes >= needed_mib << 20

    found = budget.smallest(fits, 100 << 20, 900 << 20)
    assert 0 <= found - (needed_mib << 20) <= budget.STEP_BYTES
    assert len(tried) < 12


def test_memory_of_a_pass_is_followed_on_a_cpu() -> None:
    plain = memory.measure(SMALL)["peak_live_bytes"]
    assert memory.measure(replace(SMALL, rewrite="fold"))["peak_live_bytes"] < plain
    assert memory.measure(replace(SMALL, grad=True))["peak_live_bytes"] > plain


def test_the_stages_operations_add_up() -> None:
    costs = stages.cost_of_stages(Case("stages", size_px=256))
    assert sum(flop for flop, _ in costs.values()) / 1e9 == pytest.approx(gflop_per_image("tiny", 256), rel=1e-6)
    assert all(moved > 0 for _, moved in costs.values())


def test_the_fast_ways_give_the_official_colours() -> None:
    fast = Case("throughput", device="cpu", size_px=64, rewrite="fold", batch=2, channels_last=True)
    measured = throughput.measure(fast)
    assert measured["largest_colour"] > 0.1
    assert measured["largest_difference"] < 1e-4 * measured["largest_colour"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(
    "case",
    [
        Case("memory", size_px=256),
        Case("memory", size_px=256, allocator="async"),
        Case("trace", size_px=256),
        Case("budget", size_px=256),
        Case("stages", size_px=256),
        Case("throughput", size_px=256, rewrite="fold", dtype="fp16", batch=2, overlap=True, graph=True),
    ],
    ids=lambda case: case.title,
)
def test_a_case_on_the_card(case: Case) -> None:
    assert "result" in protocol.Child(case).measure(60)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_out_of_memory_is_recorded_word_for_word() -> None:
    outcome = protocol.Child(Case("oom", size_px=1024, limit_bytes=1 << 30)).measure(60)
    assert "out of memory" in outcome["result"]["message"]


def test_out_of_memory_has_no_meaning_on_a_cpu() -> None:
    assert "skipped" in oom.measure(replace(SMALL, kind="oom"))
