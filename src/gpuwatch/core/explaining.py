"""An incident with all that is known besides its log -> the incident explained: its diagnosis, its mute, what its fix came to.

Which job it ended and which other log tells it too are found elsewhere. What explains a failure, with the models of memory, is
loaded at the first one: no log waits for it to be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from gpuwatch.core.events import PeakCompared
from gpuwatch.core.incidents import Incident
from gpuwatch.core.learned.runs import Learned, RunMeasured
from gpuwatch.core.loop.outcomes import Outcomes
from gpuwatch.core.loop.tried import Tried
from gpuwatch.core.mutes import Mutes
from gpuwatch.core.observations import FixTried, JobEnded
from gpuwatch.core.survey import Survey
from gpuwatch.core.twins import Twins
from gpuwatch.core.workloads import Workloads
from gpuwatch.texts import plain


@dataclass(slots=True)
class Explainer:
    """Keeps what was told of cards, machine, servers, fixes and runs, and diagnoses incidents by it."""

    workloads: Workloads
    gpu_total_bytes: int | None
    """The card's size, where a person told it."""
    mutes: Mutes
    tried: Tried
    """What became of fixes, so that one that failed is not the first to be named again."""
    learned: Learned
    """What jobs took here."""
    survey: Survey = field(default_factory=Survey)
    twins: Twins = field(default_factory=Twins)
    _outcomes: Outcomes = field(default_factory=Outcomes)

    def explained(self, incident: Incident, job: JobEnded | None, at: datetime) -> Incident:
        """The incident, of this job where that is known, with its diagnosis."""
        from gpuwatch.core.advice import diagnose  # noqa: PLC0415 - see the module's docstring
        from gpuwatch.core.case import Surroundings  # noqa: PLC0415

        if also_in := self.twins.also_in(incident.id):
            incident = replace(incident, also_in=also_in)
        server = self.survey.server_of(incident.source, *incident.also_in)
        around = Surroundings(
            workloads=self.workloads,
            gpu_total_bytes=self.gpu_total_bytes,
            gpu=self.survey.card_near(incident, server),
            server=server,
            job=job,
            known_total_bytes=self.survey.told_total_bytes(incident.source),
            host=self.survey.host_of(incident, server),
            tried=self.tried,
            learned=self.learned,
        )
        return replace(
            incident,
            diagnosis=diagnose(incident, around),
            mute=self.mutes.mute_of(incident, at),
            fix_outcome=self._outcomes.of(incident),
        )

    def explained_by(self, incident: Incident, at: datetime, *evidence: str) -> Incident:
        """One that stands in no line of a log, explained, and what it rests on instead."""
        incident = self.explained(incident, None, at)
        if incident.diagnosis is None:
            return incident
        return replace(incident, diagnosis=replace(incident.diagnosis, evidence=tuple(map(plain, evidence))))

    def is_muted(self, incident: Incident, at: datetime) -> bool:
        """Whether the person does not want to hear of it at that moment."""
        return bool(self.mutes.entries) and self.mutes.mute_of(incident, at) is not None

    def fix_tried(self, tried: FixTried) -> FixTried:
        """Remember what became of a fix; gives it back."""
        self._outcomes.remember(tried)
        self.tried = self.tried.after(tried)
        return tried

    def run_measured(self, measured: RunMeasured, workload: str | None) -> PeakCompared | None:
        """Learn what a job took; gives how that compares with what was known before, where the run tells its need exactly."""
        from gpuwatch.core.learned.offset import predicted_for  # noqa: PLC0415 - brings the models of memory

        known = self.learned.experience(measured.ran)
        self.learned = self.learned.after(measured)
        if measured.bound != "exactly":
            return None
        profile = self.workloads.named(workload) if workload is not None else None
        need = predicted_for(measured.ran, profile) if profile is not None and measured.alone else None
        if need is None and known is not None:
            need = known.need(measured.ran.pixels)
        return PeakCompared(measured.at, workload, measured.peak_bytes, None if need is None else round(need.high))
