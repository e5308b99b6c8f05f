"""Samples, tables, and children that are measured from outside. Imports nothing heavy: a child's memory is read beside it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).parents[1]
_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds of the same thing, several times."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.seconds)

    def __str__(self) -> str:
        return f"{_time(self.median)} ({_time(min(self.seconds))}..{_time(max(self.seconds))})"

    def over(self, other: Sample) -> Sample:
        """Ratios, pair by pair, of two samples that were taken in turn."""
        return Sample(tuple(own / others for own, others in zip(self.seconds, other.seconds, strict=True)))

    def as_ratio(self) -> str:
        """The sample as a factor: `1.52x (1.49..1.60)`."""
        return f"{self.median:.3g}x ({min(self.seconds):.3g}..{max(self.seconds):.3g})"


def _time(seconds: float) -> str:
    return (
        f"{seconds * 1e6:.2f} us"
        if seconds < 1e-3
        else f"{seconds * 1e3:.1f} ms"
        if seconds < 1
        else f"{seconds:.2f} s"
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that has ended."""

    seconds: float
    peak_bytes: int
    """The most memory it held; what it took in its last five milliseconds may be missing."""
    out: str


def run(command: Sequence[str | Path], codes: Sequence[int] = (0,)) -> Ended:
    """Run a command to its end; one that ends in another way than with `codes` is an error."""
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "src", ROOT / "runner"))),
    }
    peak_bytes = 0
    started = perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        while True:
            peak_bytes = max(peak_bytes, _peak_of(child.pid))
            try:
                out, words = child.communicate(timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
    seconds = perf_counter() - started
    if child.returncode not in codes:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{words}")
    return Ended(seconds, peak_bytes, out)


def _peak_of(process_id: int) -> int:
    """A process's high-water mark so far; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


@dataclass(frozen=True, slots=True)
class Table:
    """A part of the page: a heading, rows under column names, and sentences."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        head = [f"### {self.heading}", "", _row(self.columns), _row(["---"] * len(self.columns))]
        return "\n".join([*head, *map(_row, self.rows), *(f"\n{note}" for note in self.notes)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def machine_line() -> str:
    """Which machine this is, and how busy it was."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores, {model}, {platform.system()} {platform.release()}, Python {platform.python_version()}{load}"


def make_rules_ready(cache: Path, log: Path) -> None:
    """Have the rules in a cache that the next start reads. The screen shows a log before it has them, and so may end before."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "runner")]),
        "GPUWATCH_CACHE_DIR": str(cache),
    }
    command = [sys.executable, "-m", "gpuwatch.faces.cli", "diagnose", "--json", str(log)]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)  # 1: it failed of something
