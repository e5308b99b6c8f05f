"""What the pictures of the screen show: the recorded session, a stand-in server whose job fails, a long night's log.

The card's readings and our runner's report are made up here: no GPU was at hand. Clocks stand still.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.recording import read_recording
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.sources import Emit, Source
from gpuwatch.adapters.sources.comfyui import ComfyuiSource, Pace
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.observations import (
    GpuProcess,
    GpuSample,
    HostSample,
    JobEnded,
    JobProgress,
    LogChunk,
    Observation,
    QueueState,
    RunEvent,
    SourceKind,
)
from gpuwatch.faces.servers import mender_of
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.faces.tui.mend import servers_of
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text, text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the stand-in server and the made-up log

from benchmarks.logs import write_log  # noqa: E402
from tests.standin.comfyui import ComfyUI  # noqa: E402
from tests.standin.prompts import workflow  # noqa: E402
from tests.standin.server import Standin, standing  # noqa: E402

AT = datetime(2026, 1, 15, 2, 0, tzinfo=UTC)
STOP_SECONDS = 124.0
"""The recording up to here: three failures, and the prompt that runs well has not ended."""
_GIB = 1 << 30
_TOTAL_BYTES = 6216965160
_FILLS = (0.62, 0.62, 1.9, 2.4, 2.4, 3.1, 4.6, 5.15)
"""GiB on the card, over the seconds in which a photo is colorized until there is no more room."""


class Told:
    """A source that tells what it is given, and ends."""

    def __init__(self, name: str, kind: SourceKind, observations: Sequence[Observation]) -> None:
        self.name = name
        self.kind: SourceKind = kind
        self._observations = observations

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Tell, then wait: a source that ended is told of on the screen."""
        for observation in self._observations:
            emit(observation)
        stop.wait()
        return text("stopped")


@contextmanager
def recorded_scene() -> Iterator[WatchApp]:
    """The recorded session, a card that fills beside it, a machine, and a run of our own."""
    with as_file(files("gpuwatch.demo")) as data:
        entries = list(read_recording(data / "oom_large_1280.jsonl"))
    story: list[tuple[float, Observation]] = [
        (after, replace(each, at=moment(after))) for after, each in entries if after <= STOP_SECONDS
    ]
    story += [(after, replace(each, at=moment(after))) for after, each in beside()]
    told = [each for _after, each in sorted(story, key=lambda one: one[0])]
    sources: list[Source] = [Told("127.0.0.1:8188", "comfyui", told), Told("runner", "runner", run_of_ours())]
    yield WatchApp(engine_over(sources))


@contextmanager
def server_scene() -> Iterator[WatchApp]:
    """The stand-in server with a job that failed."""
    ticks = (
        itertools.count()
    )  # the server's clock must go on: lines of the same words and time are one to who reads its log
    with standing(ComfyUI(now=lambda: AT + timedelta(milliseconds=40 * next(ticks))), port=8188) as standin:
        arguments = argparse.Namespace(rules=None, gpu_memory=None)
        source = ComfyuiSource(server_of(standin.url), pace=Pace(0.05, 0.05, 0.05, 0.2), clock=lambda: AT)
        pipeline = engine_over([source, Told("nvml", "nvml", [each for _after, each in card()])])
        menders = {name: partial(mender_of, server, arguments) for name, server in servers_of([source]).items()}
        app = WatchApp(pipeline, menders=menders)
        threading.Thread(target=fail_a_job, args=(app, standin), daemon=True).start()
        yield app


@contextmanager
def long_scene() -> Iterator[WatchApp]:
    """A long night's log, made up, as `make bench` reads it; its lines have times."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "comfyui.log"
        write_log(log, 3 << 20, failure_ratio=0.0004, seed=5)
        yield WatchApp(engine_over([Told("comfyui.log", "file", [LogChunk(AT, "comfyui.log", log.read_bytes())])]))


def fail_a_job(app: WatchApp, standin: Standin) -> None:
    """Queue what does not fit, once the server is watched."""
    while not app.snapshot.queues:
        time.sleep(0.02)
    standin.comfyui.submit({"prompt": workflow(1280)})


SCENES = {"recorded": recorded_scene, "server": server_scene, "long": long_scene}


def engine_over(sources: Sequence[Source]) -> Pipeline:
    """A pipeline whose clock stands still."""
    matcher = load_matcher()
    now = moment(STOP_SECONDS + 1)
    return Pipeline(Engine(matcher.rules, load_workloads(), ready=matcher), sources, clock=lambda: now)


def moment(after_seconds: float) -> datetime:
    """So many seconds after the begin."""
    return AT + timedelta(seconds=after_seconds)


def beside() -> Iterator[tuple[float, Observation]]:
    """What the recording leaves out: the card, the machine, the queue, jobs before it, the node that runs now."""
    server = "127.0.0.1:8188"
    yield from card()
    yield 0.0, HostSample(AT, 32 * _GIB, 19 * _GIB, 0, 0.22)
    for number, (ended, seconds) in enumerate(((33.0, 19.2), (54.0, 20.1), (76.0, 21.7))):
        yield (
            ended,
            JobEnded(
                AT, server, f"night-{number}", "success", duration_seconds=seconds, waited_seconds=2.5 * number,
                workload="ddcolor", tokens_per_image=1024, node_seconds={"DDColor_Colorize": seconds - 3.0, "SaveImage": 0.4},
            ),
        )  # fmt: skip
    yield STOP_SECONDS - 0.5, QueueState(AT, server, 17, 1)
    yield STOP_SECONDS - 0.4, JobProgress(AT, server, "now", "3", 4, 12)


def card() -> Iterator[tuple[float, GpuSample]]:
    """A card of the failure's size, over two minutes: it fills, stands at the edge, and is emptied."""
    for second in range(4, int(STOP_SECONDS)):
        busy = 14 <= second < 76 or 92 <= second < 123
        filled = _FILLS[min(max((second - 92) // 4, 0), len(_FILLS) - 1)] if second < 123 else 0.62
        if second < 76 and busy:
            filled = 2.3
        used = int(filled * _GIB)
        held = (GpuProcess(4121, "python3 main.py", used - _GIB // 5, "comfyui"), GpuProcess(1893, "Xorg", _GIB // 15))
        yield (
            float(second),
            GpuSample(
                moment(second), "GPU-1", 0, "NVIDIA GeForce RTX 2060", "560.35.03", _TOTAL_BYTES, used,
                0.97 - 0.05 * (second % 3) if busy else 0.02, 66.0 + second % 5 if busy else 52.0,
                151.0 + second % 7 if busy else 11.0, 160.0, held, throttled=("power_cap",) if busy else (),
            ),
        )  # fmt: skip


def trace_of_ours() -> str:
    """A profiler's trace of that run, in the folder where the pictures are made."""
    events: list[dict[str, object]] = [
        {"ph": "X", "name": "ProfilerStep#2", "cat": "user_annotation", "pid": 10, "tid": 11, "ts": 0, "dur": 84_000}
    ]
    begin = 0
    for stage, length, kernel, held_mib in (
        ("encoder", 17_600, "cutlass_80_tensorop_f16_s16816gemm_relu", 496),
        ("pixel_decoder", 37_100, "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32", 1203),
        ("colour_decoder", 20_300, "flash_fwd_kernel", 870),
        ("refine", 5_900, "vectorized_elementwise_kernel", 612),
    ):
        times: dict[str, object] = {"ph": "X", "ts": begin, "dur": length}
        held = {"Total Reserved": 1434 << 20, "Total Allocated": held_mib << 20, "Bytes": 1 << 20, "Addr": begin + 1,
                "Device Id": 0, "Device Type": 1}  # fmt: skip
        events += [
            {**times, "name": stage, "cat": "user_annotation", "pid": 10, "tid": 11},
            {**times, "name": kernel, "cat": "kernel", "pid": 0, "tid": 7, "dur": length * 9 // 10, "args": {"device": 0}},
            {"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]", "pid": 10, "tid": 11,
             "ts": begin + length // 2, "args": held},
        ]  # fmt: skip
        begin += length
    path = Path("traces/ddcolor-tiny-512.pt.trace.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(events))
    return str(path)


def run_of_ours() -> list[RunEvent]:
    """A run of our own runner, ended."""
    report = {
        "event": "report", "images": 40, "failed": [], "device": "cuda:0", "variant": "tiny", "size": 512, "dtype": "fp16",
        "load_seconds": 1.9, "first_seconds": 0.61, "warm_seconds": {"p50": 0.084, "p95": 0.102}, "images_per_second": 11.9,
        "peak_allocated_bytes": 1288490188, "peak_reserved_bytes": 1503238553, "peak_device_bytes": 1992294400,
        "host_rss_bytes": 1395864371, "gflop_per_image": 301.4, "tokens_per_image": 1024, "weights": "checkpoint",
        "predicted": {"process_bytes": {"high": 2008730112}}, "trace_files": [trace_of_ours()],
    }  # fmt: skip
    events = ({"event": "started", "images": 40, "device": "cuda:0"}, {"event": "image", "done": 40}, report)
    return [RunEvent(AT, event) for event in events]
