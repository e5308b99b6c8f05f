"""Profiling: a trace that is whole, on one clock, readable by us and by TensorBoard's profiler, and what it costs told."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gpuwatch.adapters.traces.reading import read_memory, read_trace
from gpuwatch.core.traces.allocator import device_memories
from gpuwatch.core.traces.holders import held_by
from gpuwatch.core.traces.summary import summarise
from gpuwatch_runner import sampling
from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.ddcolor import DDColor
from gpuwatch_runner.profiling import STAGES, Profiled, profile_photo
from gpuwatch_runner.sampling import Sample, Sampler
from gpuwatch_runner.tracefile import clock_offset_ns, counter_events, finish_trace
from tests.runner.conftest import grey_scene

SIZE_PX = 128


@pytest.fixture(scope="module")
def profiled(network: Callable[..., DDColor], tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    folder = tmp_path_factory.mktemp("profiled")
    Image.fromarray(grey_scene(90, 60)).save(folder / "photo.png")
    colorizer = Colorizer(network("tiny"), torch.device("cpu"), size_px=SIZE_PX, dtype="fp32")
    before = colorizer.mark, colorizer.network.mark
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several that wait for each other take many times as long on a busy machine
    try:
        made = profile_photo(colorizer, folder / "photo.png", folder / "traces")
    finally:
        torch.set_num_threads(threads)
    assert (colorizer.mark, colorizer.network.mark) == before
    return made


def events_of(path: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return events


def test_nothing_but_the_trace_is_left(profiled: Profiled) -> None:
    assert os.listdir(profiled.trace.parent) == [profiled.trace.name]  # noqa: PTH208 - hidden ones count
    assert profiled.memory is None
    assert profiled.files == [str(profiled.trace)]
    assert profiled.trace.name.encode() in gzip.decompress(profiled.trace.read_bytes())[-300:]


def test_the_report_tells_the_cost(profiled: Profiled) -> None:
    told = profiled.as_json()
    assert set(told) == {
        "passes", "plain_seconds", "profiled_seconds", "overhead_ratio", "samples", "write_seconds",
    }  # fmt: skip
    assert told["overhead_ratio"] == pytest.approx(told["profiled_seconds"] / told["plain_seconds"] - 1)
    assert min(told["plain_seconds"], told["profiled_seconds"], told["write_seconds"]) > 0
    assert told["passes"] in {1, 3}


def test_every_stage_is_in_the_trace_as_often_as_it_ran(profiled: Profiled) -> None:
    summary = summarise(read_trace(profiled.trace).trace or pytest.fail("no trace"))
    passes = profiled.passes
    assert {stage.name: stage.count for stage in summary.stages} == {
        name: passes * (2 if name == "lab" else 1) for name in STAGES
    }
    assert summary.steps == passes
    assert sum(stage.host_seconds for stage in summary.stages) <= summary.window_seconds
    assert summary.operators[0].own_seconds > 0
    assert (summary.unusable, summary.has_gpu) == (0, False)


def test_samples_are_on_the_trace_s_clock(profiled: Profiled) -> None:
    events = events_of(profiled.trace)
    counters = [event for event in events if event["ph"] == "C"]
    stages = [event for event in events if event.get("cat") == "user_annotation"]
    assert len({event["ts"] for event in counters}) == profiled.samples > 0
    assert {event["name"] for event in counters} == {"process memory bytes", "process CPU percent"}
    begin, end = (min(e["ts"] for e in stages), max(e["ts"] + e["dur"] for e in stages))
    assert all(begin - 5000 <= event["ts"] <= end + 5000 for event in counters)  # microseconds
    memory = [event["args"]["value"] for event in counters if "memory" in event["name"]]
    assert min(memory) > 100 * 2**20


def test_the_memory_s_holders_are_the_network_s_stages(profiled: Profiled) -> None:
    trace = read_memory(profiled.trace).trace
    assert trace is not None
    (peak,) = summarise(trace).memory
    held = held_by(trace, peak)
    assert peak.device == "cpu"
    # 1024 S^2 bytes each: what goes into the last blur, padded, and what comes out
    assert {each.operator for each in held[:3]} == {"aten::pixel_shuffle", "aten::pad", "aten::avg_pool2d"}
    assert {each.stage for each in held[:3]} == {"pixel_decoder"}
    assert held[-1].size_bytes <= held[0].size_bytes == pytest.approx(1024 * SIZE_PX**2, rel=0.05)


@pytest.mark.skipif(importlib.util.find_spec("torch_tb_profiler") is None, reason="torch-tb-profiler is not installed")
def test_tensorboard_s_profiler_loads_it(profiled: Profiled, tmp_path: Path) -> None:
    script = """
import os, sys
from torch_tb_profiler import consts
from torch_tb_profiler.profiler.data import RunProfileData
folder, cache = sys.argv[1:]
(name,) = os.listdir(folder)
worker, span = consts.WORKER_PATTERN.match(name).groups()
data = RunProfileData.parse(worker, span.lstrip("."), os.path.join(folder, name), cache)
data.process()
print(worker, len(data.steps_costs), len(data.op_list_groupby_name), data.memory_snapshot is not None)
"""
    told = subprocess.run(
        [sys.executable, "-c", script, str(profiled.trace.parent), str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout.splitlines()[-1]  # fmt: skip
    worker, steps, operators, memory = told.split()
    assert (worker, int(steps), memory) == (f"ddcolor-tiny-{SIZE_PX}-fp32-none", profiled.passes, "True")
    assert int(operators) > 20


def test_the_name_is_one_that_tensorboard_s_profiler_looks_for(profiled: Profiled) -> None:
    """The pattern is torch_tb_profiler.consts.WORKER_PATTERN."""
    assert re.fullmatch(r"(.*?)(\.\d+)?\.pt\.trace\.json(?:\.gz)?", profiled.trace.name)


STAGE_EVENT = '{"ph": "X", "cat": "user_annotation", "name": "%s", "pid": 1, "tid": 1, "ts": %f, "dur": 3}'


def test_the_clock_is_found_by_the_stages_and_else_by_the_base_time() -> None:
    at = 1_790_857_026_000_000_000
    content = ", ".join(STAGE_EVENT % (name, ts) for name, ts in (("decode", 100.5), ("lab", 200), ("lab", 300.25)))
    began = [("decode", at + 100_500), ("lab", at + 200_000 + 40), ("lab", at + 300_250 - 10)]
    assert clock_offset_ns(content.encode(), began) == at
    other = began[:2]  # a stage too few: they cannot be told apart
    assert clock_offset_ns(content.encode(), other) is None
    assert clock_offset_ns(b'{"baseTimeNanoseconds": 77, "traceEvents": []}', other) == 77


def test_counters_are_put_first_and_the_rest_is_kept_to_the_byte(tmp_path: Path) -> None:
    raw, trace = tmp_path / ".raw.json", tmp_path / "t.pt.trace.json.gz"
    filler = ", ".join(STAGE_EVENT % ("other", number) for number in range(30_000))
    content = f'{{"baseTimeNanoseconds": 1000, "traceEvents": [{filler}], "traceName": "{raw.name}"}}'
    raw.write_text(content)
    samples = [Sample(5000, {"a watts": 1.5}), Sample(7000, {"a watts": 2, "b bytes": 3})]
    assert finish_trace(raw, trace, samples, []) == 2
    written = gzip.decompress(trace.read_bytes()).decode()
    events = counter_events(samples, 1000)
    assert [json.loads(event)["ts"] for event in events] == [4, 6, 6]
    for event in events:
        written = written.replace("\n  " + event.decode() + ",", "", 1)
    assert written == content.replace(raw.name, trace.name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".raw.json", "t.pt.trace.json.gz"]


def test_samples_are_bounded_and_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "MOST_SAMPLES", 8)
    with Sampler(torch.device("cpu"), interval_seconds=0.0005) as sampler:
        deadline = time.monotonic() + 30
        while sampler._interval_seconds < 0.002 and time.monotonic() < deadline:
            torch.ones(10).sum()
    assert sampler._interval_seconds >= 0.002
    assert len(sampler.samples) < 8
    assert [each.unix_ns for each in sampler.samples] == sorted(each.unix_ns for each in sampler.samples)


def test_off_means_not_even_imported() -> None:
    script = "import gpuwatch_runner.job, sys; print('gpuwatch_runner.profiling' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert told.stdout.strip() == "False"


@pytest.mark.gpu
def test_a_gpu_s_trace_and_snapshot(network: Callable[..., DDColor], tmp_path: Path) -> None:
    Image.fromarray(grey_scene(90, 60)).save(tmp_path / "photo.png")
    colorizer = Colorizer(network("tiny"), torch.device("cuda", 0), size_px=256, dtype="fp32")
    made = profile_photo(colorizer, tmp_path / "photo.png", tmp_path / "traces")
    assert made.memory is not None
    summary = summarise(read_trace(made.trace).trace or pytest.fail("no trace"))
    assert summary.has_gpu
    assert {"HtoD", "DtoH"} <= {each.direction for each in summary.copies}
    assert any("GPU memory" in each.name for each in summary.counters)
    (story,) = device_memories(read_memory(made.memory).snapshot or pytest.fail("no snapshot"))
    peak = torch.cuda.max_memory_allocated()
    assert story.peak_bytes is not None
    assert 0.9 * peak < story.peak_bytes <= 1.01 * peak
    assert any("pixel_decoder" in frame.file for held in story.holders[:3] for frame in held.stack)
