"""How long the command line takes to answer, against a Python that does nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.logs import write_log
from benchmarks.measuring import Sample, Table, run

ROUNDS = 11
_UNTIL_FIRST_BYTE = """
import os, sys
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.faces.cli import main

Matcher.scan = lambda *_: os._exit(0)
main(["diagnose", sys.argv[1]])
"""
_LOG_BYTES = 64 << 10


def tables(folder: Path) -> list[Table]:
    """Whole processes, in turn."""
    log = write_log(folder / "small.log", _LOG_BYTES, failure_ratio=0.002, seed=3)
    gpuwatch = [sys.executable, "-m", "gpuwatch.faces.cli"]
    script = Path(sys.executable).with_name("gpuwatch")
    if script.exists():
        gpuwatch = [str(script)]
    commands = {
        "`python -c pass`": [sys.executable, "-c", "pass"],
        "`gpuwatch --help`": [*gpuwatch, "--help"],
        "`gpuwatch diagnose` until it looks at a log's first byte": [
            sys.executable,
            "-c",
            _UNTIL_FIRST_BYTE,
            str(log.path),
        ],
        f"`gpuwatch diagnose` of {log.lines:,} lines, {log.failures} failures": [*gpuwatch, "diagnose", str(log.path)],
    }
    # The first round keeps the rules made ready for the others, and does not count.
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(1 + ROUNDS):
        for name, command in commands.items():
            seconds[name].append(run(command, codes=(0, 1)).seconds)
    samples = {name: Sample(tuple(taken[1:])) for name, taken in seconds.items()}
    nothing = next(iter(samples.values()))
    return [
        Table(
            "Starting",
            ("Measured, whole process", f"Median of {ROUNDS} (min..max)", "Beside an empty Python"),
            tuple((name, str(sample), sample.over(nothing).as_ratio()) for name, sample in samples.items()),
        )
    ]
