"""Observations in, events out: the one place where log, job and driver meet.

No I/O and no clock: the time is the observation's. A test is a list in and a list out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import InitVar, dataclass, field, replace
from datetime import datetime, timedelta

from gpuwatch.core.advice import MEMORY_LABELS, diagnose, shortened
from gpuwatch.core.case import Surroundings
from gpuwatch.core.correlation import Correlator
from gpuwatch.core.gathering import Gathering
from gpuwatch.core.incidents import Incident
from gpuwatch.core.logreader import LogReader
from gpuwatch.core.loop.tried import Tried
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.mutes import Mutes
from gpuwatch.core.observations import (
    FixOutcome,
    FixTried,
    GpuSample,
    HostSample,
    JobEnded,
    JobProgress,
    LogChunk,
    LogRestarted,
    LogResumed,
    Observation,
    QueueState,
    RunEvent,
    ServerSeen,
    SourceDown,
    SourceKind,
    SourceUp,
    Tick,
)
from gpuwatch.core.records import LogRecord
from gpuwatch.core.reloads import MutesLoaded, MutesRefused, RulesLoaded, RulesRefused, handed_over
from gpuwatch.core.rules import Label, RuleSet, Severity
from gpuwatch.core.twins import Twins
from gpuwatch.core.worker import LABEL as WORKER_DEAD
from gpuwatch.core.worker import WorkerWatch, dead_worker
from gpuwatch.core.workload import Workloads
from gpuwatch.texts import plain

_SAMPLES_KEPT = 240
_JOB_NEARNESS = timedelta(seconds=60)
_MOST_WAITING_JOBS = 100
_MOST_JOINED = 1000


@dataclass(frozen=True, slots=True)
class RecordsRead:
    """A log was read a little further."""

    at: datetime
    source: str
    kind: SourceKind
    records: tuple[LogRecord, ...]
    """To be shown; none from an engine that is told that nobody looks."""
    lines: int
    """Lines read: newlines, and the last line where it has none."""
    matched: int
    bar: bytes
    """The open progress bar's last frame."""


@dataclass(frozen=True, slots=True)
class PlaceReached:
    """All that a log tells up to here has been told: whoever begins here later misses nothing and tells nothing twice."""

    at: datetime
    source: str
    kind: SourceKind
    place: str
    """In the source's own words."""
    line: int
    epoch: int


@dataclass(frozen=True, slots=True)
class IncidentChanged:
    """An incident was opened or changed; the same id comes again."""

    at: datetime
    incident: Incident


@dataclass(frozen=True, slots=True)
class FailureCounted:
    """So many failures of one label, each counted once, when its label is certain."""

    at: datetime
    incident_id: str
    label: Label
    severity: Severity
    failures: int
    fresh: bool
    muted: bool = False


@dataclass(frozen=True, slots=True)
class RulesQuarantined:
    """Rules whose patterns took too long and were set aside; of mutes, their places."""

    at: datetime
    rule_ids: frozenset[str]


Event = (
    RecordsRead
    | PlaceReached
    | IncidentChanged
    | FailureCounted
    | RulesQuarantined
    | GpuSample
    | HostSample
    | QueueState
    | ServerSeen
    | JobEnded
    | JobProgress
    | FixTried
    | RunEvent
    | SourceUp
    | SourceDown
    | RulesLoaded
    | RulesRefused
    | MutesLoaded
    | MutesRefused
    | Tick
)
"""What happened, for whoever keeps a picture: the engine's own findings, and the observations that need no finding."""


@dataclass(slots=True)
class Engine:
    """Turns observations into incidents and diagnoses."""

    rules: RuleSet
    workloads: Workloads = field(default_factory=Workloads)
    gpu_total_bytes: int | None = None
    """The card's size, where a person told it."""
    shows_records: bool = True
    """Whether somebody looks at the log. Where nobody does, what tells nothing is left out unread: the same incidents, faster."""
    correlates: bool = False
    """Whether failures are looked at together; only where observations come at the time that they speak of."""
    mutes: Mutes = field(default_factory=Mutes)
    before_lines: int = 0
    """How many lines before an incident are kept with it."""
    counted_before: dict[str, int] = field(default_factory=dict)
    """Failures that an earlier run counted, by incident: where lines are read again, they are not counted again."""
    tried: Tried = field(default_factory=Tried)
    """What became of fixes, so that one that failed is not the first to be named again."""
    ready: InitVar[Matcher | None] = None
    """The rules made ready before, for many engines over the same rules."""
    matcher: Matcher = field(init=False)
    correlator: Correlator = field(init=False)
    _logs: dict[str, LogReader] = field(default_factory=dict)
    _samples: dict[str, deque[GpuSample]] = field(default_factory=dict)
    _host: HostSample | None = None
    """The machine's memory as it was told last."""
    _servers: dict[str, ServerSeen] = field(default_factory=dict)
    _workers: dict[str, WorkerWatch] = field(default_factory=dict)
    _twins: Twins = field(default_factory=Twins)
    _places: dict[str, str] = field(default_factory=dict)
    """By source, where its reader is, until that was told as reached."""
    _dead: dict[str, Incident] = field(default_factory=dict)
    """By server, the incident of a dead worker that its queue told."""
    _outcomes: dict[str, FixOutcome] = field(default_factory=dict)
    """By incident, what became of the fix that was tried last."""
    _jobs: deque[JobEnded] = field(default_factory=lambda: deque(maxlen=_MOST_WAITING_JOBS))
    _joined: dict[str, JobEnded] = field(default_factory=dict)
    _unjoined: dict[str, deque[Incident]] = field(default_factory=dict)
    _known_total: dict[str, int] = field(default_factory=dict)
    _told_quarantined: frozenset[str] = frozenset()

    def __post_init__(self, ready: Matcher | None) -> None:
        self.matcher = ready or Matcher(self.rules)
        self.correlator = Correlator(self.rules.correlations)

    def feed(self, observation: Observation | RulesLoaded | RulesRefused | MutesLoaded | MutesRefused) -> list[Event]:
        """Take one observation, or new rules; give what follows from it, in order."""
        if isinstance(observation, LogChunk | LogRestarted | LogResumed | SourceDown | Tick):
            events = self._take_of_logs(observation)
        elif isinstance(observation, JobEnded | QueueState | ServerSeen):
            events = self._take_of_server(observation)
        else:
            if isinstance(observation, RulesLoaded):
                self._take_rules(observation)
            elif isinstance(observation, MutesLoaded):
                self.mutes = observation.mutes
            elif isinstance(observation, GpuSample):
                self._samples.setdefault(observation.uuid, deque(maxlen=_SAMPLES_KEPT)).append(observation)
            elif isinstance(observation, HostSample):
                self._host = observation
            elif isinstance(observation, FixTried):
                self.tried = self.tried.after(observation)
                self._keep_outcome(observation)
            events = [observation]
        set_aside = self.matcher.quarantined | {mute.where for mute in self.mutes.set_aside}
        if set_aside != self._told_quarantined:
            self._told_quarantined = frozenset(set_aside)
            events.append(RulesQuarantined(observation.at, self._told_quarantined))
        return self._correlated(events)

    def _take_of_logs(self, observation: LogChunk | LogRestarted | LogResumed | SourceDown | Tick) -> list[Event]:
        """Bytes of a log, or what ends, begins or reveals something in it."""
        at = observation.at
        if isinstance(observation, LogChunk):
            return self._read_chunk(self._log(observation.source, observation.kind), observation)
        if isinstance(observation, LogRestarted):
            log = self._log(observation.source, "file")
            events = self._finish(log, log.restart(at), at)
            if (worker := self._workers.get(observation.source)) is not None:
                events += self._worker_changed(observation.source, worker.restarted(), at)
            return events
        if isinstance(observation, LogResumed):
            self._log(observation.source, observation.kind).resume(observation.line, observation.epoch)
            return []
        if isinstance(observation, Tick):
            events = [observation]
            for log in self._logs.values():
                events.extend(self._read(log, log.tick(at), at))
                events.extend(self._place_of(log, at))
            return events
        events = []
        if (ended := self._logs.get(observation.source)) is not None:
            events = self._finish(ended, ended.end(at), at)
        if (worker := self._workers.get(observation.source)) is not None:
            worker.away()
        return [*events, observation]

    def _take_of_server(self, observation: JobEnded | QueueState | ServerSeen) -> list[Event]:
        """What a server says of itself, its queue and its jobs."""
        if isinstance(observation, JobEnded):
            job = self._named(observation)
            return [*([job] if job.fresh else []), *self._join_job(job)]
        if isinstance(observation, ServerSeen):
            self._servers[observation.server] = observation
            return [observation]
        worker = self._workers.setdefault(observation.server, WorkerWatch())
        since = worker.since
        change = worker.feed(observation)
        if change == "died" and since is not None:
            return [observation, *self._worker_died(worker, observation, since)]
        return [observation, *self._worker_changed(observation.server, change, observation.at)]

    def end(self, at: datetime) -> list[Event]:
        """Nothing more will come: every log ends."""
        events: list[Event] = []
        for log in self._logs.values():
            events.extend(self._finish(log, log.end(at), at))
        return self._correlated(events)

    def _take_rules(self, loaded: RulesLoaded) -> None:
        """Other rules for what is read from now on; what is open keeps the rule that opened it."""
        self.matcher = handed_over(loaded.matcher, self.matcher)
        self.rules = loaded.rules
        for log in self._logs.values():
            log.matcher = self.matcher
        self.correlator.replace_rules(loaded.rules.correlations)

    def _log(self, source: str, kind: SourceKind) -> LogReader:
        if source not in self._logs:
            self._logs[source] = LogReader(source, kind, self.matcher, self.before_lines)
        return self._logs[source]

    def _read_chunk(self, log: LogReader, chunk: LogChunk) -> list[Event]:
        if self.shows_records:
            records = log.feed(chunk.data, chunk.at, fresh=chunk.fresh)
            events = self._read(log, records, chunk.at, chunk.data.count(b"\n"))
        else:
            events = self._read(log, [], chunk.at, log.skim(chunk.data, chunk.at, fresh=chunk.fresh, scan=chunk.scan))
        if chunk.place is not None:
            self._places[chunk.source] = chunk.place
            events += self._place_of(log, chunk.at)
        return events

    def _place_of(self, log: LogReader, at: datetime) -> list[PlaceReached]:
        """Where the log's reader is, if nothing of what it read is still being gathered."""
        if log.source not in self._places or not log.at_rest:
            return []
        return [PlaceReached(at, log.source, log.kind, self._places.pop(log.source), log.cutter.line - 1, log.epoch)]

    def _finish(self, log: LogReader, records: list[LogRecord], at: datetime) -> list[Event]:
        """The log's last line may have no newline."""
        return self._read(log, records, at, 1 if records else 0)

    def _read(self, log: LogReader, records: list[LogRecord], at: datetime, lines: int = 0) -> list[Event]:
        events: list[Event] = []
        matched = log.take_matched()
        if records or lines or log.cutter.bar:
            shown = tuple(records) if self.shows_records else ()
            events.append(RecordsRead(at, log.source, log.kind, shown, lines, matched, log.cutter.bar))
        events.extend(self._changes(log, log.take_changed(), at))
        for gathering, failures in log.take_counted():
            incident = gathering.value(log.source)
            first = self._twins.first_of(incident, log.kind)
            new = self._twins.new_failures(incident, self._not_before(incident.id, failures), at)
            if new:
                muted = bool(self.mutes.entries) and self.mutes.mute_of(incident, at) is not None
                severity = gathering.rule.severity
                events.append(FailureCounted(at, first, gathering.label, severity, new, gathering.fresh, muted))
        return events

    def _not_before(self, incident_id: str, failures: int) -> int:
        """How many of the failures no earlier run has counted."""
        before = self.counted_before.get(incident_id, 0)
        if before:
            self.counted_before[incident_id] = max(before - failures, 0)
        return max(failures - before, 0)

    def _changes(self, log: LogReader, changed: Iterable[Gathering], at: datetime) -> Iterator[IncidentChanged]:
        for gathering in changed:
            incident = gathering.value(log.source)
            if (first := self._twins.first_of(incident, log.kind)) != incident.id:
                yield from self._seen_twice(first, at)
                continue
            if incident.label == WORKER_DEAD and log.source in self._workers:
                self._workers[log.source].told_by_log = incident.active
            job = self._joined.get(incident.id) or self._job_of(incident)
            incident = self._with_node_type(incident if job is None else with_job(incident, job))
            if incident.label in MEMORY_LABELS and (total := incident.facts.get("total_bytes")):
                self._known_total[log.source] = total
            yield IncidentChanged(at, self._diagnosed(incident, job, at))

    def _diagnosed(self, incident: Incident, job: JobEnded | None, at: datetime) -> Incident:
        incident = replace(incident, also_in=self._twins.also_in(incident.id))
        around = Surroundings(
            workloads=self.workloads,
            gpu_total_bytes=self.gpu_total_bytes,
            gpu=self._sample_near(incident),
            server=self._server_of(incident),
            job=job,
            known_total_bytes=self._known_total.get(incident.source),
            host=self._host if incident.fresh else None,
            tried=self.tried,
        )
        return replace(
            incident,
            diagnosis=diagnose(incident, around),
            mute=self.mutes.mute_of(incident, at),
            fix_outcome=self._outcomes.get(incident.id),
        )

    def _keep_outcome(self, tried: FixTried) -> None:
        self._outcomes.pop(tried.incident_id, None)
        self._outcomes[tried.incident_id] = tried.outcome
        if len(self._outcomes) > _MOST_JOINED:
            del self._outcomes[next(iter(self._outcomes))]

    def _seen_twice(self, incident_id: str, at: datetime) -> Iterator[IncidentChanged]:
        """Another source tells what was told: that is evidence, and said once."""
        incident = self._twins.news_of(incident_id)
        if incident is not None:
            job = self._joined.get(incident_id)
            incident = self._with_node_type(incident if job is None else with_job(incident, job))
            yield IncidentChanged(at, self._diagnosed(incident, job, at))

    def _server_of(self, incident: Incident) -> ServerSeen | None:
        """The server whose log told the incident; the only one there is, where it is a file or a pipe."""
        for source in (incident.source, *incident.also_in):
            if source in self._servers:
                return self._servers[source]
        return next(iter(self._servers.values())) if len(self._servers) == 1 else None

    def _named(self, job: JobEnded) -> JobEnded:
        """The job with the workload that its failed node means."""
        profile = self.workloads.find(job.node_type, None) if job.workload is None and job.node_type else None
        return job if profile is None else replace(job, workload=profile.id)

    def _worker_died(self, worker: WorkerWatch, queue: QueueState, since: datetime) -> list[Event]:
        """The queue tells that a worker is dead; nothing where its log told that."""
        rule = next((rule for rule in self.rules if rule.label == WORKER_DEAD), None)
        if rule is None or worker.told_by_log:
            return []
        incident = self._diagnosed(dead_worker(rule, queue, since), None, queue.at)
        if incident.diagnosis is not None:
            incident = replace(incident, diagnosis=replace(incident.diagnosis, evidence=(plain(incident.text),)))
        self._dead[queue.server] = incident
        counted = FailureCounted(queue.at, incident.id, rule.label, rule.severity, 1, fresh=True, muted=incident.muted)
        return [IncidentChanged(queue.at, incident), counted]

    def _worker_changed(self, server: str, change: str | None, at: datetime) -> list[Event]:
        """A worker runs again: the incident of its death clears."""
        if change != "lives" or (incident := self._dead.pop(server, None)) is None:
            return []
        return [IncidentChanged(at, replace(incident, state="cleared", last_at=at))]

    def _with_node_type(self, incident: Incident) -> Incident:
        """Name the node by its workload, where only the folder that its traceback ran through is known."""
        profile = self.workloads.find(incident.node.type, incident.node.pack)
        if profile is None or incident.node.type is not None:
            return incident
        return replace(incident, node=replace(incident.node, type=profile.node_types[0]))

    def _sample_near(self, incident: Incident) -> GpuSample | None:
        """The driver's word on the failed card, nearest in time; only where there is no doubt which card it is."""
        if not incident.fresh or len(self._samples) != 1:
            return None
        (samples,) = self._samples.values()
        return min(samples, key=lambda sample: abs(sample.at - incident.first_at), default=None)

    # -- failures that mean something together -----------------------------------------------------------------------------

    def _correlated(self, events: list[Event]) -> list[Event]:
        """The events, and after them what they mean together."""
        if not self.correlates:
            return events
        made: list[Event] = []
        for event in events:
            if isinstance(event, IncidentChanged):
                made += [self._told(ours, event.at) for ours in self.correlator.changed(event.incident)]
            elif isinstance(event, FailureCounted):
                for ours, new in self.correlator.counted(event.incident_id, event.at):
                    changed = self._told(ours, event.at)
                    made.append(changed)
                    if new:
                        muted = changed.incident.muted
                        made.append(
                            FailureCounted(event.at, ours.id, ours.label, ours.severity, 1, fresh=True, muted=muted)
                        )
            elif isinstance(event, Tick):
                made += [self._told(ours, event.at) for ours in self.correlator.tick(event.at)]
        return [*events, *made]

    def _told(self, ours: Incident, at: datetime) -> IncidentChanged:
        """What failures mean together, explained: it rests on their lines."""
        incident = self._diagnosed(ours, None, at)
        if incident.diagnosis is not None:
            evidence = tuple(plain(shortened(line)) for line in ours.excerpt)
            incident = replace(incident, diagnosis=replace(incident.diagnosis, evidence=evidence))
        return IncidentChanged(at, incident)

    # -- joining a failure with the job that it ended ----------------------------------------------------------------------

    def _is_of(self, incident: Incident, job: JobEnded) -> bool:
        """Whether the job is the one that the incident ended; a server's own log tells of its own jobs alone."""
        return (incident.source not in self._servers or incident.source == job.server) and is_of(incident, job)

    def _job_of(self, incident: Incident) -> JobEnded | None:
        for job in self._jobs:
            if self._is_of(incident, job):
                self._jobs.remove(job)
                self._keep_joined(incident, job)
                return job
        waiting = self._unjoined.setdefault(incident.source, deque(maxlen=_MOST_WAITING_JOBS))
        for place, earlier in enumerate(waiting):
            if earlier.id == incident.id:
                waiting[place] = incident
                break
        else:
            waiting.append(incident)
        return None

    def _keep_joined(self, incident: Incident, job: JobEnded) -> None:
        self._joined[incident.id] = job
        if len(self._joined) > _MOST_JOINED:
            del self._joined[next(iter(self._joined))]

    def _join_job(self, job: JobEnded) -> Iterator[IncidentChanged]:
        if job.outcome != "error":
            return
        for waiting in self._unjoined.values():
            for incident in waiting:
                if self._is_of(incident, job):
                    waiting.remove(incident)
                    self._keep_joined(incident, job)
                    yield IncidentChanged(job.at, self._diagnosed(with_job(incident, job), job, job.at))
                    return
        self._jobs.append(job)


def is_of(incident: Incident, job: JobEnded) -> bool:
    """Whether the failed job's message is the one that the incident's first line says, near enough in time."""
    if job.exception_message is None or incident.fresh != job.fresh:
        return False
    if incident.fresh and abs(incident.first_at - job.at) > _JOB_NEARNESS:
        return False
    first_line = job.exception_message.strip().partition("\n")[0][:400].strip()
    return bool(first_line) and first_line in incident.text


def with_job(incident: Incident, job: JobEnded) -> Incident:
    """The incident with what the server's history tells of its job."""
    node = replace(
        incident.node,
        id=job.node_id or incident.node.id,
        type=job.node_type or incident.node.type,
        inputs=job.inputs or incident.node.inputs,
    )
    return replace(incident, node=node, job_id=job.job_id)
