"""A small world for the screen's tests: three rules, a log written by hand, a GPU, and a source that tells them and waits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from gpuwatch.adapters.sources import Emit
from gpuwatch.core.engine import Engine
from gpuwatch.core.observations import GpuProcess, GpuSample, HostSample, LogChunk, Observation, RunEvent, SourceKind
from gpuwatch.core.rules import Rule, RuleFix, RuleSet
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text, text

AT = datetime.now(UTC)
GIB = 1 << 30

RULES = RuleSet(
    (
        Rule(
            id="memory",
            label="cuda_oom",
            title=Text("GPU memory ran out", zh="显存不足"),
            severity="error",
            why=Text("Not enough memory.", zh="显存不够。"),
            match=(rb"CUDA out of memory",),
            facts=(rb"Tried to allocate (?P<tried_bytes>[\d.]+ GiB)", rb"capacity of (?P<total_bytes>[\d.]+ GiB)"),
            fixes=(
                RuleFix("shrink_size", Text("Use a smaller image", zh="缩小图片"), "changes_output"),
                RuleFix("free_memory", Text("Free the models", zh="释放模型"), "safe", "curl -X POST /free"),
            ),
        ),
        Rule(
            id="kernel",
            label="illegal_memory_access",
            title=Text("A kernel strayed", zh="内核越界"),
            severity="critical",
            why=Text("The process is poisoned.", zh="进程已损坏。"),
            match=(rb"illegal memory access",),
            fixes=(RuleFix("restart_server", Text("Start ComfyUI anew", zh="重启"), "restarts", "python main.py"),),
        ),
        Rule(
            id="coped",
            label="oom_recovered",
            title=Text("It coped", zh="已自行恢复"),
            severity="warning",
            why=Text("Smaller tiles were enough.", zh="用更小的块即可。"),
            match=(rb"retrying with tiled",),
            recovered=True,
        ),
    )
)
OOM = b"[ERROR] CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of 8.00 GiB\n"
ILLEGAL = b"[ERROR] CUDA error: an illegal memory access was encountered\n"
BENIGN = b"".join(b"loaded layer %d of the network\n" % number for number in range(60))
FAILURES = b"got prompt\n" + OOM + b"Prompt executed in 1.00 seconds\n" + BENIGN + b"got prompt\n" + ILLEGAL + BENIGN


class Story:
    """A source that tells what it is given, then waits until it is told to stop. `tell` tells more."""

    def __init__(self, name: str, kind: SourceKind, observations: Sequence[Observation] = ()) -> None:
        self.name = name
        self.kind: SourceKind = kind
        self._observations = observations
        self._emit: Emit | None = None

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Tell, then wait."""
        self._emit = emit
        for observation in self._observations:
            emit(observation)
        stop.wait()
        return text("stopped")

    def tell(self, observation: Observation) -> None:
        """Tell more, from any thread."""
        assert self._emit is not None
        self._emit(observation)


class NoDriver(Story):
    """What the driver's source does where there is none."""

    def run(self, emit: Emit, stop: threading.Event) -> Text:  # noqa: ARG002
        """End at once."""
        return text("The NVIDIA driver is not loaded.")


def log(data: bytes, name: str = "comfyui.log") -> Story:
    """A log with this in it."""
    return Story(name, "file", [LogChunk(AT, name, data)])


def gpu() -> Story:
    """A card that fills."""
    samples = [
        GpuSample(
            AT + timedelta(seconds=second), "GPU-1", 0, "RTX 4060", "560.35", 8 * GIB, (second + 1) * GIB // 4, 0.5, 61.0,
            120.0, 165.0, (GpuProcess(4121, "python", 3 * GIB), GpuProcess(17, None, None)),
        )
        for second in range(24)
    ]  # fmt: skip
    return Story("nvml", "nvml", samples)


def host() -> Story:
    """A machine with half its memory taken."""
    return Story("host", "host", [HostSample(AT, 32 * GIB, 16 * GIB, GIB, 0.25)])


def runner(*events: dict[str, object]) -> Story:
    """Our own runner's words."""
    return Story("runner", "runner", [RunEvent(AT, event) for event in events])


def watch(*sources: Story, notice: Text | None = None) -> WatchApp:
    """The screen over these sources."""
    pipeline = Pipeline(Engine(RULES), sources)
    return WatchApp(pipeline, metrics_address="127.0.0.1:9877", notice=notice)
