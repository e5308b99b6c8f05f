"""All that is known right now, as one value that never changes: every reader sees a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from gpuwatch.core.events import (
    Event,
    FailureCounted,
    IncidentChanged,
    PeakCompared,
    PlaceReached,
    RecordsRead,
    RulesQuarantined,
)
from gpuwatch.core.incidents import Incident
from gpuwatch.core.learned.runs import RunMeasured
from gpuwatch.core.mutes import Mutes
from gpuwatch.core.observations import (
    FixTried,
    GpuSample,
    HostSample,
    JobEnded,
    JobProgress,
    JournalSeen,
    LogGap,
    QueueState,
    RunEvent,
    ServerSeen,
    SourceDown,
    SourceKind,
    SourceUp,
    Tick,
)
from gpuwatch.core.reloads import MutesLoaded, MutesRefused, RulesLoaded, RulesRefused
from gpuwatch.core.rules import Label, RuleSet, Severity
from gpuwatch.core.status import Reload, RunStatus, SourceState, SourceStatus, Vitals, refused, run_after
from gpuwatch.core.tallies import Tallies

MOST_INCIDENTS = 1000
_HISTORY = 300
_MOST_JOBS = 200
_MOST_FIXES = 500

RecordOutcome = Literal["matched", "ignored"]
WorkerState = Literal["idle", "busy", "dead", "away"]
"""Away: its server does not answer, or has not yet."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of everything. Mappings are never changed in place."""

    at: datetime | None = None
    sources: Mapping[str, SourceStatus] = field(default_factory=dict)
    incidents: Mapping[str, Incident] = field(default_factory=dict)
    """By id, oldest first; at most MOST_INCIDENTS, those that are over go first."""
    failures_total: Mapping[tuple[Label, Severity], int] = field(default_factory=dict)
    failure_last_at: Mapping[Label, datetime] = field(default_factory=dict)
    failure_last_id: Mapping[Label, str] = field(default_factory=dict)
    """The incident that a label's last failure belongs to."""
    records_total: Mapping[tuple[SourceKind, RecordOutcome], int] = field(default_factory=dict)
    gpus: Mapping[str, tuple[GpuSample, ...]] = field(default_factory=dict)
    """By uuid, oldest sample first."""
    host: HostSample | None = None
    queues: Mapping[str, QueueState] = field(default_factory=dict)
    servers: Mapping[str, ServerSeen] = field(default_factory=dict)
    progress: Mapping[str, JobProgress] = field(default_factory=dict)
    """By server, the node that runs, where the server tells it."""
    jobs: tuple[JobEnded, ...] = ()
    fixes: Mapping[str, FixTried] = field(default_factory=dict)
    """What was heard last of a fix, by the incident's id and by the id of the job that failed; the newest few hundred."""
    run: RunStatus | None = None
    quarantined: frozenset[str] = frozenset()
    rules: RuleSet | None = None
    """The rules in force, where they were read anew since the start."""
    rules_reload: Reload | None = None
    """How the rule files were read last; None before they changed."""
    mutes_reload: Reload | None = None
    mutes: Mutes = field(default_factory=Mutes)
    """Those in force."""
    muted_total: Mapping[Label, int] = field(default_factory=dict)
    """The failures among `failures_total` that were muted."""
    journal: JournalSeen | None = None
    """None where none is kept."""
    tallies: Tallies = field(default_factory=Tallies)
    vitals: Vitals = field(default_factory=Vitals)

    def after(self, event: Event) -> Snapshot:
        """The snapshot once this event has happened."""
        step = self._step(event)
        if (tallies := step.tallies.after(event)) is not step.tallies:
            step = replace(step, tallies=tallies)
        return replace(step, at=event.at) if step.at != event.at else step

    @property
    def newest_incidents(self) -> tuple[Incident, ...]:
        """Incidents, the newest first."""
        return tuple(reversed(list(self.incidents.values())))

    @property
    def standing(self) -> Counter[Label]:
        """How many incidents of each label stand open or settled and have not cleared; muted ones are left out."""
        return Counter(each.label for each in self.incidents.values() if each.active and not each.muted)

    def held(self, incident: Incident) -> FixTried | None:
        """The fix that held for its job; None where none did, or a later one is under way."""
        tried = self.fixes.get(incident.id) or self.fixes.get(incident.job_id or "")
        if tried is None or tried.outcome != "held":
            return None
        return tried if incident.job_id is None or tried.failed_job_id in (None, incident.job_id) else None

    @property
    def workers(self) -> Mapping[str, WorkerState]:
        """What the worker of each watched server does, as far as its queue and its log tell."""
        dead = {
            source
            for each in self.incidents.values()
            if each.worker_dead and each.active
            for source in (each.source, *each.also_in)
        }
        return {
            name: self._worker_of(status, dead=name in dead)
            for name, status in self.sources.items()
            if status.kind == "comfyui"
        }

    def _worker_of(self, status: SourceStatus, *, dead: bool) -> WorkerState:
        queue = self.queues.get(status.name)
        if status.state != "up" or queue is None:
            return "away"
        return "dead" if dead else "busy" if queue.running else "idle"

    def _step(self, event: Event) -> Snapshot:
        match event:
            case RecordsRead():
                return self._with_records(event)
            case IncidentChanged(incident=incident):
                return replace(self, incidents=bounded({**self.incidents, incident.id: incident}))
            case FailureCounted():
                return self._with_failures(event)
            case GpuSample() | HostSample() | JournalSeen():
                return self._with_sample(event)
            case QueueState() | JobProgress():
                return self._with_queue(event)
            case ServerSeen():
                return replace(self, servers={**self.servers, event.server: event})
            case JobEnded():
                return replace(
                    self._without_progress(event.server, event.job_id), jobs=(*self.jobs, event)[-_MOST_JOBS:]
                )
            case RunEvent():
                return replace(self, run=run_after(self.run, event.event))
            case SourceUp() | SourceDown():
                return self._with_status(event)
            case RulesQuarantined():
                return replace(self, quarantined=event.rule_ids)
            case RulesLoaded() | RulesRefused() | MutesLoaded() | MutesRefused() | Tick():
                return self._reloaded(event)
            case FixTried():
                return self._with_fix(event)
            case PlaceReached() | RunMeasured() | PeakCompared() | LogGap():
                return self

    def _reloaded(self, event: RulesLoaded | RulesRefused | MutesLoaded | MutesRefused | Tick) -> Snapshot:
        """The snapshot after a person's files were read anew, or could not be, or a mute's time has passed."""
        match event:
            case RulesLoaded():
                return replace(self, rules=event.rules, rules_reload=Reload(event.at, None, event.at))
            case RulesRefused():
                return replace(self, rules_reload=refused(self.rules_reload, event))
            case MutesLoaded():
                loaded = replace(self, mutes=event.mutes, mutes_reload=Reload(event.at, None, event.at))
                return loaded._with_mutes(event.at)
            case MutesRefused():
                return replace(self, mutes_reload=refused(self.mutes_reload, event))
            case Tick():
                over = self.at is not None and self.mutes.ended(self.at, event.at)
                return self._with_mutes(event.at) if over else self

    def _with_status(self, event: SourceUp | SourceDown) -> Snapshot:
        records = self._records_of(event.source)
        if isinstance(event, SourceUp):
            return self._with_source(SourceStatus(event.source, event.kind, reason=event.note, records=records))
        state: SourceState = "failed" if event.failed else "ended"
        return self._without_progress(event.source)._with_source(
            SourceStatus(event.source, event.kind, state, event.reason, records)
        )

    def _with_sample(self, event: GpuSample | HostSample | JournalSeen) -> Snapshot:
        match event:
            case GpuSample():
                history = (*self.gpus.get(event.uuid, ()), event)[-_HISTORY:]
                return replace(self, gpus={**self.gpus, event.uuid: history})
            case HostSample():
                return replace(self, host=event)
            case JournalSeen():
                return replace(self, journal=event)

    def _with_fix(self, event: FixTried) -> Snapshot:
        names = {name for name in (event.incident_id, event.failed_job_id) if name}
        known = {name: tried for name, tried in self.fixes.items() if name not in names} | dict.fromkeys(names, event)
        step = replace(self, fixes=dict(list(known.items())[-_MOST_FIXES:]))
        incident = self.incidents.get(event.incident_id)
        if incident is None:
            return step
        return replace(step, incidents={**self.incidents, incident.id: replace(incident, fix_outcome=event.outcome)})

    def _with_queue(self, queue: QueueState | JobProgress) -> Snapshot:
        if isinstance(queue, JobProgress):
            return replace(self, progress={**self.progress, queue.server: queue})
        step = replace(self, queues={**self.queues, queue.server: queue})
        return step if queue.running else step._without_progress(queue.server)

    def _without_progress(self, server: str, job_id: str | None = None) -> Snapshot:
        """Without the node that runs there: of that job, where one is named."""
        running = self.progress.get(server)
        if running is None or job_id not in (None, running.job_id):
            return self
        return replace(self, progress={name: told for name, told in self.progress.items() if name != server})

    def _records_of(self, source: str) -> int:
        return self.sources[source].records if source in self.sources else 0

    def _with_source(self, status: SourceStatus) -> Snapshot:
        return replace(self, sources={**self.sources, status.name: status})

    def _with_records(self, event: RecordsRead) -> Snapshot:
        status = self.sources.get(event.source) or SourceStatus(event.source, event.kind)
        status = replace(
            status,
            records=status.records + event.lines,
            bar=event.bar.decode("utf-8", "replace"),
            last_at=event.at,
        )
        totals = dict(self.records_total)
        for outcome, count in (("matched", event.matched), ("ignored", max(event.lines - event.matched, 0))):
            key: tuple[SourceKind, RecordOutcome] = (status.kind, "matched" if outcome == "matched" else "ignored")
            totals[key] = totals.get(key, 0) + count
        return replace(self, sources={**self.sources, event.source: status}, records_total=totals)

    def _with_mutes(self, at: datetime) -> Snapshot:
        """Every incident marked anew."""
        mutes = self.mutes.marked(self.incidents.values(), at)
        return replace(self, incidents={id_: replace(known, mute=mutes[id_]) for id_, known in self.incidents.items()})

    def _with_failures(self, event: FailureCounted) -> Snapshot:
        if not event.fresh:
            return self
        key = (event.label, event.severity)
        incident = self.incidents.get(event.incident_id)
        codes = incident.facts.get("xids") or () if incident is not None and event.label == "xid" else ()
        muted = self.muted_total.get(event.label, 0) + event.failures * event.muted
        return replace(
            self,
            muted_total={**self.muted_total, event.label: muted} if event.muted else self.muted_total,
            failures_total={**self.failures_total, key: self.failures_total.get(key, 0) + event.failures},
            failure_last_at={**self.failure_last_at, event.label: event.at},
            failure_last_id={**self.failure_last_id, event.label: event.incident_id},
            tallies=self.tallies.with_xids(codes, event.failures) if codes else self.tallies,
        )


def bounded(incidents: dict[str, Incident]) -> dict[str, Incident]:
    """At most MOST_INCIDENTS of them: the oldest that is over goes first, the oldest of all where none is."""
    if len(incidents) > MOST_INCIDENTS:
        over = next((id_ for id_, incident in incidents.items() if not incident.active), next(iter(incidents)))
        del incidents[over]
    return incidents
