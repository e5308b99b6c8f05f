"""A job that is over, with the prompt that it ran, and what it is by the rules.

What came with the prompt (`extra_data`) may hold keys of paid services: it is in memory alone, and in no message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gpuwatch.adapters.comfyui.reading import Ended, ended_entry, items, part
from gpuwatch.adapters.job_error import JobError as FailedNode
from gpuwatch.adapters.job_error import job_error_of
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.workloads import Workloads

MARK = "gpuwatch_id"
"""Where a prompt of ours has its id once more, in its extra data: for a server that gives it another."""
OF_BATCH = "gpuwatch_submit"
"""Stands in `extra_data` of a photo of `gpuwatch submit`, which queues again itself what failed: a guard leaves it alone."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that is over, with the prompt that it ran."""

    id: str
    ended: Ended
    prompt: Mapping[str, Any]
    extra_data: Mapping[str, Any] = field(repr=False)
    error: FailedNode | None = None
    images: tuple[Mapping[str, str], ...] = ()
    """What it saved: file name, folder and kind, as /view wants them."""

    @property
    def queued_as(self) -> str:
        """The id that it was queued under by us; its own where it was not."""
        mark = self.extra_data.get(MARK)
        return mark if isinstance(mark, str) else self.id


def ended_job(id_: str, entry: Any) -> EndedJob | None:
    """An entry of the history; None where it is not over, or where its prompt is not there."""
    ended = ended_entry(id_, entry)
    item = items(entry, "prompt")
    if ended is None or len(item) < 4 or not isinstance(item[2], dict):
        return None
    extra = item[3] if isinstance(item[3], dict) else {}
    error = job_error_of({**ended.error, "prompt_id": id_}) if ended.outcome == "error" else None
    return EndedJob(id_, ended, item[2], extra, error, _images(part(entry, "outputs")))


def _images(outputs: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    """The saved pictures, previews only where there is nothing else."""
    found = [
        {name: str(image.get(name) or "") for name in ("filename", "subfolder", "type")}
        for output in outputs.values()
        for image in items(output, "images")
        if isinstance(image, dict) and isinstance(image.get("filename"), str)
    ]
    saved = tuple(image for image in found if image["type"] == "output")
    return saved or tuple(found)


def incidents_of(
    error: FailedNode, matcher: Matcher, workloads: Workloads, at: datetime, server: str = "job"
) -> list[Incident]:
    """What a failed job is by the rules: its words read as the log's, its node as the history tells it."""
    engine = Engine(matcher.rules, workloads, shows_records=False, ready=matcher)
    events = engine.feed(LogChunk(at, server, error.as_log(), "comfyui"))
    events += engine.feed(error.as_job(at, server))
    events += engine.end(at)
    found = {event.incident.id: event.incident for event in events if isinstance(event, IncidentChanged)}
    return [_with_node(incident, error) for incident in found.values()]


def _with_node(incident: Incident, error: FailedNode) -> Incident:
    node = replace(incident.node, id=error.node_id, type=error.node_type, inputs=error.inputs)
    return replace(incident, node=node)
