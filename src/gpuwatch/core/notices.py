"""What a person is told of from far away: which failures and outcomes make a notice, each once, and how many in what time.

A notice is a value; how it looks is a face's, how it travels an adapter's. Each carries the key of what it speaks of (the
incident's id, an alert's fingerprint), so that whoever receives it can put an end beside a beginning, and an id of its own, so
that what arrives twice counts once. Muted incidents and what stood in a log before we came make none.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from gpuwatch.core.events import Event, FailureCounted, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import FixTried
from gpuwatch.core.rules import SEVERITIES, Severity
from gpuwatch.core.worker import LABEL as WORKER_DEAD
from gpuwatch.texts import Text, text

NoticeEvent = Literal["opened", "worker_dead", "resolved", "fix_held", "fix_failed", "gave_up", "held_back", "test"]
NoticeOutcome = Literal["delivered", "refused", "failed", "dropped", "held_back"]
"""It arrived; it was sent back for good; it was tried for an hour; there was no room or no time; there were too many."""
NOTICE_OUTCOMES: tuple[NoticeOutcome, ...] = get_args(NoticeOutcome)
BURST = 10
"""So many notices at once; what else comes is held back and told of as a number."""
EVERY = timedelta(seconds=30)
"""How long until one more may go."""
_MOST_REMEMBERED = 10_000
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,100}")


def notice_id(*parts: str) -> str:
    """An id of these parts that may stand in a header. Jobs and alerts are named by others: what is not plain is hashed."""
    told = "-".join(parts)
    return told if _PLAIN.fullmatch(told) else hashlib.blake2s(told.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told."""

    id: str
    """The same when the same notice is sent again."""
    event: NoticeEvent
    at: datetime
    key: str
    """What it speaks of: one incident's or alert's notices share it; empty for what speaks of none."""
    severity: Severity
    title: Text
    source: str = ""
    incident: Incident | None = None
    fix: FixTried | None = None
    alert: Mapping[str, Any] | None = None
    """An alert of Alertmanager's, where that is what came: its labels, annotations and times."""
    details: tuple[Text, ...] = ()
    """More sentences, where there is no incident that has them."""
    held_back: Mapping[str, int] = field(default_factory=dict)
    """By label, how many were not told."""
    host: str = ""
    """The machine that tells it."""

    def sent_from(self, host: str) -> Notice:
        """The notice as this machine's own: logs of two machines may be called the same and fail alike."""
        return replace(self, host=host, id=notice_id(host, self.id))


@dataclass(slots=True)
class Bucket:
    """Lets through `size` at once and one more each `every`; what it is not asked for it saves, up to `size`."""

    size: int = BURST
    every: timedelta = EVERY
    _left: float = field(init=False)
    _at: datetime | None = None

    def __post_init__(self) -> None:
        self._left = float(self.size)

    def take(self, at: datetime) -> bool:
        """Whether one may go now."""
        if self._at is not None and at > self._at:
            self._left = min(float(self.size), self._left + (at - self._at) / self.every)
        self._at = at if self._at is None else max(at, self._at)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


@dataclass(slots=True)
class Limit:
    """A bucket that remembers what it did not let through, and says so as soon as it may."""

    bucket: Bucket = field(default_factory=Bucket)
    held_total: int = 0
    """Held back since the start."""
    _held: Counter[str] = field(default_factory=Counter)
    _since: datetime | None = None

    def admit(self, notice: Notice, label: str) -> list[Notice]:
        """The notice, where it may go now, behind the number of those that could not."""
        told = self.due(notice.at)
        if not self._held and self.bucket.take(notice.at):
            return [*told, notice]
        self._held[label] += 1
        self.held_total += 1
        self._since = self._since or notice.at
        return told

    def due(self, at: datetime) -> list[Notice]:
        """The number of those held back, where there are any and it may go now."""
        return self.rest(at) if self._held and self.bucket.take(at) else []

    def rest(self, at: datetime) -> list[Notice]:
        """The number of those held back, whether it may go now or not: for the end."""
        if not self._held or self._since is None:
            return []
        count, seconds = self._held.total(), max(0.0, (at - self._since).total_seconds())
        title = text("{count} more notices were held back within {for_seconds}", count=count, for_seconds=seconds)
        id_ = f"held-back-{self._since.timestamp():.3f}"
        told = Notice(id_, "held_back", at, "", "warning", title, held_back=dict(self._held.most_common()))
        self._held, self._since = Counter(), None
        return [told]


@dataclass(slots=True)
class Teller:
    """Makes notices of what the engine tells."""

    floor: Severity = "error"
    """Failures below it are not told; a dead worker always is."""
    limit: Limit = field(default_factory=Limit)
    _known: OrderedDict[str, bool] = field(default_factory=OrderedDict)
    """Incidents and outcomes that came by; True for an incident that was told and is not over."""

    def hear(self, events: Sequence[Event], incidents: Mapping[str, Incident]) -> list[Notice]:
        """What is to be told of these events; `incidents` as they are after them."""
        told: list[Notice] = []
        for event in events:
            match event:
                case FailureCounted():
                    incident = incidents.get(event.incident_id) or latest_of(events, event.incident_id)
                    told += self._opened(event, incident) if incident is not None else []
                case IncidentChanged(incident=incident):
                    told += self._worker_dead(event.at, incident) or self._resolved(event.at, incident)
                case FixTried(outcome="held" | "failed"):
                    told += self._fixed(event, incidents.get(event.incident_id))
                case _:
                    told += self.limit.due(event.at)
        return told

    def give_up(self, at: datetime, job: str, source: str, words: Text, incident: Incident | None) -> list[Notice]:
        """What an unattended loop could not mend."""
        key = incident.id if incident is not None else job
        title = text("gave up: {words}", words=words)
        notice = Notice(notice_id(key, "gave_up", job), "gave_up", at, key, "error", title, source, incident)
        return self.limit.admit(notice, incident.label if incident is not None else "gave_up")

    def _opened(self, event: FailureCounted, incident: Incident) -> list[Notice]:
        if not event.fresh or event.muted or incident.muted or incident.id in self._known:
            return []
        if not self._loud(incident):
            self._remember(incident.id, stands=False)
            return []
        id_, told = notice_id(incident.id, "opened"), incident.severity
        notice = Notice(id_, "opened", event.at, incident.id, told, incident.title, incident.source, incident)
        admitted = self.limit.admit(notice, incident.label)
        self._remember(incident.id, stands=notice in admitted)
        if incident.worker_dead:
            self._remember(notice_id(incident.id, "worker_dead"), stands=False)
        return [*admitted, *self._resolved(event.at, incident)]  # a log that is read late tells both at once

    def _worker_dead(self, at: datetime, incident: Incident) -> list[Notice]:
        """What was one failed job is now a server that runs none."""
        id_ = notice_id(incident.id, "worker_dead")
        if not (incident.worker_dead and incident.active) or incident.muted:
            return []
        if id_ in self._known or incident.id not in self._known:
            return []  # said, or to be said with its beginning
        title = text("ComfyUI's worker is dead, nothing runs until a restart: {title}", title=incident.title)
        notice = Notice(id_, "worker_dead", at, incident.id, "critical", title, incident.source, incident)
        admitted = self.limit.admit(notice, WORKER_DEAD)
        self._remember(id_, stands=False)
        self._remember(incident.id, stands=self._known.get(incident.id, False) or notice in admitted)
        return admitted

    def _resolved(self, at: datetime, incident: Incident) -> list[Notice]:
        """Not limited: there are no more of them than of beginnings that were told."""
        if incident.active or incident.muted or not self._known.get(incident.id):
            return []
        self._known[incident.id] = False
        id_ = notice_id(incident.id, "resolved")
        return [Notice(id_, "resolved", at, incident.id, "info", incident.title, incident.source, incident)]

    def _fixed(self, event: FixTried, incident: Incident | None) -> list[Notice]:
        if incident is not None and (incident.muted or not self._loud(incident)):
            return []
        held = event.outcome == "held"
        key = incident.id if incident is not None else event.incident_id
        title = incident.title if incident is not None else text("a job that ran out of GPU memory")
        notice = Notice(
            notice_id(key or event.server or "fix", event.job_id or event.action, event.outcome),
            "fix_held" if held else "fix_failed",
            event.at,
            key,
            "info" if held else "error",
            title,
            event.server or (incident.source if incident is not None else ""),
            incident,
            event,
        )
        if notice.id in self._known:
            return []
        self._remember(notice.id, stands=False)
        return self.limit.admit(notice, incident.label if incident is not None else event.action)

    def _remember(self, key: str, *, stands: bool) -> None:
        self._known[key] = stands
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)

    def _loud(self, incident: Incident) -> bool:
        return incident.worker_dead or SEVERITIES.index(incident.severity) >= SEVERITIES.index(self.floor)


def latest_of(events: Iterable[Event], incident_id: str) -> Incident | None:
    """The newest value of an incident among the events."""
    found = [
        event.incident for event in events if isinstance(event, IncidentChanged) and event.incident.id == incident_id
    ]
    return found[-1] if found else None
