"""How fast a log is read: `gpuwatch diagnose` with every rule, against tools that only find lines.

`python -m benchmarks.scanning rules|literals LOG` is a child that is measured.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.logs import Log, write_log
from benchmarks.measuring import ROOT, Ended, Sample, Table, run

LITERALS = ("CUDA out of memory", "CUDA error", "NVRM: Xid", "must have the same dtype", "No such file or directory")
"""What a person would look for by hand; each is of a rule's pattern."""
ROUNDS = 3
CALM_BYTES = 32 << 20
CALM_TIMES = 32
"""The calm log is so many times the same, one after the other: a gibibyte."""
STRESSED_BYTES = 16 << 20
CALM_RATIO = 0.00012
"""A failure takes eleven lines: 0.04 % of all lines are of one."""
STRESSED_RATIO = 0.02
SLICE_BYTES = 1 << 20
"""What the slowest peer reads: at its speed the whole log would take an hour."""
PATTERNS = ROOT / "benchmarks" / "ripgrep_150.pat"
"""150 failure patterns, written for ripgrep: fewer than the rules have, and no words to say what was found."""
_ALTERNATIVES = "|".join(map(re.escape, LITERALS))


def tables(folder: Path) -> list[Table]:
    """A calm log and one full of failures, each tool in turn, `ROUNDS` times."""
    calm = repeated(write_log(folder / "calm.log", CALM_BYTES, failure_ratio=CALM_RATIO), CALM_TIMES)
    stressed = write_log(folder / "stressed.log", STRESSED_BYTES, failure_ratio=STRESSED_RATIO, seed=2)
    return [_table("a calm log", calm), _table("a log full of failures", stressed)]


def repeated(log: Log, times: int) -> Log:
    """The log, so many times."""
    content = log.path.read_bytes()
    with log.path.open("ab") as file:
        for _ in range(times - 1):
            file.write(content)
    return replace(log, size_bytes=log.size_bytes * times, lines=log.lines * times, failures=log.failures * times)


def _table(kind: str, log: Log) -> Table:
    child: list[str | Path] = [sys.executable, "-m", "benchmarks.scanning"]
    script = Path(sys.executable).with_name("gpuwatch")
    ours: list[str | Path] = [script] if script.exists() else [sys.executable, "-m", "gpuwatch.faces.cli"]
    diagnose: list[str | Path] = [*ours, "diagnose", "--json", log.path, "--workers"]
    begin = log.path.with_suffix(".begin")
    with log.path.open("rb") as file:
        begin.write_bytes(file.read(SLICE_BYTES))
    tools = (
        Tool("`gpuwatch diagnose --json --workers 1`", [*diagnose, "1"], log.size_bytes),
        Tool("`gpuwatch diagnose --json --workers 2`", [*diagnose, "2"], log.size_bytes),
        Tool("`rg -c -a -f benchmarks/ripgrep_150.pat`", ["rg", "-c", "-a", "-f", PATTERNS, log.path], log.size_bytes),
        Tool("`grep -c -a -E` of 5 literals", ["grep", "-c", "-a", "-E", _ALTERNATIVES, log.path], log.size_bytes),
        Tool("Python, one `re` of 5 literals on each line", [*child, "literals", begin], SLICE_BYTES),
        Tool("Python, every rule's patterns on each line", [*child, "rules", begin], SLICE_BYTES),
    )
    present = [tool for tool in tools if shutil.which(tool.command[0])]
    run(tools[0].command, codes=(0, 1))  # the rules' cache and the file's pages are there for all
    for _ in range(ROUNDS):
        for tool in present:
            tool.runs.append(run(tool.command, codes=(0, 1)))
    engine = tools[0]
    told: dict[str, Any] = json.loads(engine.runs[-1].out)
    counted = sum(incident["count"] for incident in told["incidents"])
    return Table(
        f"Scanning {kind} ({log.size_bytes / 2**20:.0f} MiB, {log.lines:,} lines, {log.failures:,} failures)",
        (
            "Measured, whole process",
            f"Median of {ROUNDS} (min..max)",
            "MB/s",
            "lines/s",
            "Peak RSS of one process",
            "Speed, one process of ours = 1",
        ),
        tuple(tool.row(engine, log.lines / log.size_bytes) for tool in present),
        (
            f"Ours gives {len(told['incidents']):,} incidents ({counted:,} failures listed) with facts, node, cause and fixes, and "
            f"tells which of {told['records']:,} lines they are on. `--workers 2` are two processes that look through it "
            "beside the one that explains, the default from 64 MiB on. "
            f"The Python loops read only the first {SLICE_BYTES >> 20} MiB, start-up included. ripgrep and grep count lines: not "
            "the same work.",
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
    measured = {"rules": _every_rule, "literals": _literals}[sys.argv[1]]
    print(json.dumps(measured(Path(sys.argv[2]))))
