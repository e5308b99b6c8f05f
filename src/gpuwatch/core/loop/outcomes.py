"""What became of the fix that was tried last for a failure, by the incident and by the job that failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import FixOutcome, FixTried

_MOST = 1000


@dataclass(slots=True)
class Outcomes:
    """Bounded: the oldest are forgotten."""

    _known: dict[str, FixOutcome] = field(default_factory=dict)

    def remember(self, tried: FixTried) -> None:
        """Take what became of a fix."""
        for name in (tried.incident_id, tried.failed_job_id):
            if name:
                self._known.pop(name, None)
                self._known[name] = tried.outcome
        while len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def of(self, incident: Incident) -> FixOutcome | None:
        """What became of the last one for this failure; None where none was tried."""
        return self._known.get(incident.id) or self._known.get(incident.job_id or "")
