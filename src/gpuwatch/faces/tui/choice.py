"""Which incident is explained, and which of its fixes is chosen: by the person, and until then by what matters most."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from gpuwatch.core.diagnosis import Fix
from gpuwatch.core.incidents import Incident
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.wording import unsolved


def newest_that_matters(snapshot: Snapshot, seen: Collection[str] = ()) -> Incident | None:
    """The newest that is a failure, unsolved and not acknowledged; where there is none, the newest. Never a muted one."""
    listed = [one for one in snapshot.newest_incidents if not one.muted]
    grave = (one for one in listed if unsolved(one) and one.severity in {"error", "critical"} and one.id not in seen)
    return next(grave, listed[0] if listed else None)


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of the list: a failure, and those just before it that are like it."""

    incident: Incident
    """The newest of them, or the one that is chosen."""
    members: tuple[Incident, ...]
    """All of them, the newest first."""

    @property
    def count(self) -> int:
        """How many failures they are."""
        return sum(member.count for member in self.members)

    @property
    def last_at(self) -> datetime:
        """When the newest was told last."""
        return self.members[0].last_at


def folded(incidents: Iterable[Incident], chosen: str | None, seen: Collection[str]) -> Iterator[Listed]:
    """Failures that are alike and follow each other, as one: ten jobs that fail at the same do not hide an eleventh."""
    for _kind, alike in groupby(incidents, lambda each: _kind_of(each, each.id in seen)):
        members = tuple(alike)
        yield Listed(next((each for each in members if each.id == chosen), members[0]), members)


def _kind_of(incident: Incident, seen: bool) -> object:
    if incident.fix_outcome is not None or incident.members:
        return incident.id
    state = "" if incident.active else incident.state
    kind = incident.label, incident.title, incident.source, incident.node.type, incident.node.pack
    return (*kind, state, incident.fresh, incident.muted, incident.worker_dead, seen)


@dataclass(slots=True)
class Choice:
    """What a person chose. Who chooses the incident that matters most will see the next one that does."""

    chosen: str | None = None
    """An incident's id; None: the one that matters most."""
    fix: int = 0
    shows_muted: bool = False
    seen: set[str] = field(default_factory=set)
    """The incidents that the person acknowledged."""
    mending: str | None = None
    """The incident whose job is being mended: what fails meanwhile does not take its place."""
    _known: frozenset[str] = frozenset()
    """The incidents while it was."""
    _explained: str | None = None

    def incident(self, snapshot: Snapshot) -> Incident | None:
        """The incident to explain. Another one than before begins at its first fix."""
        chosen = snapshot.incidents.get(self.chosen or self.mending or "")
        if chosen is not None and chosen.muted and not self.shows_muted:
            chosen = None
        incident = chosen or newest_that_matters(snapshot, self.seen)
        if incident is not None and incident.id != self._explained:
            self._explained, self.fix = incident.id, 0
        return incident

    def listed(self, snapshot: Snapshot) -> tuple[Listed, ...]:
        """The rows of the list, the newest first."""
        incident = self.incident(snapshot)
        return tuple(folded(self._shown(snapshot), incident.id if incident is not None else None, self.seen))

    def _shown(self, snapshot: Snapshot) -> tuple[Incident, ...]:
        return tuple(one for one in snapshot.newest_incidents if self.shows_muted or not one.muted)

    def take(self, snapshot: Snapshot, incident_id: str) -> None:
        """The person chose this one."""
        newest = newest_that_matters(snapshot, self.seen)
        self.chosen = None if newest is not None and newest.id == incident_id else incident_id
        self.mending = None

    def attend(self, snapshot: Snapshot, over: bool | None) -> None:
        """Keep to the incident whose job is mended until that is over and another fails. `over`: None where it was left."""
        if over is None or self.mending is None:
            self.mending = None
        elif not over or not self._known:
            self._known = frozenset(snapshot.incidents)
        else:
            newest = newest_that_matters(snapshot, self.seen)
            if newest is not None and newest.id not in self._known:
                self.mending = None

    def mend(self, incident_id: str) -> None:
        """The person mends this one's job."""
        self.mending, self._known = incident_id, frozenset()

    def acknowledge(self, snapshot: Snapshot, incident_id: str) -> None:
        """The person has seen this one and those that are listed with it, and goes on reading it; again: has not."""
        rows = (row for row in self.listed(snapshot) if row.incident.id == incident_id)
        alike = {member.id for row in rows for member in row.members} or {incident_id}
        self.seen = self.seen - alike if incident_id in self.seen else self.seen | alike
        self.chosen = incident_id

    def move(self, snapshot: Snapshot, steps: int) -> None:
        """The person goes so many down the list; its ends hold."""
        listed = tuple(row.incident for row in self.listed(snapshot))
        if (here := self._place(listed, snapshot)) is not None:
            self.take(snapshot, listed[min(max(here + steps, 0), len(listed) - 1)].id)

    def step(self, snapshot: Snapshot, step: int, *, from_end: bool) -> Incident | None:
        """The next or previous in time, round the end. `from_end`: the log stands at its end, after the newest."""
        in_time = tuple(reversed(self._shown(snapshot)))
        here = self._place(in_time, snapshot)
        if here is None:
            return None
        if not (step < 0 and from_end and here == len(in_time) - 1):
            here = (here + step) % len(in_time)
        self.take(snapshot, in_time[here].id)
        return in_time[here]

    def fixes(self, snapshot: Snapshot) -> tuple[Fix, ...]:
        """The fixes of the incident to explain."""
        incident = self.incident(snapshot)
        return incident.diagnosis.fixes if incident is not None and incident.diagnosis is not None else ()

    def _place(self, incidents: tuple[Incident, ...], snapshot: Snapshot) -> int | None:
        incident = self.incident(snapshot)
        if incident is None:
            return 0 if incidents else None
        return next(place for place, one in enumerate(incidents) if one.id == incident.id)
