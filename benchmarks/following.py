"""How soon a failure is told after its line was written, while a log grows fast, and what following costs.

`python -m benchmarks.following follow LOG` is the child that is measured: the same loop as `gpuwatch serve`, and a listener that
takes the time. `write LOG LINES_A_SECOND SECONDS` writes; a failure's line carries the moment that it was written at.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic, monotonic_ns, process_time, sleep
from typing import Any

from benchmarks.logs import write_log
from benchmarks.measuring import ROOT, Table

RATES = (1_000, 10_000, 100_000)
SECONDS = 8.0
IDLE_SECONDS = 8.0
_PIECES_A_SECOND = 200
_PIECES_A_FAILURE = 10
_STAMP = re.compile(r"written at (\d+) ns")


def tables(folder: Path) -> list[Table]:
    """One log a rate, and one that only lies there."""
    rows = [_row(folder, rate) for rate in RATES]
    idle = _followed(folder / "idle.log", 0, IDLE_SECONDS)
    rows.append(("idle", "", "", "", f"{100 * idle['busy_ratio']:.2f} %", f"{idle['rss_bytes'] / 2**20:.0f} MiB"))
    return [
        Table(
            "Following a log that grows",
            (
                "Measured: lines/s asked",
                "lines/s read",
                "Failures told",
                "Written -> told, p50, p99, worst",
                "CPU of a core",
                "RSS",
            ),
            tuple(rows),
            (
                f"Written in {_PIECES_A_SECOND} pieces a second for {SECONDS:.0f} s; every {_PIECES_A_FAILURE}th piece ends with a "
                "failure that carries the moment it was written at. The follower is a process of its own with every rule; its CPU "
                "is its own (threads, kernel, reading), without starting up.",
            ),
        )
    ]


def _row(folder: Path, rate: int) -> tuple[str, ...]:
    told = _followed(folder / f"{rate}.log", rate, SECONDS)
    waits = sorted(told["waits_seconds"])
    middle, late, worst = (1e3 * waits[min(int(share * len(waits)), len(waits) - 1)] for share in (0.5, 0.99, 1))
    return (
        f"{rate:,}",
        f"{told['lines'] / SECONDS:,.0f}",
        f"{len(waits)} of {told['failures']}",
        f"{middle:.1f}, {late:.1f}, {worst:.1f} ms",
        f"{100 * told['busy_ratio']:.1f} %",
        f"{told['rss_bytes'] / 2**20:.0f} MiB",
    )


def _followed(path: Path, rate: int, seconds: float) -> dict[str, Any]:
    path.touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "src", ROOT / "runner")))}
    command = [sys.executable, "-m", "benchmarks.following"]
    with subprocess.Popen([*command, "follow", path], stdout=subprocess.PIPE, text=True, env=environment) as follower:
        assert follower.stdout is not None  # noqa: S101
        follower.stdout.readline()  # it follows
        if rate:
            written = subprocess.run(
                [*command, "write", path, str(rate), str(seconds)],
                check=True,
                capture_output=True,
                text=True,
                env=environment,
            )
            failures = int(written.stdout)
        else:
            sleep(seconds)
            failures = 0
        follower.send_signal(signal.SIGTERM)
        return {**json.loads(follower.stdout.readline()), "failures": failures}


def _write(path: Path, rate: int, seconds: float) -> None:
    scratch = path.with_suffix(".calm")
    calm = write_log(scratch, 4 << 20, failure_ratio=0)
    lines = [line + b"\n" for line in scratch.read_bytes().split(b"\n")]
    each, failures, place = max(1, rate // _PIECES_A_SECOND), 0, 0
    started = monotonic()
    pieces = int(seconds * _PIECES_A_SECOND)
    with path.open("ab", buffering=0) as file:
        for number in range(pieces):
            due = started + number / _PIECES_A_SECOND
            if (wait := due - monotonic()) > 0:
                sleep(wait)
            piece = b"".join(lines[place : place + each])
            place = (place + each) % (calm.lines - each)
            if number % _PIECES_A_FAILURE == _PIECES_A_FAILURE - 1:
                failures += 1
                words = f"RuntimeError: CUDA error: an illegal memory access was encountered (written at {monotonic_ns()} ns)\n"
                piece += words.encode()
            file.write(piece)
    print(failures)


def _follow(path: Path) -> None:
    from gpuwatch.adapters.rulecache import load_matcher  # noqa: PLC0415 - only the measured child loads the program
    from gpuwatch.adapters.sources.file import FileSource  # noqa: PLC0415
    from gpuwatch.adapters.workloads import load_workloads  # noqa: PLC0415
    from gpuwatch.core.engine import Engine  # noqa: PLC0415
    from gpuwatch.core.events import IncidentChanged, RecordsRead  # noqa: PLC0415
    from gpuwatch.pipeline import Pipeline  # noqa: PLC0415

    matcher = load_matcher()
    pipeline = Pipeline(
        Engine(matcher.rules, load_workloads(), shows_records=False, ready=matcher),
        [FileSource(path, from_start=True, show_history=False)],
    )
    waits: dict[str, float] = {}
    lines = 0

    def listen(events: object, _snapshot: object) -> None:
        nonlocal lines
        now = monotonic_ns()
        for event in events:  # type: ignore[attr-defined]
            if isinstance(event, IncidentChanged) and (found := _STAMP.search(event.incident.text)):
                waits.setdefault(found[1], (now - int(found[1])) / 1e9)
            elif isinstance(event, RecordsRead):
                lines += event.lines

    pipeline.subscribe(listen)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    pipeline.start()
    sleep(0.5)
    begun, busy = monotonic(), process_time()
    print("follows", flush=True)
    stop.wait()
    busy_ratio = (process_time() - busy) / (monotonic() - begun)
    pipeline.stop()
    status = Path("/proc/self/status").read_text().splitlines()
    rss_bytes = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))
    told = {"waits_seconds": list(waits.values()), "lines": lines, "busy_ratio": busy_ratio, "rss_bytes": rss_bytes}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "follow":
        _follow(Path(sys.argv[2]))
    else:
        _write(Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
