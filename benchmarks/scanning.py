"""How fast a log is read: the engine with every rule, against tools that only look for a few words.

`python -m benchmarks.scanning engine|rules|literals LOG` is the child that is measured.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.logs import Log, write_log
from benchmarks.measuring import Ended, Sample, Table, run

LITERALS = ("CUDA out of memory", "CUDA error", "NVRM: Xid", "must have the same dtype", "No such file or directory")
"""What a person would look for by hand; each is of a rule's pattern."""
ROUNDS = 3
CALM_BYTES = 32 << 20
STRESSED_BYTES = 4 << 20
CALM_RATIO = 0.0002
STRESSED_RATIO = 0.02
SLICE_BYTES = 1 << 20
"""What the slowest peer reads: at its speed the whole log would take minutes."""
_ALTERNATIVES = "|".join(map(re.escape, LITERALS))


def tables(folder: Path) -> list[Table]:
    """A calm log and one full of failures, each tool in turn, `ROUNDS` times."""
    calm = write_log(folder / "calm.log", CALM_BYTES, failure_ratio=CALM_RATIO)
    stressed = write_log(folder / "stressed.log", STRESSED_BYTES, failure_ratio=STRESSED_RATIO, seed=2)
    patterns = folder / "patterns.txt"
    patterns.write_text("\n".join(map(re.escape, LITERALS)) + "\n")
    return [_table("a calm log", calm, patterns), _table("a log full of failures", stressed, patterns)]


def _table(kind: str, log: Log, patterns: Path) -> Table:
    child: list[str | Path] = [sys.executable, "-m", "benchmarks.scanning"]
    begin = log.path.with_suffix(".begin")
    begin.write_bytes(log.path.read_bytes()[:SLICE_BYTES])
    tools = (
        Tool("gpuwatch's engine, every rule", [*child, "engine", log.path], log.size_bytes),
        Tool("Python, every rule's patterns on each line", [*child, "rules", begin], SLICE_BYTES),
        Tool("Python, one `re` of the literals on each line", [*child, "literals", log.path], log.size_bytes),
        Tool("`grep -c -a -E` of the literals", ["grep", "-c", "-a", "-E", _ALTERNATIVES, log.path], log.size_bytes),
        Tool("`rg -c -a -f` of the literals", ["rg", "-c", "-a", "-f", patterns, log.path], log.size_bytes),
    )
    present = [tool for tool in tools if shutil.which(tool.command[0])]
    for _ in range(ROUNDS):
        for tool in present:
            tool.runs.append(run(tool.command, codes=(0, 1)))
    engine = tools[0]
    told: dict[str, Any] = json.loads(engine.runs[-1].out)
    return Table(
        f"Scanning {kind} ({log.size_bytes / 2**20:.0f} MiB, {log.lines:,} lines, {log.failures:,} failures)",
        (
            "Measured, whole process",
            f"Median of {ROUNDS} (min..max)",
            "MB/s",
            "lines/s",
            "Peak RSS",
            "Speed, gpuwatch's = 1",
        ),
        tuple(tool.row(engine, log.lines / log.size_bytes) for tool in present),
        (
            f"The engine gives {told['incidents']:,} incidents ({told['failures']:,} failures) with facts, node, cause and fixes; "
            f"{told['scan_seconds']:.2f} s of its last run were the scan, the rest starting up and reading {told['rules']} rules. "
            f"The loop over every rule reads only the first {SLICE_BYTES >> 20} MiB and says which rules match which lines. The "
            f"others look for {len(LITERALS)} literals and count lines: that is the floor, not the same work.",
            *(f"Skipped: {tool.name}; `{tool.command[0]}` is not installed." for tool in tools if tool not in present),
        ),
    )


@dataclass(slots=True)
class Tool:
    """Something that reads a log, and its runs so far."""

    name: str
    command: list[str | Path]
    size_bytes: int
    runs: list[Ended] = field(default_factory=list)

    @property
    def sample(self) -> Sample:
        """Seconds for each byte."""
        return Sample(tuple(each.seconds / self.size_bytes for each in self.runs))

    def row(self, engine: Tool, lines_a_byte: float) -> tuple[str, ...]:
        """This tool's line of the table."""
        bytes_a_second = 1 / self.sample.median
        return (
            self.name,
            str(Sample(tuple(each.seconds for each in self.runs))),
            f"{bytes_a_second / 1e6:.1f}",
            f"{bytes_a_second * lines_a_byte:,.0f}",
            f"{max(each.peak_bytes for each in self.runs) / 2**20:.0f} MiB",
            "1" if self is engine else engine.sample.over(self.sample).as_ratio(),
        )


def _engine(path: Path) -> dict[str, Any]:
    from gpuwatch.adapters.clock import utc_now  # noqa: PLC0415 - only the measured child loads the program
    from gpuwatch.adapters.rulebook import load_rules  # noqa: PLC0415
    from gpuwatch.adapters.sources.file import read_file_chunks  # noqa: PLC0415
    from gpuwatch.adapters.workloads import load_workloads  # noqa: PLC0415
    from gpuwatch.core.engine import Engine, FailureCounted, IncidentChanged  # noqa: PLC0415
    from gpuwatch.core.observations import LogChunk  # noqa: PLC0415

    rules = load_rules()
    engine = Engine(rules, load_workloads(), shows_records=False)
    incidents: set[str] = set()
    failures = 0
    started = perf_counter()
    for chunk in read_file_chunks(str(path)):
        for event in engine.feed(LogChunk(utc_now(), path.name, chunk)):
            if isinstance(event, IncidentChanged):
                incidents.add(event.incident.id)
            elif isinstance(event, FailureCounted):
                failures += event.failures
    for event in engine.end(utc_now()):
        failures += event.failures if isinstance(event, FailureCounted) else 0
    return {
        "rules": len(rules.rules),
        "incidents": len(incidents),
        "failures": failures,
        "scan_seconds": perf_counter() - started,
    }


def _every_rule(path: Path) -> dict[str, Any]:
    import regex  # noqa: PLC0415

    from gpuwatch.adapters.rulebook import load_rules  # noqa: PLC0415

    searches = [regex.compile(pattern).search for rule in load_rules() for pattern in rule.match]
    with path.open("rb") as file:
        return {"matches": sum(1 for line in file for search in searches if search(line))}


def _literals(path: Path) -> dict[str, Any]:
    search = re.compile(_ALTERNATIVES.encode()).search
    with path.open("rb") as file:
        return {"lines": sum(1 for line in file if search(line))}


if __name__ == "__main__":
    measured = {"engine": _engine, "rules": _every_rule, "literals": _literals}[sys.argv[1]]
    print(json.dumps(measured(Path(sys.argv[2]))))
