"""Read a profiler's trace or a memory snapshot, and say where time and memory went.

Examples:
  gpuwatch trace summary traces/ddcolor.pt.trace.json.gz
  gpuwatch trace summary before.json.gz after.json.gz      two runs compared
  gpuwatch trace memory snapshot.pickle --top 20           who held the GPU's memory at its peak
  gpuwatch trace summary trace.json --json | jq .kernels
  gpuwatch trace compile mymodule:build --out traces       what your own network does to memory, without a GPU

Traces are those of torch.profiler (JSON, plain or packed with gzip), snapshots those of torch.cuda.memory._dump_snapshot. Files of
gigabytes are read in pieces; nothing in a snapshot is run. `gpuwatch run ddcolor --profile` makes both.
Exit codes: 0 done, 2 a file cannot be read, or not to its end (what came before is shown).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpuwatch.adapters.traces.reading import Read, read_memory, read_trace
from gpuwatch.core.traces.allocator import device_memories
from gpuwatch.core.traces.compare import compare
from gpuwatch.core.traces.holders import held_by
from gpuwatch.core.traces.summary import summarise
from gpuwatch.core.traces.trace import Trace
from gpuwatch.errors import UsageError
from gpuwatch.faces.cli import tell
from gpuwatch.faces.memory_page import print_snapshot, print_trace_memory
from gpuwatch.faces.options import add_json, whole
from gpuwatch.faces.report import console_for, json_line
from gpuwatch.faces.trace_compile import add_compile, compile_network
from gpuwatch.faces.trace_json import comparison_json, device_json, file_json, held_json, summary_json
from gpuwatch.faces.trace_page import print_comparison, print_summary
from gpuwatch.texts import text
from gpuwatch.texts import translate as _

_TOP = 15
_MOST_TOP = 100_000


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that can be done with a trace."""

    name: str
    help: Callable[[], str]
    """Called when the parser is built, because it speaks a language by then."""
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions, each with its options."""
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    for action in ACTIONS:
        action.add_arguments(actions.add_parser(action.name, help=action.help()))


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    return next(action for action in ACTIONS if action.name == arguments.action).run(arguments)


def _add_top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--top", type=whole(1, _MOST_TOP), default=_TOP, metavar="N", help=_("rows of each table (default: 15)")
    )


def _add_summary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help=_("a trace: .json or .json.gz"))
    parser.add_argument("other", nargs="?", type=Path, metavar="FILE2", help=_("a second trace, to compare with"))
    _add_top(parser)
    add_json(parser)


def summary(arguments: argparse.Namespace) -> int:
    """Sum up one trace, or compare two."""
    paths = [arguments.file] if arguments.other is None else [arguments.file, arguments.other]
    reads = [read_trace(path) for path in paths]
    summaries = [summarise(read.trace or Trace()) for read in reads]
    comparison = compare(*summaries) if len(summaries) == 2 else None
    if arguments.json:
        for read, each in zip(reads, summaries, strict=True):
            print(json_line(summary_json(read, each, arguments.top)))
        if comparison is not None:
            print(json_line(comparison_json(comparison, arguments.top)))
    elif comparison is not None:
        print_comparison(console_for(sys.stdout), reads, summaries, comparison, arguments.top)
    else:
        print_summary(console_for(sys.stdout), reads[0], summaries[0], arguments.top)
    return _tell_damage(reads)


def _add_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help=_("a memory snapshot (.pickle or .json), or a trace"))
    _add_top(parser)
    add_json(parser)


def memory(arguments: argparse.Namespace) -> int:
    """Tell the peak, who held it, what was refused, and how torn the memory is."""
    read = read_memory(arguments.file)
    console = console_for(sys.stdout)
    if read.snapshot is not None:
        devices = device_memories(read.snapshot)
        if arguments.json:
            told = [device_json(device, arguments.top) for device in devices]
            settings = read.snapshot.settings
            print(json_line({**file_json(read), "kind": "snapshot", "devices": told, "settings": settings}))
        else:
            print_snapshot(console, read, read.snapshot, devices, arguments.top)
        return _tell_damage([read])
    trace = read.trace or Trace()
    if not trace.memory:
        raise UsageError(
            text("{path}: has no memory events.", path=str(read.path)),
            text(
                "Profile with memory: torch.profiler.profile(profile_memory=True), or gpuwatch run ddcolor --profile."
            ),
        )
    told_summary = summarise(trace)
    if arguments.json:
        peaks = [held_json(peak, told_summary, held_by(trace, peak), arguments.top) for peak in told_summary.memory]
        print(json_line({**file_json(read), "kind": "trace", "devices": peaks}))
    else:
        print_trace_memory(console, read, told_summary, lambda peak: held_by(trace, peak), arguments.top)
    return _tell_damage([read])


def _tell_damage(reads: list[Read]) -> int:
    damages = [read.damage for read in reads if read.damage is not None]
    for damage in damages:
        tell(damage)
    return UsageError.exit_code if damages else 0


ACTIONS = (
    Action("summary", lambda: _("where the time went; with two files, what changed"), _add_summary, summary),
    Action("memory", lambda: _("who held memory at its peak, what was refused, how torn it is"), _add_memory, memory),
    Action("compile", lambda: _("what a network of yours does to memory, at any size"), add_compile, compile_network),
)
"""What `gpuwatch trace` can do; a new action is a row here."""
