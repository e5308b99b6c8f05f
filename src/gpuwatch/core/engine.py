"""Observations in, events out: the one place where log, job and driver meet.

No I/O and no clock: the time is the observation's. A test is a list in and a list out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import InitVar, dataclass, field, replace
from datetime import datetime

from gpuwatch.core.aftermath import Aftermath
from gpuwatch.core.correlation import Correlator
from gpuwatch.core.events import (
    Event,
    FailureCounted,
    IncidentChanged,
    PlaceReached,
    RecordsRead,
    RulesQuarantined,
)
from gpuwatch.core.explaining import Explainer
from gpuwatch.core.gathering import Gathering
from gpuwatch.core.incidents import Incident
from gpuwatch.core.joining import Joining, with_job
from gpuwatch.core.learned.runs import Learned
from gpuwatch.core.learned.watching import RunWatch
from gpuwatch.core.logreader import LogReader
from gpuwatch.core.loop.tried import Tried
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.matching.succession import handed_over
from gpuwatch.core.mutes import Mutes
from gpuwatch.core.naming import named_job, named_node
from gpuwatch.core.observations import (
    FixTried,
    GpuSample,
    HostSample,
    JobEnded,
    LogChunk,
    LogRestarted,
    LogResumed,
    Observation,
    QueueState,
    ServerSeen,
    SourceDown,
    SourceKind,
    Tick,
)
from gpuwatch.core.records import LogRecord
from gpuwatch.core.reloads import Change, MutesLoaded, RulesLoaded
from gpuwatch.core.rules import RuleSet
from gpuwatch.core.vigil import Vigil
from gpuwatch.core.workloads import Workloads


@dataclass(slots=True)
class Engine:
    """Turns observations into incidents and diagnoses."""

    rules: RuleSet
    workloads: Workloads = field(default_factory=Workloads)
    gpu_total_bytes: InitVar[int | None] = None
    """The card's size, where a person told it."""
    shows_records: bool = True
    """Whether somebody looks at the log. Where nobody does, what tells nothing is left out unread: the same incidents, faster."""
    correlates: bool = False
    """Whether failures are looked at together; only where observations come at the time that they speak of."""
    before_lines: int = 0
    """How many lines before an incident are kept with it."""
    counted_before: dict[str, int] = field(default_factory=dict)
    """Failures that an earlier run counted, by incident: where lines are read again, they are not counted again."""
    ready: InitVar[Matcher | None] = None
    """The rules made ready before, for many engines over the same rules."""
    mutes: InitVar[Mutes | None] = None
    tried: InitVar[Tried | None] = None
    """What became of fixes, so that one that failed is not the first to be named again."""
    learned: InitVar[Learned | None] = None
    """What jobs took here."""
    explainer: Explainer = field(init=False)
    matcher: Matcher = field(init=False)
    correlator: Correlator = field(init=False)
    _logs: dict[str, LogReader] = field(default_factory=dict)
    _runs: RunWatch = field(default_factory=RunWatch)
    _vigil: Vigil = field(init=False)
    _joining: Joining = field(init=False)
    _aftermath: Aftermath = field(default_factory=Aftermath)
    _places: dict[str, str] = field(default_factory=dict)
    """By source, where its reader is, until that was told as reached."""
    _told_quarantined: frozenset[str] = frozenset()

    def __post_init__(
        self,
        gpu_total_bytes: int | None,
        ready: Matcher | None,
        mutes: Mutes | None,
        tried: Tried | None,
        learned: Learned | None,
    ) -> None:
        self.explainer = Explainer(
            self.workloads, gpu_total_bytes, mutes or Mutes(), tried or Tried(), learned or Learned()
        )
        self.matcher = ready or Matcher(self.rules)
        self.correlator = Correlator(self.rules.correlations)
        self._vigil = Vigil(lambda label: next((rule for rule in self.rules if rule.label == label), None))
        self._joining = Joining(self.explainer.survey.servers, told_as_new=not self.correlates)

    def feed(self, observation: Observation | Change) -> list[Event]:
        """Take one observation, or new rules; give what follows from it, in order."""
        if isinstance(observation, LogChunk | LogRestarted | LogResumed | SourceDown | Tick):
            events = self._take_of_logs(observation)
        elif isinstance(observation, JobEnded | QueueState | ServerSeen):
            events = self._take_of_server(observation)
        else:
            if isinstance(observation, RulesLoaded):
                self._take_rules(observation)
            elif isinstance(observation, MutesLoaded):
                self.explainer.mutes = observation.mutes
            elif isinstance(observation, GpuSample | HostSample):
                self.explainer.survey.take(observation)
                if isinstance(observation, GpuSample):
                    self._runs.card_sampled(observation)
            elif isinstance(observation, FixTried):
                observation = self.explainer.fix_tried(self._known_fix(observation))
            events = [observation]
        set_aside = self.matcher.quarantined | {mute.where for mute in self.explainer.mutes.set_aside}
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
            return [*events, *self._found(self._vigil.restarted(observation.source, at), at)]
        if isinstance(observation, LogResumed):
            self._log(observation.source, observation.kind).resume(observation.line, observation.epoch)
            return []
        if isinstance(observation, Tick):
            events = [observation]
            for log in self._logs.values():
                events.extend(self._read(log, log.tick(at), at))
                events.extend(self._place_of(log, at))
            return [*events, *self._found(self._vigil.tick(at), at)]
        events = []
        if (ended := self._logs.get(observation.source)) is not None:
            events = self._finish(ended, ended.end(at), at)
        self._vigil.away(observation.source, at, failed=observation.failed)
        return [*events, observation]

    def _take_of_server(self, observation: JobEnded | QueueState | ServerSeen) -> list[Event]:
        """What a server says of itself, its queue and its jobs."""
        if isinstance(observation, JobEnded):
            job = named_job(observation, self.workloads)
            return [*([job] if job.fresh else []), *self._measured(job), *self._join_job(job)]
        if isinstance(observation, ServerSeen):
            self.explainer.survey.take(observation)
            self._runs.server_seen(observation)
            return [observation]
        at = observation.at
        events: list[Event] = [observation, *self._found(self._vigil.queue(observation), at)]
        if (told := self._vigil.workers.queue(observation)) is not None:
            events.extend(self._worker_changed(told, at))
        return events

    def _measured(self, job: JobEnded) -> list[Event]:
        """What the job took, where that can be told, and what was known of its kind before."""
        measured = self._runs.job_ended(job)
        if measured is None:
            return []
        compared = self.explainer.run_measured(measured, job.workload)
        return [measured] if compared is None else [measured, compared]

    def prepare(self) -> None:
        """Load what a first failure would wait for; for whoever has nothing else to do."""
        from gpuwatch.core import advice  # noqa: F401, PLC0415

        _ = self.workloads.ids

    @property
    def in_suspense(self) -> bool:
        """Whether a moment in which nothing comes tells something of a log."""
        return any(log.in_suspense for log in self._logs.values())

    def end(self, at: datetime) -> list[Event]:
        """Nothing more will come: every log ends."""
        events: list[Event] = []
        for log in self._logs.values():
            events.extend(self._finish(log, log.end(at), at))
        return self._correlated(events)

    def _take_rules(self, loaded: RulesLoaded) -> None:
        """Other rules for what is read from now on; what is open keeps the rule that opened it."""
        loaded.matcher.stopwatch = self.matcher.stopwatch
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
            data = chunk.data if chunk.scan is None else chunk.scan.lines
            records = log.feed(data, chunk.at, fresh=chunk.fresh)
            events = self._read(log, records, chunk.at, data.count(b"\n"))
        else:
            events = self._read(log, [], chunk.at, log.skim(chunk.scan or chunk.data, chunk.at, fresh=chunk.fresh))
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
            if log.cutter.bar and log.fresh:
                source = log.source
                slow = self._vigil.bar(source, log.cutter.bar, at, lambda: self.explainer.survey.room_of(source))
                events.extend(self._found([slow] if slow is not None else (), at))
        changed = {gathering.id: gathering.value(log.source) for gathering in log.take_changed()}
        for incident in changed.values():
            if (first := self._aftermath.first_of(incident)) is not None:
                events.extend(self._changed(first, log.kind, at))
        for gathering, failures in log.take_counted():
            incident = changed.get(gathering.id) or gathering.value(log.source)
            events.extend(self._counted(log, gathering, incident, failures, at))
        return events

    def _counted(
        self, log: LogReader, gathering: Gathering, incident: Incident, failures: int, at: datetime
    ) -> Iterator[FailureCounted]:
        """The failures that nothing else told: no earlier run, no other source, no failure before that they come of."""
        if self._aftermath.is_told(incident.id):
            return
        first = self.explainer.twins.first_of(incident, log.kind)
        new = self.explainer.twins.new_failures(incident, self._not_before(incident.id, failures), at)
        if new:
            severity, muted = gathering.rule.severity, self.explainer.is_muted(incident, at)
            yield FailureCounted(at, first, gathering.label, severity, new, gathering.fresh, muted)

    def _not_before(self, incident_id: str, failures: int) -> int:
        """How many of the failures no earlier run has counted."""
        before = self.counted_before.get(incident_id, 0)
        if before:
            self.counted_before[incident_id] = max(before - failures, 0)
        return max(failures - before, 0)

    def _changed(self, incident: Incident, kind: SourceKind, at: datetime) -> Iterator[IncidentChanged]:
        """What a log tells of an incident, joined with what else is known of it."""
        if (first := self.explainer.twins.first_of(incident, kind)) != incident.id:
            yield from self._seen_twice(first, at)
            return
        self._vigil.told(incident)
        self.explainer.survey.failed(incident)
        job = self._joining.job_of(incident)
        incident = named_node(with_job(incident, job), self.workloads)
        yield IncidentChanged(at, self.explainer.explained(incident, job, at))

    def _known_fix(self, tried: FixTried) -> FixTried:
        """The fix with the incident that it is of as this engine knows it."""
        known = self._joining.incident_with(tried.failed_job_id) if tried.failed_job_id is not None else None
        return tried if known is None else replace(tried, incident_id=known)

    def _seen_twice(self, incident_id: str, at: datetime) -> Iterator[IncidentChanged]:
        """Another source tells what was told: that is evidence, and said once."""
        incident = self.explainer.twins.news_of(incident_id)
        if incident is not None:
            job = self._joining.job_of(incident)
            yield IncidentChanged(
                at, self.explainer.explained(named_node(with_job(incident, job), self.workloads), job, at)
            )

    def _worker_changed(self, told: Incident, at: datetime) -> Iterator[Event]:
        """A queue tells that its worker is dead, or that it runs again."""
        cause = self._aftermath.died(told.source) if told.active else None
        if cause is None:
            yield from self._found([told], at)
            return
        self._vigil.workers.told_otherwise(told.source)
        yield from self._changed(cause, "comfyui", at)

    def _found(self, seen: Iterable[Incident], at: datetime) -> Iterator[Event]:
        """What was seen and stands in no line of a log: told and counted, or over."""
        for told in seen:
            incident = self.explainer.explained_by(told, at, told.text)
            yield IncidentChanged(at, incident)
            if told.active:
                rule, muted = told.rule, incident.muted
                yield FailureCounted(at, told.id, rule.label, rule.severity, 1, fresh=True, muted=muted)

    def _correlated(self, events: list[Event]) -> list[Event]:
        """The events, and after them what they mean together."""
        if not self.correlates:
            return events
        made: list[Event] = []
        for event in events:
            if isinstance(event, IncidentChanged):
                made += [self._together(ours, event.at) for ours in self.correlator.changed(event.incident)]
            elif isinstance(event, FailureCounted):
                for ours, new in self.correlator.counted(event.incident_id, event.at):
                    changed = self._together(ours, event.at)
                    made.append(changed)
                    if new:
                        muted = changed.incident.muted
                        made.append(
                            FailureCounted(event.at, ours.id, ours.label, ours.severity, 1, fresh=True, muted=muted)
                        )
            elif isinstance(event, Tick):
                made += [self._together(ours, event.at) for ours in self.correlator.tick(event.at)]
        return [*events, *made]

    def _together(self, ours: Incident, at: datetime) -> IncidentChanged:
        """What failures mean together, explained: it rests on their lines."""
        from gpuwatch.core.advice import shortened  # noqa: PLC0415 - comes with what explains a failure, at the first one

        return IncidentChanged(at, self.explainer.explained_by(ours, at, *map(shortened, ours.excerpt)))

    def _join_job(self, job: JobEnded) -> Iterator[IncidentChanged]:
        """A job ended: the failure that its log told knows now which node it was."""
        if job.outcome == "error" and (incident := self._joining.incident_of(job)) is not None:
            yield IncidentChanged(job.at, self.explainer.explained(with_job(incident, job), job, job.at))
