"""Failures that are told once their job is known: over a server's API it comes a moment after the log's words.

A failure waits a short, bounded time, by the events' own clock; then it is told as it is, and what its job adds comes after it.
Where no server is watched nothing waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gpuwatch.core.events import Event, FailureCounted, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import SourceKind
from gpuwatch.core.rules import Severity
from gpuwatch.core.status import SourceStatus

_LONGEST = timedelta(seconds=4)
"""A server is asked for its jobs every two seconds while it is busy, and its history lags up to a second behind."""
_MOST = 500
_LOGS: frozenset[SourceKind] = frozenset({"comfyui", "file", "stdin", "cmd", "journal", "docker"})
_FAILED: frozenset[Severity] = frozenset({"error", "critical"})


@dataclass(frozen=True, slots=True)
class Telling:
    """A failure that is to be told now."""

    incident: Incident
    failures: int
    """How many of it are told; 0 where it was told before and only its job is new."""
    at: datetime


@dataclass(slots=True)
class _Held:
    failures: int
    until: datetime


@dataclass(slots=True)
class Awaiting:
    """Which failures wait for their job."""

    _held: OrderedDict[str, _Held] = field(default_factory=OrderedDict)
    _without: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Told without a job that may still come."""

    def hear(
        self, events: Sequence[Event], incidents: Mapping[str, Incident], sources: Mapping[str, SourceStatus]
    ) -> Iterator[Telling]:
        """What is to be told after these events. `incidents` and `sources` as they are known after them."""
        known = {event.incident.id: event.incident for event in events if isinstance(event, IncidentChanged)}
        for event in events:
            if isinstance(event, FailureCounted):
                incident = incidents.get(event.incident_id) or known.get(event.incident_id)
                if incident is not None:
                    yield from self._counted(incident, event, sources)
        for id_ in [id_ for id_ in known if id_ in self._without or id_ in self._held]:
            incident = incidents.get(id_, known[id_])
            if incident.job_id is not None:
                yield from self._job_came(incident)
        if events:
            yield from self._overdue(events[-1].at, incidents)

    def flush(self, at: datetime, incidents: Mapping[str, Incident]) -> Iterator[Telling]:
        """Nothing more will come: what waits is to be told."""
        for held in self._held.values():
            held.until = at
        yield from self._overdue(at, incidents)

    def _counted(
        self, incident: Incident, event: FailureCounted, sources: Mapping[str, SourceStatus]
    ) -> Iterator[Telling]:
        if (held := self._held.get(incident.id)) is not None:
            held.failures += event.failures
        elif _may_have_job(incident, sources):
            self._held[incident.id] = _Held(event.failures, event.at + _LONGEST)
            if len(self._held) > _MOST:
                oldest = next(iter(self._held.values()))
                oldest.until = event.at
        else:
            yield Telling(incident, event.failures, event.at)

    def _job_came(self, incident: Incident) -> Iterator[Telling]:
        held = self._held.pop(incident.id, None)
        self._without.pop(incident.id, None)
        yield Telling(incident, held.failures if held is not None else 0, incident.last_at)

    def _overdue(self, now: datetime, incidents: Mapping[str, Incident]) -> Iterator[Telling]:
        for id_, held in list(self._held.items()):
            if held.until > now:
                continue
            del self._held[id_]
            self._without[id_] = None
            if len(self._without) > _MOST:
                self._without.popitem(last=False)
            if (incident := incidents.get(id_)) is not None:
                yield Telling(incident, held.failures, now)


def _may_have_job(incident: Incident, sources: Mapping[str, SourceStatus]) -> bool:
    """Whether a watched server may still say which job this was."""
    if incident.job_id is not None or incident.members or not incident.line:
        return False
    status = sources.get(incident.source)
    if status is None or status.kind not in _LOGS or incident.severity not in _FAILED:
        return False
    return any(each.kind == "comfyui" and each.state == "up" for each in sources.values())
