"""Read logs and say what failed, why, and what to do.

Examples:
  gpuwatch diagnose comfyui.log
  gpuwatch diagnose --gpu-memory 8GiB comfyui.log        the log does not tell the card's size
  gpuwatch diagnose --json *.log | jq .incidents
  ssh box cat comfyui.log | gpuwatch diagnose -

What `gpuwatch rules mutes` lists is shown as muted and is no failure for the exit code.

Exit codes: 0 nothing above info, 1 a failure was found, 2 an input could not be read (the others still are).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.mutes import own_mutes
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.scanning import scanned
from gpuwatch.adapters.sources.decoding import decoded
from gpuwatch.adapters.sources.file import read_file_chunks
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, FailureCounted, IncidentChanged, RecordsRead
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.mutes import Mutes
from gpuwatch.core.observations import LogChunk
from gpuwatch.errors import GpuwatchError
from gpuwatch.faces.cli import tell
from gpuwatch.faces.options import add_gpu_memory, add_json, add_rules
from gpuwatch.faces.report import console_for, incident_json, json_line, print_incident
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _

MOST_LISTED = 10_000
MOST_THREADS = 64
_CHUNK_BYTES = 1 << 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("files", nargs="+", metavar="FILE", help=_("a log file; - is standard input"))
    add_json(parser)
    add_gpu_memory(parser)
    add_rules(parser)
    parser.add_argument(
        "--threads",
        type=threads,
        default=0,
        metavar="N",
        help=_("threads that scan ahead (default: 0; where they were measured they gained nothing)"),
    )


def threads(words: str) -> int:
    """Read a number of threads. Raises what argparse reports."""
    if not (words.isascii() and words.isdigit() and int(words) <= MOST_THREADS):
        raise argparse.ArgumentTypeError(
            render(text("{words} is no number of threads; write one from 0 to {most}", words=words, most=MOST_THREADS))
        )
    return int(words)


def run(arguments: argparse.Namespace) -> int:
    """Diagnose each input; the exit code of the worst."""
    matcher, workloads = load_matcher(arguments.rules), load_workloads()
    mutes = own_mutes()
    worst = 0
    for name in arguments.files:
        found = Found("stdin" if name == "-" else name)
        engine = Engine(matcher.rules, workloads, arguments.gpu_memory, shows_records=False, mutes=mutes, ready=matcher)
        readable = True
        try:
            chunks = decoded(read_stdin()) if name == "-" else read_file_chunks(name)
            for data, scan in scanned(chunks, matcher, arguments.threads):
                found.size_bytes += len(data)
                found.take(engine.feed(LogChunk(utc_now(), found.source, data, scan=scan)))
        except GpuwatchError as error:
            tell(error)
            readable, worst = False, 2
        found.take(engine.end(utc_now()))
        if not readable and not found.size_bytes:
            continue
        if arguments.json:
            print(json_line(found.as_json()), flush=True)
        else:
            show(found, headed=len(arguments.files) > 1)
        if found.failures and worst == 0:
            worst = 1
    tell_overruns(matcher, mutes)
    return worst


def tell_overruns(matcher: Matcher, mutes: Mutes) -> None:
    """Say which patterns took too long, and so what may be missing, or not muted, in what was printed."""
    if matcher.quarantined:
        told = text("set aside for taking too long: {rules}", rules=", ".join(sorted(matcher.quarantined)))
        print(visible(render(told)), file=sys.stderr)
    for mute in mutes.overran:
        told = text(
            "{where}: its pattern takes too long; failures that it should mute are not muted.", where=mute.where
        )
        print(visible(render(told)), file=sys.stderr)


def read_stdin() -> Iterator[bytes]:
    """Standard input's bytes."""
    while chunk := os.read(sys.stdin.fileno(), _CHUNK_BYTES):
        yield chunk


@dataclass(slots=True)
class Found:
    """What one input told."""

    source: str
    size_bytes: int = 0
    records: int = 0
    incidents: dict[str, Incident] = field(default_factory=dict)
    unlisted: int = 0
    """Failures of the incidents beyond MOST_LISTED."""
    failures: int = 0
    """Incidents above info that are not muted."""

    def take(self, events: list[Event]) -> None:
        """Keep what the events tell, in bounded memory."""
        for event in events:
            if isinstance(event, RecordsRead):
                self.records += event.lines
            elif isinstance(event, IncidentChanged):
                incident = event.incident
                if incident.id in self.incidents or len(self.incidents) < MOST_LISTED:
                    self.incidents[incident.id] = incident
            elif isinstance(event, FailureCounted):
                self.failures += event.severity != "info" and not event.muted
                if event.incident_id not in self.incidents:
                    self.unlisted += event.failures

    def as_json(self) -> dict[str, Any]:
        """One object, as `diagnose --json` prints it."""
        value: dict[str, Any] = {
            "source": self.source,
            "bytes": self.size_bytes,
            "records": self.records,
            "incidents": [incident_json(incident) for incident in self.incidents.values()],
        }
        if self.unlisted:
            value["truncated"] = self.unlisted
        return value


def show(found: Found, *, headed: bool) -> None:
    """Print what was found for a person."""
    console = console_for(sys.stdout)
    if headed:
        console.print(found.source, style="bold underline")
    for incident in found.incidents.values():
        print_incident(console, incident)
        console.print()
    if found.unlisted:
        console.print(render(text("{failures} more failures are not listed.", failures=found.unlisted)))
    muted = sum(incident.muted for incident in found.incidents.values())
    if muted:
        console.print(render(text("{count} muted; `gpuwatch rules mutes` lists why.", count=muted)), style="dim")
    if not found.incidents:
        console.print(
            render(
                text(
                    "No failure found in {size_bytes} ({records} lines).",
                    size_bytes=found.size_bytes,
                    records=found.records,
                )
            )
        )
