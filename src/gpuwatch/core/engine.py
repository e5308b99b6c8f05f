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
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.mutes import Mutes
from gpuwatch.core.observations import (
    FixTried,
    GpuSample,
    HostSample,
    JobEnded,
    LogChunk,
    LogRestarted,
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
    | IncidentChanged
    | FailureCounted
    | RulesQuarantined
    | GpuSample
    | HostSample
    | QueueState
    | ServerSeen
    | JobEnded
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
    ready: InitVar[Matcher | None] = None
    """The rules made ready before, for many engines over the same rules."""
    matcher: Matcher = field(init=False)
    correlator: Correlator = field(init=False)
    _logs: dict[str, LogReader] = field(default_factory=dict)
    _samples: dict[str, deque[GpuSample]] = field(default_factory=dict)
    _server: ServerSeen | None = None
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
        events: list[Event]
        if isinstance(observation, LogChunk):
            log = self._log(observation.source, observation.kind)
            events = self._read_chunk(log, observation)
        elif isinstance(observation, LogRestarted):
            log = self._log(observation.source, "file")
            events = self._finish(log, log.restart(observation.at), observation.at)
        elif isinstance(observation, Tick):
            events = [observation]
            for log in self._logs.values():
                events.extend(self._read(log, log.tick(observation.at), observation.at))
        elif isinstance(observation, SourceDown):
            events = [observation]
            if (ended := self._logs.get(observation.source)) is not None:
                events = [*self._finish(ended, ended.end(observation.at), observation.at), observation]
        elif isinstance(observation, JobEnded):
            events = [observation, *self._join_job(observation)]
        else:
            if isinstance(observation, RulesLoaded):
                self._take_rules(observation)
            elif isinstance(observation, MutesLoaded):
                self.mutes = observation.mutes
            elif isinstance(observation, GpuSample):
                self._samples.setdefault(observation.uuid, deque(maxlen=_SAMPLES_KEPT)).append(observation)
            elif isinstance(observation, ServerSeen):
                self._server = observation
            events = [observation]
        set_aside = self.matcher.quarantined | {mute.where for mute in self.mutes.set_aside}
        if set_aside != self._told_quarantined:
            self._told_quarantined = frozenset(set_aside)
            events.append(RulesQuarantined(observation.at, self._told_quarantined))
        return self._correlated(events)

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
            self._logs[source] = LogReader(source, kind, self.matcher)
        return self._logs[source]

    def _read_chunk(self, log: LogReader, chunk: LogChunk) -> list[Event]:
        if self.shows_records:
            records = log.feed(chunk.data, chunk.at, fresh=chunk.fresh)
            return self._read(log, records, chunk.at, chunk.data.count(b"\n"))
        return self._read(log, [], chunk.at, log.skim(chunk.data, chunk.at, fresh=chunk.fresh, scan=chunk.scan))

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
            muted = bool(self.mutes.entries) and self.mutes.mute_of(gathering.value(log.source), at) is not None
            severity = gathering.rule.severity
            events.append(FailureCounted(at, gathering.id, gathering.label, severity, failures, gathering.fresh, muted))
        return events

    def _changes(self, log: LogReader, changed: Iterable[Gathering], at: datetime) -> Iterator[IncidentChanged]:
        for gathering in changed:
            incident = gathering.value(log.source)
            job = self._joined.get(incident.id) or self._job_of(incident)
            incident = self._with_node_type(incident if job is None else with_job(incident, job))
            if incident.label in MEMORY_LABELS and (total := incident.facts.get("total_bytes")):
                self._known_total[log.source] = total
            yield IncidentChanged(at, self._diagnosed(incident, job, at))

    def _diagnosed(self, incident: Incident, job: JobEnded | None, at: datetime) -> Incident:
        around = Surroundings(
            workloads=self.workloads,
            gpu_total_bytes=self.gpu_total_bytes,
            gpu=self._sample_near(incident),
            server=self._server,
            job=job,
            known_total_bytes=self._known_total.get(incident.source),
        )
        return replace(incident, diagnosis=diagnose(incident, around), mute=self.mutes.mute_of(incident, at))

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

    def _job_of(self, incident: Incident) -> JobEnded | None:
        for job in self._jobs:
            if is_of(incident, job):
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
                if is_of(incident, job):
                    waiting.remove(incident)
                    self._keep_joined(incident, job)
                    yield IncidentChanged(job.at, self._diagnosed(with_job(incident, job), job, job.at))
                    return
        self._jobs.append(job)


def is_of(incident: Incident, job: JobEnded) -> bool:
    """Whether the failed job's message is the one that the incident's first line says, near enough in time."""
    if job.exception_message is None or not incident.fresh or abs(incident.first_at - job.at) > _JOB_NEARNESS:
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
