"""A folder through the network: resumed after any end, stepped down where memory ends, stopped where the disk does."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gpuwatch.errors import JobError, UsageError
from gpuwatch_runner import job as jobs
from gpuwatch_runner.command import parse
from gpuwatch_runner.ddcolor import DDColor
from gpuwatch_runner.degrade import RETRY_AFTER, Ladder, Step, ran_out
from gpuwatch_runner.events import Channel
from gpuwatch_runner.job import Run
from gpuwatch_runner.manifest import NAME
from gpuwatch_runner.sizes import require_indexable
from tests.runner.conftest import State, grey_scene

Report = dict[str, Any]
PHOTOS = 24


def make_photos(folder: Path, count: int = PHOTOS) -> Path:
    """So many tiny photos in three folders, no two the same."""
    for index in range(count):
        path = folder / ("", "one", "one/two")[index % 3] / f"photo-{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey_scene(20 + index, 24)).save(path)
    return folder


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The passes here are tiny, and torch's threads wait for cores that other tests have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def carry_out(tiny_state: State, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Report, list[Report]]]:
    """Carry a job out in this process, with golden weights; gives the report and all events."""
    build = jobs.weights.build
    monkeypatch.setattr(jobs.weights, "random_state", lambda _variant: dict(tiny_state))
    monkeypatch.setattr(jobs.weights, "build", lambda *words: made(build(*words)))
    hooks: list[Callable[[DDColor, Any], None]] = []

    def made(built: DDColor) -> DDColor:
        for hook in hooks:
            built.register_forward_pre_hook(hook)
        return built

    def start(*words: object, hook: Callable[[DDColor, Any], None] | None = None) -> tuple[Report, list[Report]]:
        hooks[:] = [] if hook is None else [hook]
        stream = io.StringIO()
        arguments = ["ddcolor", *map(str, words), "--device", "cpu"]
        try:
            Run(parse(arguments), Channel(stream)).carry_out()
        finally:
            events = [json.loads(line) for line in stream.getvalue().splitlines()]
        return events[-1], events

    return start


def lines_of(out: Path) -> list[Report]:
    return [json.loads(line) for line in (out / NAME).read_text().splitlines()]


def outputs_of(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != NAME
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_half_way_goes_on_without_loss_or_repeat(number: signal.Signals, tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "in"), tmp_path / "out"
    command = [
        sys.executable, "-m", "gpuwatch_runner", "ddcolor", str(photos), "--size", "32", "--device", "cpu",
        "--out", str(out), "--workers", "2",
    ]  # fmt: skip
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        told = []
        for line in child.stdout:
            event = json.loads(line)
            if event["event"] == "image":
                told.append(event["path"])
            if len(told) == PHOTOS // 3:
                child.send_signal(number)
                break
        rest = child.stdout.read()
        narration = child.stderr.read()
    assert child.returncode == {signal.SIGKILL: -signal.SIGKILL, signal.SIGINT: 130}[number]
    told += [json.loads(line)["path"] for line in rest.splitlines() if '"image"' in line]
    assert "Traceback" not in narration
    assert ("the same command goes on from there" in narration) == (number != signal.SIGKILL)

    claimed = {line["input"]: out / line["output"] for line in lines_of(out) if "output" in line}
    assert set(told) <= set(claimed)
    assert len(claimed) < PHOTOS
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in claimed.values()}
    for _, content in before.values():
        Image.open(io.BytesIO(content)).load()

    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    report = json.loads(again.stdout.splitlines()[-1])
    assert (report["skipped"], report["images"]) == (len(claimed), PHOTOS - len(claimed))
    assert f"{len(claimed)} photos are done already" in again.stderr
    assert all((path.stat().st_mtime_ns, path.read_bytes()) == was for path, was in before.items())
    counts = Counter(line["input"] for line in lines_of(out) if "output" in line)
    assert set(counts.values()) == {1}
    assert len(counts) == len(outputs_of(out)) == PHOTOS
    assert not list(out.rglob("*.part"))


def test_what_is_done_again_and_why(tmp_path: Path, carry_out: Any, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = make_photos(tmp_path / "in", 4), tmp_path / "out"
    words = (photos, "--size", 32, "--out", out)
    assert carry_out(*words)[0]["images"] == 4
    first = outputs_of(out)
    assert list(first) == [
        "one/photo-001-colorized.png", "one/two/photo-002-colorized.png", "photo-000-colorized.png",
        "photo-003-colorized.png",
    ]  # fmt: skip
    os.utime(photos / "photo-000.png", ns=(5, 5))
    (out / "photo-003-colorized.png").unlink()
    report, _ = carry_out(*words)
    assert (report["skipped"], report["images"], report["redone"]) == (2, 2, {"input_changed": 1, "output_missing": 1})
    assert "1 photos are done again: the photo has changed" in capsys.readouterr().err
    assert outputs_of(out) == first

    report, _ = carry_out(*words, "--rewrite", "fold")
    assert (report["skipped"], report["redone"]) == (0, {"settings": 4})
    report, _ = carry_out(*words, "--rewrite", "fold", "--force")
    assert (report["skipped"], report["redone"]) == (0, {"forced": 4})
    report, events = carry_out(*words, "--rewrite", "fold")
    assert (report["skipped"], report["images"], report["first_seconds"]) == (4, 0, None)
    assert [event["event"] for event in events] == ["started", "stage", "report"]


def test_threads_and_batches_change_neither_order_nor_result(tmp_path: Path, carry_out: Any) -> None:
    photos = make_photos(tmp_path / "in", 9)
    (photos / "one" / "photo-000.png").write_bytes(b"")
    (photos / "photo-005.jpg").write_text("no photo")
    results = []
    for name, *words in (("a", "--workers", 0), ("b", "--workers", 3), ("c", "--workers", 2, "--batch", 4)):
        _, events = carry_out(photos, "--size", 32, "--out", tmp_path / name, *words)
        told = [(event["event"], event["path"], event["done"]) for event in events if "done" in event]
        results.append((told, outputs_of(tmp_path / name)))
    assert [done for _, _, done in results[0][0]] == list(range(1, 12))
    assert results[0] == results[1]
    assert results[2][0] == results[0][0]
    assert list(results[2][1]) == list(results[0][1])
    for name, content in results[2][1].items():  # a batch may round otherwise
        found, expected = (np.asarray(Image.open(io.BytesIO(each)), int) for each in (content, results[0][1][name]))
        assert np.abs(found - expected).max() <= 1


def fits(rewrite: str, size_px: int) -> Callable[[DDColor, Any], None]:
    """Memory that ends above a size and before a rewrite, in torch's own words."""

    def hook(network: DDColor, inputs: Any) -> None:
        order = ("none", "tail", "fold")
        if inputs[0].shape[-1] > size_px or order.index(network.rewrite) < order.index(rewrite):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.56 GiB.")

    return hook


def test_memory_that_runs_out_steps_the_rewrite_down_and_then_the_size(
    tmp_path: Path, carry_out: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = make_photos(tmp_path / "in", 3), tmp_path / "out"
    words = (photos, "--size", 128, "--out", out)
    with pytest.raises(torch.OutOfMemoryError):
        carry_out(*words, hook=fits("fold", 64))
    report, events = carry_out(*words, "--degrade", hook=fits("fold", 64))
    assert report["images"] == 3
    used = {"rewrite": "fold", "size": 64, "batch": 1}
    assert [{name: each[name] for name in used} for each in report["degraded"]] == [used] * 3
    assert [event["used"] for event in events if event["event"] == "image"] == [used] * 3
    assert [line["used"] for line in lines_of(out) if "output" in line] == [used] * 3
    narration = capsys.readouterr().err
    assert "Memory ran out with rewrite none, 128 px, batch 1; going on with rewrite tail, 128 px, batch 1" in narration
    assert narration.count("Memory ran out") == 4  # none, tail, fold, 96: once for all photos

    # What was done smaller is done again as soon as it is not to be; it then is what was asked for.
    assert carry_out(*words, "--degrade")[0]["skipped"] == 3
    report, _ = carry_out(*words)
    assert (report["redone"], report["degraded"]) == ({"degraded": 3}, [])
    assert outputs_of(out) == outputs_of(carry_out(photos, "--size", 128, "--out", tmp_path / "b") and tmp_path / "b")


def test_a_smaller_batch_is_tried_before_a_smaller_size() -> None:
    steps = Ladder(Step("tail", 96, 4), allowed=True).steps
    assert [(step.rewrite, step.size_px, step.batch) for step in steps] == [
        ("tail", 96, 4), ("fold", 96, 4), ("fold", 96, 2), ("fold", 96, 1), ("fold", 64, 1), ("fold", 32, 1),
    ]  # fmt: skip
    assert Ladder(Step("none", 96, 4), allowed=False).steps == [Step("none", 96, 4)]


def test_what_was_asked_for_is_tried_again_after_a_while() -> None:
    ladder = Ladder(Step("none", 128, 1), allowed=True)
    tried: list[Step] = []

    def run(step: Step) -> None:
        tried.append(step)
        if (step.rewrite, step.size_px) != ("fold", 96):
            raise MemoryError

    ladder.attempt(run)
    assert len(tried) == 4
    for _ in range(RETRY_AFTER):
        ladder.count(1)
    assert ladder.step == Step("none", 128, 1)
    ladder.attempt(run)
    assert tried[4:] == [Step("none", 128, 1), Step("fold", 96, 1)]  # the way down is known


def test_only_memory_counts_as_memory() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 50)
    assert ran_out(refused.value)
    assert ran_out(MemoryError())
    assert ran_out(RuntimeError("CUDA error: out of memory"))
    assert not ran_out(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not ran_out(UsageError(jobs.text("out of memory")))


def test_a_full_disk_ends_the_run_with_whole_files_and_a_true_manifest(tmp_path: Path, carry_out: Any) -> None:
    photos, out = make_photos(tmp_path / "in", 6), tmp_path / "out"
    noise = np.random.default_rng(1).integers(0, 256, (90, 90), np.uint8)
    Image.fromarray(noise).save(photos / "one" / "photo-004.png")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    try:
        with pytest.raises(JobError, match="cannot be written, so the run ends") as ended:
            carry_out(photos, "--size", 32, "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert os.strerror(errno.EFBIG) in str(ended.value)
    assert "goes on where this one ended" in str(ended.value.hint)
    claimed = {line["output"] for line in lines_of(out) if "output" in line}
    assert set(outputs_of(out)) >= claimed  # nothing half-written either: hidden files would be among them
    for content in outputs_of(out).values():
        Image.open(io.BytesIO(content)).load()
    report, _ = carry_out(photos, "--size", 32, "--out", out)
    assert (report["skipped"], report["images"], report["failed"]) == (len(claimed), 6 - len(claimed), [])
    assert len(outputs_of(out)) == 6


def test_one_photo_that_cannot_be_written_does_not_stop_the_others(tmp_path: Path, carry_out: Any) -> None:
    photos, out = make_photos(tmp_path / "in", 3), tmp_path / "out"
    (out / "one" / "photo-001-colorized.png").mkdir(parents=True)
    report, _ = carry_out(photos, "--size", 32, "--out", out)
    assert report["images"] == 2
    assert "photo-001-colorized.png cannot be written: Is a directory" in report["failed"][0]["message"]
    assert lines_of(out)[-1].keys() >= {"output"} or "failed" in lines_of(out)[1]


def test_colours_are_compared_with_those_of_fp32(tmp_path: Path, carry_out: Any) -> None:
    photos = make_photos(tmp_path / "in", 2)
    exact = carry_out(photos, "--size", 32, "--compare-fp32")[0]["against_fp32"]
    assert exact == {"images": 2, "largest_ab": 0.0, "mean_ab": 0.0}
    near = carry_out(photos, "--size", 32, "--compare-fp32", "--channels-last", "--rewrite", "fold")[0]["against_fp32"]
    assert near["largest_ab"] < 1e-3


def test_sizes_above_32_bit_indexing_are_named() -> None:
    require_indexable(2880, 1, "none")
    require_indexable(4096, 8, "fold")
    with pytest.raises(UsageError, match="32-bit indexing ends at 2880 px"):
        require_indexable(2912, 1, "tail")
    with pytest.raises(UsageError, match="batch 8, on CUDA with rewrite none: 32-bit indexing ends at 992 px"):
        require_indexable(1024, 8, "none")
