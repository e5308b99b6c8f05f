"""A failed job of a server -> what to queue in its place, and that queued: for `fix --server`, `guard`, `submit`, the screen.

`Mender.propose` decides, `Mender.carry_out` acts, `Mender.closed` remembers what became of it. Between the first two a person
may be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.comfyui.acting import Hands, Pause, Queued, Told, UnsureError, card_of
from gpuwatch.adapters.comfyui.ended import EndedJob, incidents_of
from gpuwatch.adapters.tried_file import TriedFile
from gpuwatch.core.diagnosis import Fix
from gpuwatch.core.incidents import Incident
from gpuwatch.core.learned.runs import Learned
from gpuwatch.core.loop.as_it_was import as_it_was, first_step
from gpuwatch.core.loop.broken import only_a_restart_helps
from gpuwatch.core.loop.mirror import mirrored
from gpuwatch.core.loop.next_try import MOST_TRIES, Conditions, Failed, GiveUp, Lineage, Retry
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import FixOutcome, FixTried
from gpuwatch.core.workflow.graph import NotWorkflow
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.trouble import troubles_of
from gpuwatch.core.workloads import Workloads
from gpuwatch.texts import Text, text


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one may go."""

    most_tries: int = MOST_TRIES
    min_px: int | None = None
    gpu_memory: int | None = None
    """The card's memory, where a person says it."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What to queue in a failed job's place."""

    job: EndedJob
    incident: Incident | None
    retry: Retry
    lineage: Lineage
    """With this try."""
    extra_data: Mapping[str, Any] = field(repr=False)
    notes: tuple[Text, ...] = ()
    first: Fix | None = None
    """What a person has to do before; None where that is nothing, or not known."""

    @property
    def sets(self) -> tuple[object, ...]:
        """What is done to the job, without which job it is: where that is equal, a plan that was seen is that of another, too."""
        changes = tuple(
            (change.node.type, change.input, change.before, change.after) for change in self.retry.plan.changes
        )
        label = self.incident.label if self.incident is not None and self.retry.repeats else None
        return self.retry.action, changes, label, self.retry.plan.fits

    def tried(self, at: datetime, outcome: FixOutcome, incident_id: str, new_id: str) -> FixTried:
        """What is told of it."""
        scene = self.retry.scene
        return FixTried(
            at,
            incident_id,
            self.retry.action,
            outcome,
            scene.server,
            scene.node_type,
            dict(scene.values),
            dict(self.retry.after),
            new_id,
            self.job.id,
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing is queued in a failed job's place."""

    job: EndedJob
    incident: Incident | None
    give_up: GiveUp
    of_memory: bool
    """Whether it ran out of GPU memory at all."""


class Mender:
    """Proposes and queues for one server. Not for use by several threads at once."""

    def __init__(
        self,
        hands: Hands,
        matcher: Matcher,
        workloads: Workloads,
        knowledge: Knowledge,
        *,
        limits: Limits | None = None,
        memory: TriedFile | None = None,
        learned: Callable[[], Learned] = Learned,
        keep: Callable[[FixTried], None] = lambda _tried: None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.hands = hands
        self.limits = limits or Limits()
        self.memory = memory or TriedFile(None)
        self._learned = learned
        self.keep = keep
        """Told of each fix, where no pipeline is."""
        self.clock = clock
        self._matcher, self._workloads, self._shipped = matcher, workloads, knowledge
        self._told: Told | None = None

    def forget_server(self) -> None:
        """The server may be another now: it is asked anew for its nodes."""
        self._told = None

    def told(self) -> Told:
        """What the server says of its card and its nodes; asked once."""
        if self._told is None:
            self._told = self.hands.told(self._shipped)
        return self._told

    def propose(self, job: EndedJob, lineage: Lineage | None = None) -> Proposal | Refusal:
        """What to queue now that this job failed; `lineage` holds what was tried for it before."""
        lineage = lineage or Lineage()
        now, name = self.clock(), self.hands.name
        incidents = incidents_of(job.error, self._matcher, self._workloads, now, name) if job.error else []
        incident = next(iter(incidents), None)
        failed = Failed(job.prompt, tuple(troubles_of(incidents)))
        if not failed.troubles:
            words = job.error.message.partition("\n")[0][:200] if job.error else "?"
            why = text("The failure is not about GPU memory: {words}", words=words)
            return Refusal(job, incident, GiveUp(why), of_memory=False)
        told = self.told()
        totals = [trouble.balance.total_bytes for trouble in failed.troubles if trouble.balance.total_bytes]
        card = card_of(told, self.limits.gpu_memory or (totals[0] if totals and told.card_bytes is None else None))
        if card is None:
            give_up = GiveUp(text("How much memory the card has is not known; say it with --gpu-memory 8GiB."))
            return Refusal(job, incident, give_up, of_memory=True)
        conditions = Conditions(
            name,
            card,
            self._workloads,
            replace(told.knowledge, version=told.version),
            now,
            self.memory.tried,
            self.limits.most_tries,
            self.limits.min_px,
            self._learned(),
        )
        try:
            found = lineage.next(failed, conditions)
        except NotWorkflow as no:
            found = GiveUp(text("The job's prompt is no workflow; it looks like {what}.", what=no.why))
        if isinstance(found, GiveUp):
            return Refusal(job, incident, found, of_memory=True)
        extra = mirrored(job.extra_data, found.plan.changes, told.knowledge)
        notes = found.plan.notes
        if extra is None:
            notes = (
                *notes,
                text("The editor's copy of the workflow, which saved pictures carry, keeps the old values."),
            )
        after = lineage.after(failed, found)
        return Proposal(job, incident, found, after, job.extra_data if extra is None else extra, notes)

    def again(self, refusal: Refusal, *, restarted: bool = False) -> Proposal | None:
        """The same job once more, just as it was; None where its cause does not lie outside the workflow.

        `restarted`: the server was, since it failed.
        """
        job, incident = refusal.job, refusal.incident
        retry = as_it_was(job.prompt, incident, self.hands.name) if not refusal.of_memory else None
        if retry is None or incident is None or (only_a_restart_helps(incident) and not restarted):
            return None
        first = first_step(incident, restarted=restarted)
        return Proposal(job, incident, retry, Lineage((retry,)), job.extra_data, first=first)

    def carry_out(self, proposal: Proposal, id_: str | None = None) -> Queued:
        """Free memory where that is what helps, and queue the prompt before all others, under that id.

        Raises UnsureError where it is not known whether the server took it.
        """
        if proposal.retry.frees:
            self.hands.free()
        return self.hands.queue(proposal.retry.prompt, proposal.extra_data, front=True, id_=id_)

    def carry_through(self, proposal: Proposal, pause: Pause) -> Queued:
        """The same, and where the answer was lost, find out: never queued twice. Raises NoAnswerError where it was not taken."""
        try:
            return self.carry_out(proposal)
        except UnsureError as unsure:
            return self.hands.settle(unsure, pause)

    def applied(self, proposal: Proposal, queued: Queued, incident_id: str = "") -> FixTried:
        """What is told once it is queued."""
        return self._closed(proposal, queued, "applied", incident_id)

    def see_through(
        self, proposal: Proposal, queued: Queued, pause: Pause, incident_id: str = ""
    ) -> tuple[EndedJob | None, FixTried | None]:
        """Wait for the end of what was queued, matched by its id: the job, None where it was lost; and whether the fix held.

        Nothing is told of a fix whose job was lost or interrupted, or failed for another reason.
        """
        job = self.hands.await_end(queued.id, pause)
        if job is None or job.ended.outcome == "interrupted":
            return job, None
        if job.ended.outcome == "success":
            return job, self._closed(proposal, queued, "held", incident_id)
        again = self.propose(job, proposal.lineage)
        if not _fails_alike(proposal, again):
            return job, None
        return job, self._closed(proposal, queued, "failed", incident_id)

    def closed(self, tried: FixTried) -> None:
        """Remember what became of a fix."""
        self.memory.learn(tried)
        self.keep(tried)

    def _closed(self, proposal: Proposal, queued: Queued, outcome: FixOutcome, incident_id: str) -> FixTried:
        tried = proposal.tried(self.clock(), outcome, incident_id, queued.id)
        self.closed(tried)
        return tried


def _fails_alike(proposal: Proposal, again: Proposal | Refusal) -> bool:
    """Whether what was queued failed as before, so that the fix did not help."""
    if proposal.retry.repeats:
        before, now = proposal.incident, again.incident
        return before is not None and now is not None and before.label == now.label
    return isinstance(again, Proposal) or again.of_memory
