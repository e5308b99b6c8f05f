"""A failure in a log and the failed job of the server's history: each becomes known first, and both are one.

The log names no job, and the history no line. They belong together where the job's message is what the failure's first line
says, near enough in time.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container, Iterator, Reversible
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeVar

from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import JobEnded

_NEARNESS = timedelta(seconds=60)
_MOST_WAITING = 100
_MOST_JOINED = 1000
_Waiting = TypeVar("_Waiting", Incident, JobEnded)


@dataclass(slots=True)
class Joining:
    """Which job each failure ended."""

    servers: Container[str]
    """Those that told what they are: a server's own log tells of its own jobs alone."""
    told_as_new: bool = False
    """Whether lines from before we came are told as new ones are, as where a log is read from its start."""
    _jobs: deque[JobEnded] = field(default_factory=lambda: deque(maxlen=_MOST_WAITING))
    """Failed jobs whose failure no log has told yet."""
    _joined: OrderedDict[str, JobEnded] = field(default_factory=OrderedDict)
    _waiting: dict[str, dict[str, Incident]] = field(default_factory=dict)
    """By source and id, the failures that have no job yet, oldest first."""

    def job_of(self, incident: Incident) -> JobEnded | None:
        """The job that the incident ended; where it is not known yet, the incident waits for it."""
        if (known := self._joined.get(incident.id)) is not None:
            return known
        for job in _from_end(self._jobs, fresh=incident.fresh):
            if self._is_of(incident, job):
                self._jobs.remove(job)
                self._join(incident, job)
                return job
        waiting = self._waiting.setdefault(incident.source, {})
        waiting[incident.id] = incident
        if len(waiting) > _MOST_WAITING:
            del waiting[next(iter(waiting))]
        return None

    def incident_of(self, job: JobEnded) -> Incident | None:
        """The incident that the failed job belongs to, without it; where none is known yet, the job waits."""
        for waiting in self._waiting.values():
            for incident in _from_end(waiting.values(), fresh=job.fresh):
                if self._is_of(incident, job):
                    del waiting[incident.id]
                    self._join(incident, job)
                    return incident
        self._jobs.append(job)
        return None

    def incident_with(self, job_id: str) -> str | None:
        """The id of the incident that this job was joined to, the newest where ids came again."""
        return next((id_ for id_, job in reversed(self._joined.items()) if job.job_id == job_id), None)

    def _is_of(self, incident: Incident, job: JobEnded) -> bool:
        return (incident.source not in self.servers or incident.source == job.server) and is_of(
            incident, job, told_as_new=self.told_as_new
        )

    def _join(self, incident: Incident, job: JobEnded) -> None:
        self._joined[incident.id] = job
        if len(self._joined) > _MOST_JOINED:
            self._joined.popitem(last=False)


def _from_end(waiting: Reversible[_Waiting], *, fresh: bool) -> Iterator[_Waiting]:
    """In the order in which they came; what is from before we came is told newest first, and found newest first.

    Of failures with the same words the oldest may have no job any more, or the oldest jobs no line.
    """
    return iter(waiting) if fresh else reversed(waiting)


def is_of(incident: Incident, job: JobEnded, *, told_as_new: bool = False) -> bool:
    """Whether the failed job's message is the one that the incident's first line says, near enough in time.

    `told_as_new`: an old failure's line may have been told as a new one.
    """
    alike = incident.fresh == job.fresh or (told_as_new and incident.fresh)
    if job.exception_message is None or not alike:
        return False
    if incident.fresh and abs(incident.first_at - job.at) > _NEARNESS:
        return False
    return says(incident.text, job.exception_message)


def says(line: str, message: str) -> bool:
    """Whether a log's line has the first line of a job's message."""
    first_line = message.strip().partition("\n")[0][:400].strip()
    return bool(first_line) and first_line in line


def with_job(incident: Incident, job: JobEnded | None) -> Incident:
    """The incident with what the server's history tells of its job."""
    if job is None:
        return incident
    node = replace(
        incident.node,
        id=job.node_id or incident.node.id,
        type=job.node_type or incident.node.type,
        inputs=job.inputs or incident.node.inputs,
    )
    return replace(incident, node=node, job_id=job.job_id)
