"""How long a scrape of the metrics takes with eight GPUs at work, over loopback, and what a thousand of them leave behind.

The driver's answers are made up, eight cards of them a second; the page is a child's, so that asking and answering do not
share an interpreter. `python -m benchmarks.scraping` is that child: it prints its address and ends with its standard input.
"""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from time import perf_counter

from benchmarks.measuring import ROOT, Table
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.sources import Emit
from gpuwatch.adapters.sources.host import HostSource
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.observations import GpuProcess, GpuSample, JobEnded, LogChunk, Observation, QueueState, SourceKind
from gpuwatch.core.rules import LABELS
from gpuwatch.faces.exporter import Exporter, Page
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text, plain

GPUS = 8
SCRAPES = 1000
_ACCEPT = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
_LINE = b"[2026-01-01 10:00:00.000] got prompt\n"
_GIB = 1 << 30
_HISTORY = 300


def tables(_folder: Path) -> list[Table]:
    """A thousand scrapes, one after the other, while the machine is watched."""
    command = [sys.executable, "-m", "benchmarks.scraping"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        address = child.stdout.readline().strip() if child.stdout else ""
        series, size_bytes = 0, 0
        for _ in range(100):
            series, size_bytes = look(address)
        before = state_of(child.pid)
        seconds = []
        for _ in range(SCRAPES):
            started = perf_counter()
            look(address)
            seconds.append(perf_counter() - started)
        after = settled(child.pid, before)
        made, _error = child.communicate("")
    cuts = quantiles(seconds, n=100)
    rows = (
        ("A scrape, middle", f"{cuts[49] * 1000:.1f} ms", "measured"),
        ("A scrape, 99 of 100", f"{cuts[98] * 1000:.1f} ms", "measured"),
        ("Of it, making the page", made.strip(), "measured in the server, middle and 99 of 100"),
        ("Holding a lock that the pipeline needs", "0 ms", "by construction: it reads one immutable value"),
        ("Series", f"{series}", "counted"),
        ("Page", f"{size_bytes / 1024:.0f} KiB", "counted"),
        (f"Memory after {SCRAPES} scrapes", f"{(after[0] - before[0]) / 1024:+.0f} KiB", "VmRSS of the server"),
        (f"Open files and threads after {SCRAPES}", f"{after[1] - before[1]:+d}, {after[2] - before[2]:+d}", "counted"),
    )
    heading = f"Scraping the metrics ({GPUS} GPUs, {len(LABELS)} labels, OpenMetrics)"
    return [Table(heading, ("What", "Number", "How"), rows)]


def look(address: str) -> tuple[int, int]:
    """One scrape; how many series it had, and how large it was."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", "/metrics", headers=_ACCEPT)
    page = connection.getresponse().read()
    connection.close()
    lines = page.count(b"\n") - page.count(b"\n# ") - page.startswith(b"# ")
    return lines, len(page)


def state_of(process_id: int) -> tuple[int, int, int]:
    """Memory, open files and threads of a process."""
    status = Path(f"/proc/{process_id}/status").read_text()
    told = dict(line.split(":", 1) for line in status.splitlines())
    files = len(list(Path(f"/proc/{process_id}/fd").iterdir()))
    return int(told["VmRSS"].split()[0]) * 1024, files, int(told["Threads"])


def settled(process_id: int, before: tuple[int, int, int]) -> tuple[int, int, int]:
    """The same once the last connection is closed, or a second later."""
    deadline = perf_counter() + 1
    while (after := state_of(process_id))[1:] > before[1:] and perf_counter() < deadline:
        threading.Event().wait(0.01)
    return after


class Cards:
    """Eight cards at work, and a log that goes on."""

    kind: SourceKind = "nvml"
    name = "nvml"

    def __init__(self) -> None:
        self.ready = threading.Event()

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        for _ in range(_HISTORY):  # what is kept of each card is full before anything is measured
            for observation in moment(datetime.now(UTC)):
                emit(observation)
        self.ready.set()
        while not stop.wait(0.25):
            for observation in moment(datetime.now(UTC)):
                emit(observation)
        return plain("stopped")


def moment(at: datetime) -> Iterator[Observation]:
    for index in range(GPUS):
        yield GpuSample(
            at, f"GPU-{index:08}-0000-0000-0000-000000000000", index, "NVIDIA H100 80GB HBM3", "580.95.05", 80 * _GIB,
            40 * _GIB, 0.97, 61.0, 512.0, 700.0,
            (GpuProcess(4000 + index, "python", 30 * _GIB, "comfyui"), GpuProcess(9, "Xorg", _GIB)), 1234.5,
            1_980_000_000, 2_619_000_000, None, ("power_cap",), 0, 0, 1 << 20, 1 << 20, 5, 16, 5, 16,
        )  # fmt: skip
    yield QueueState(at, "127.0.0.1:8188", 3, 1)
    yield JobEnded(at, "127.0.0.1:8188", "1", "success", duration_seconds=2.0, waited_seconds=1.0)
    yield LogChunk(at, "comfyui.log", _LINE * 50)


def serve() -> None:
    """The child: serve until standard input ends, then say how long pages took to make."""
    engine = Engine(load_rules(), load_workloads())
    cards = Cards()
    pipeline = Pipeline(engine, [cards, HostSource()])
    settings = {"workloads": engine.workloads.ids}
    exporter = Exporter(lambda: pipeline.snapshot, engine.rules, "127.0.0.1", 0, **settings)
    pipeline.start()
    cards.ready.wait()
    print(f"127.0.0.1:{exporter.port}", flush=True)
    sys.stdin.read()
    page = Page(lambda: pipeline.snapshot, engine.rules, **settings)
    seconds = []
    for _ in range(SCRAPES):
        started = perf_counter()
        page.text(openmetrics=True)
        seconds.append(perf_counter() - started)
    cuts = quantiles(seconds, n=100)
    print(f"{cuts[49] * 1000:.1f} ms, {cuts[98] * 1000:.1f} ms")
    pipeline.stop()
    exporter.close()


if __name__ == "__main__":
    serve()
