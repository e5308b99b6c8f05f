"""The runner as a real child process: its events, its report, its exit codes, and what it leaves on disk."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gpuwatch.adapters.runner_process import text_of
from gpuwatch.errors import JobError, UsageError
from gpuwatch_runner import device
from gpuwatch_runner.__main__ import _explained
from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.command import parse
from gpuwatch_runner.ddcolor import DDColor
from gpuwatch_runner.lab import lab_of_rgb, lightness_of_rgb
from gpuwatch_runner.profiling import STAGES
from tests.runner.conftest import State, grey_scene

Run = Callable[..., tuple[list[dict[str, Any]], int, str]]

REPORT_KEYS = {
    "images", "failed", "device", "variant", "size", "dtype", "rewrite", "batch", "load_seconds", "first_seconds",
    "warm_seconds", "images_per_second", "peak_allocated_bytes", "peak_reserved_bytes", "peak_device_bytes",
    "host_rss_bytes", "gflop_per_image", "tokens_per_image", "weights", "trace_files", "predicted", "skipped", "redone",
    "degraded", "manifest", "options", "against_fp32", "profiling",
}  # fmt: skip


def test_a_run_from_photos_to_report_with_bad_images_among_them(run: Run, photos: Path, tmp_path: Path) -> None:
    (photos / "empty.png").touch()
    (photos / "text.jpg").write_text("no image")
    (tmp_path / "nothing").mkdir()
    out = tmp_path / "out"
    events, code, narration = run(
        "ddcolor", photos, "nothing", "--size", 64, "--device", "cpu", "--batch", 2, "--repeat", 2, "--out", out,
        "--memory-limit", "1GiB", "--profile",
    )  # fmt: skip
    assert code == 2
    assert "Traceback" not in narration
    assert "--memory-limit has no effect on the CPU" in narration
    assert "the weights are random" in narration

    assert events[0] == {
        "event": "started", "images": 4, "skipped": 0, "device": "cpu", "variant": "tiny", "size": 64, "dtype": "fp32",
        "rewrite": "none", "batch": 2, "weights": "random",
    }  # fmt: skip
    stages = [event for event in events if event["event"] == "stage"]
    assert [event["stage"] for event in stages] == ["load", "warm_up", "repeat", "profile"]
    assert all(event["seconds"] > 0 for event in stages)
    failed = {Path(event["path"]).name: event["message"]["template"] for event in events if event["event"] == "failed"}
    assert failed == {
        "nothing": "{path} has no images",
        "empty.png": "{path} is empty",
        "text.jpg": "{path} is not an image that can be read",
    }
    images = [event for event in events if event["event"] == "image"]
    assert [(Path(event["path"]).name, event["done"], event["images"]) for event in images] == [
        ("first.jpg", 2, 4),
        ("second.png", 3, 4),
    ]
    for event, size, kind in zip(images, ((90, 60), (50, 80)), ("JPEG", "PNG"), strict=True):
        with Image.open(event["out"]) as image:
            assert (image.size, image.format) == (size, kind)
            # Weights are random but the lightness is the photo's own, wherever sRGB can hold the colour.
            kept = lightness_of_rgb(np.asarray(image)) - lightness_of_rgb(
                np.asarray(Image.open(event["path"]).convert("RGB"))
            )
            assert np.median(np.abs(kept)) < 1
            assert np.abs(lab_of_rgb(np.asarray(image, np.float32) / 255)[..., 1:]).max() > 5

    report = events[-1]
    assert report.pop("event") == "report"
    assert set(report) == REPORT_KEYS
    assert report["images"] == 2
    assert {Path(each["path"]).name for each in report["failed"]} == set(failed)
    assert report["gflop_per_image"] == pytest.approx(5.7, rel=0.01)
    assert report["tokens_per_image"] == 16
    assert report["warm_seconds"]["p95"] >= report["warm_seconds"]["p50"] > 0
    assert report["host_rss_bytes"] > 200 * 2**20
    assert report["predicted"] is report["peak_allocated_bytes"] is report["peak_device_bytes"] is None

    (trace,) = map(Path, report["trace_files"])
    assert trace.parent == out / "traces"
    assert trace.name.endswith(".pt.trace.json.gz")
    assert trace.stat().st_size < 20 * 2**20
    names = {event.get("name") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]}
    assert set(STAGES) <= names
    assert sorted(path.name for path in out.iterdir()) == [
        "first-colorized.jpg",
        "gpuwatch-manifest.jsonl",
        "second-colorized.png",
        "traces",
    ]


def test_a_checkpoint_is_used_and_nothing_is_written_without_out(
    run: Run, photos: Path, tmp_path: Path, tiny_state: State
) -> None:
    torch.save({"params": tiny_state}, tmp_path / "tiny.pth")
    events, code, narration = run(
        "ddcolor",
        photos / "first.jpg",
        "--size",
        32,
        "--checkpoint",
        "tiny.pth",
        "--dtype",
        "bf16",
        "--rewrite",
        "fold",
    )
    assert code == 0
    assert events[-1]["weights"] == "checkpoint"
    assert next(event for event in events if event["event"] == "image")["out"] is None
    assert "add --out DIR" in narration


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ddcolor", "x.jpg", "--size", "720"), "use 704 px or 736 px"),
        (("ddcolor", "x.jpg", "--size", "0"), "32 px is the smallest"),
        (("ddcolor", "x.jpg", "--batch", "0"), "--batch takes 1 or more, not 0"),
        (("ddcolor", "x.jpg", "--memory-limit", "lots"), "lots is no size; write 8GiB"),
        (("ddcolor", "x.jpg", "--dtype", "int8"), "invalid choice: 'int8'"),
        (("sonic", "x.jpg"), "invalid choice: 'sonic'"),
        ((), "required: workload"),
    ],
)
def test_a_wrong_argument_is_an_error_event_before_torch_is_loaded(
    arguments: tuple[str, ...], words: str, run: Run
) -> None:
    events, code, narration = run(*arguments)
    assert (code, narration) == (2, "")
    assert [event["event"] for event in events] == ["error"]
    assert events[0]["exit_code"] == 2
    assert words in str(text_of(events[0]["message"]))


@pytest.mark.parametrize(
    ("words", "count_bytes"),
    [("8GiB", 8 << 30), ("512MiB", 512 << 20), ("1.5GB", 1_500_000_000), ("12", 12), ("2 kib", 2048), ("7B", 7)],
)
def test_sizes(words: str, count_bytes: int) -> None:
    assert parse(["ddcolor", "x.jpg", "--memory-limit", words]).memory_limit_bytes == count_bytes


def test_inputs_without_an_image_end_the_run(run: Run, tmp_path: Path) -> None:
    events, code, _ = run("ddcolor", tmp_path, "gone.png")
    assert code == 2
    assert [event["event"] for event in events] == ["failed", "failed", "error"]
    assert events[-1]["message"]["template"] == "There is no image to colorize"
    assert events[-1]["hint"]["template"] == "Name image files, or a directory of them"


def test_devices_that_are_not_here() -> None:
    assert device.choose("cpu") == torch.device("cpu")
    assert device.choose("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="gpu is not a device"):
        device.choose("gpu")
    with pytest.raises(UsageError, match="There is no device cuda:99"):
        device.choose("cuda:99")


def test_a_cpu_has_no_device_memory_to_measure() -> None:
    watch = device.MemoryWatch(torch.device("cpu"))
    watch.look()
    assert watch.device_bytes is watch.allocated_bytes is watch.reserved_bytes is None
    assert device.host_peak_bytes() > 100 * 2**20


def test_running_out_of_memory_keeps_the_original_words(capsys: pytest.CaptureFixture[str]) -> None:
    job = parse(["ddcolor", "x.jpg", "--size", "64"])
    words = "CUDA out of memory. Tried to allocate 1.56 GiB. GPU 0 has a total capacity of 8.00 GiB"
    error = _explained(torch.OutOfMemoryError(words), job)
    assert capsys.readouterr().err == f"torch.OutOfMemoryError: {words}\n"
    assert (error.exit_code, str(error)) == (4, "GPU memory ran out at 64 px, batch 1")

    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 50)
    assert str(_explained(refused.value, job)) == "Host memory ran out at 64 px, batch 1"
    assert "DefaultCPUAllocator" in capsys.readouterr().err
    assert str(_explained(ValueError("odd"), job)) == "The run failed: odd"


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gpuwatch_runner", *map(str, arguments)],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stopped_run_keeps_what_is_finished(number: signal.Signals, code: int, photos: Path, tmp_path: Path) -> None:
    with start(tmp_path, "ddcolor", photos, "--size", 64, "--repeat", 10_000, "--out", "out") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stdout:
            if json.loads(line).get("stage") == "repeat":
                child.send_signal(number)
                break
        assert child.stdout.read().count("report") == 0
        narration = child.stderr.read()
    assert child.returncode == code
    assert "Traceback" not in narration
    assert len(list((tmp_path / "out").glob("*-colorized.*"))) == 2


def test_a_reader_that_goes_away_ends_the_run_quietly(photos: Path, tmp_path: Path) -> None:
    with start(tmp_path, "ddcolor", photos, "--size", 32, "--repeat", 10_000) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        narration = child.stderr.read()
    assert child.returncode == 141
    assert "Traceback" not in narration
    assert "BrokenPipe" not in narration


def test_output_that_is_not_numbers_is_that_image_s_failure(network: Callable[..., DDColor], tmp_path: Path) -> None:
    Image.fromarray(grey_scene(40, 40)).save(tmp_path / "photo.png")
    colorizer = Colorizer(network("tiny"), torch.device("cpu"), size_px=32, dtype="fp32")
    prepared = colorizer.prepare(tmp_path / "photo.png")
    with pytest.raises(JobError, match="values that are not numbers in fp32"):
        colorizer.finish(prepared, np.full((2, 32, 32), np.nan, np.float32))


@pytest.mark.gpu
def test_cuda_runs_report_memory_and_an_out_of_memory(run: Run, photos: Path) -> None:
    events, code, _ = run("ddcolor", photos, "--size", 512, "--device", "cuda:0", "--dtype", "amp16")
    assert code == 0
    report = events[-1]
    assert 0 < report["peak_allocated_bytes"] <= report["peak_reserved_bytes"] <= report["peak_device_bytes"]

    events, code, narration = run("ddcolor", photos, "--size", 1024, "--device", "cuda:0", "--memory-limit", "1GiB")
    assert code == 4
    assert events[-1]["event"] == "error"
    assert "CUDA out of memory. Tried to allocate" in narration
    assert "Traceback" not in narration
