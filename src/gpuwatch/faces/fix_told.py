"""What is told of a failure beside the workflow that is to be fixed: by its log, by the failed job, by the server."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.comfyui_server import ask_server
from gpuwatch.adapters.job_error import JobError, read_job_errors
from gpuwatch.adapters.node_knowledge import load_knowledge, read_object_info, with_object_info
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.sources.decoding import decoded
from gpuwatch.adapters.sources.file import read_file_chunks
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.trouble import Trouble, troubles_of
from gpuwatch.errors import UsageError
from gpuwatch.faces.servers import server_named
from gpuwatch.texts import Text, text

_VERSION = re.compile(rb"ComfyUI version: v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})")
_CHUNK_BYTES = 1 << 18
_OVERLAP = 64


@dataclass(slots=True)
class Told:
    """What the log, the failed job and the server say."""

    knowledge: Knowledge
    troubles: list[Trouble]
    notes: list[Text]
    server_bytes: int | None = None

    def card_bytes(self, arguments: argparse.Namespace) -> int:
        """The card's memory: as the person says, else as the failure or the server told it. Raises UsageError where nobody does."""
        if arguments.gpu_memory is not None:
            return int(arguments.gpu_memory)
        totals = [trouble.balance.total_bytes for trouble in reversed(self.troubles) if trouble.balance.total_bytes]
        found = totals[0] if totals else self.server_bytes
        if found is None:
            raise UsageError(text("how much memory the card has is not known."), text("Say it with --gpu-memory 8GiB."))
        return int(found)


def gather(arguments: argparse.Namespace) -> Told:
    """Read what was named beside the workflow."""
    told = Told(load_knowledge(), [], [])
    if arguments.object_info is not None:
        told.knowledge = with_object_info(told.knowledge, read_object_info(arguments.object_info), complete=False)
    version: tuple[int, ...] | None = None
    if arguments.server is not None:
        said = ask_server(server_named(arguments.server, arguments))
        told.knowledge = with_object_info(told.knowledge, said.object_info, complete=True)
        told.server_bytes = said.total_bytes
        version = version_of(b"ComfyUI version: " + (said.version or "").encode())
    incidents: list[Incident] = []
    if arguments.log is not None or arguments.error is not None:
        matcher = Matcher(load_rules(arguments.rules))
        if arguments.log is not None:
            found, seen = from_log(arguments.log, matcher)
            version = version or seen
            incidents += found
            if not troubles_of(found):
                name = "stdin" if arguments.log == "-" else arguments.log
                told.notes.append(text("{log} tells of no failure for want of GPU memory.", log=name))
        if arguments.error is not None:
            for error in read_job_errors(arguments.error):
                found = from_error(error, matcher)
                incidents += found
                if not troubles_of(found):
                    told.notes.append(
                        text(
                            "The failed job's error is not about GPU memory: {type}: {words}",
                            type=error.exception_type or "?",
                            words=error.message.partition("\n")[0][:200],
                        )
                    )
    told.troubles = troubles_of(incidents)
    told.knowledge = replace(told.knowledge, version=version)
    return told


def from_log(path: str, matcher: Matcher) -> tuple[list[Incident], tuple[int, ...] | None]:
    """The log's incidents, and ComfyUI's version where it stands there."""
    engine = Engine(matcher.rules, load_workloads(), shows_records=False, ready=matcher)
    events: list[Event] = []
    version, tail = None, b""
    for chunk in decoded(_stdin()) if path == "-" else read_file_chunks(path):
        version = version_of(tail + chunk) or version
        tail = chunk[-_OVERLAP:]
        events += changed(engine.feed(LogChunk(utc_now(), path, chunk)))
    events += changed(engine.end(utc_now()))
    return latest(events), version


def from_error(error: JobError, matcher: Matcher) -> list[Incident]:
    """The incidents of one failed job."""
    engine = Engine(matcher.rules, load_workloads(), shows_records=False, ready=matcher)
    now = utc_now()
    events = changed(engine.feed(LogChunk(now, "job", error.as_log(), "comfyui")))
    events += changed(engine.feed(error.as_job(now, "job")))
    events += changed(engine.end(now))
    found = latest(events)
    return [
        replace(incident, node=replace(incident.node, id=error.node_id, type=error.node_type, inputs=error.inputs))
        for incident in found
    ]


def changed(events: list[Event]) -> list[Event]:
    """Only what changed an incident: the rest of a long log is not kept."""
    return [event for event in events if isinstance(event, IncidentChanged)]


def latest(events: list[Event]) -> list[Incident]:
    """Each incident as it was told last."""
    found = {event.incident.id: event.incident for event in events if isinstance(event, IncidentChanged)}
    return list(found.values())


def version_of(words: bytes) -> tuple[int, ...] | None:
    """ComfyUI's version, as it prints it at its start."""
    seen = _VERSION.search(words)
    return tuple(int(part) for part in seen.groups()) if seen else None


def _stdin() -> Iterator[bytes]:
    while chunk := os.read(sys.stdin.fileno(), _CHUNK_BYTES):
        yield chunk
