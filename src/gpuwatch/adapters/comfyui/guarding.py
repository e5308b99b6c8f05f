"""Unattended: each job of one server that runs out of GPU memory is queued again as it fits, and its end says whether that held.

Only jobs that failed are touched, each at most so many times, never twice in the same form. Where only a restart helps nothing
is queued. A prompt of ours that a restart took is queued once more; one that somebody deleted is not.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gpuwatch.adapters.comfyui.acting import RefusedError
from gpuwatch.adapters.comfyui.client import NoAnswerError
from gpuwatch.adapters.comfyui.ended import OF_BATCH, EndedJob
from gpuwatch.adapters.comfyui.guarded_job import Note, Waiting, Way, found_memory, lacks_something, what_changes
from gpuwatch.adapters.comfyui.mending import Mender, Refusal
from gpuwatch.core.loop.broken import only_a_restart_helps
from gpuwatch.core.loop.next_try import Lineage
from gpuwatch.core.observations import FixOutcome, FixTried
from gpuwatch.core.workflow.changes import as_json
from gpuwatch.texts import Text, render, text

MOST_UNDER_WAY = 64
_MOST_WAITING = 500
_MOST_DONE = 5000
_LOOKS = 5
"""How often a job is looked for that is in no list: the history lags a second behind."""
_ASKED = 60
"""How often a server that answers wrongly is asked about one job."""
_MOST_LOST = 2


class Guard:
    """Guards one server. All calls come from one thread."""

    def __init__(
        self,
        mender: Mender,
        note: Callable[[Note], None],
        report: Callable[[FixTried], None] = lambda _tried: None,
        *,
        incident_of: Callable[[str], str | None] = lambda _job: None,
        broken: Callable[[], Text | None] = lambda: None,
        since_ms: int = 0,
    ) -> None:
        """`since_ms`: what ended up to then, by the server's clock, is none of the guard's business."""
        self._since_ms = since_ms
        self.mender = mender
        self.server = mender.hands.name
        self.counts: dict[str, int] = {}
        """How many notes of each event."""
        self._note, self._report, self._incident_of, self._broken = note, report, incident_of, broken
        self._ways: OrderedDict[str, Way] = OrderedDict()
        self._waiting: deque[Waiting] = deque(maxlen=_MOST_WAITING)
        self._done: OrderedDict[tuple[str, int | None], None] = OrderedDict()
        self._told_broken = False

    @property
    def under_way(self) -> int:
        """How many prompts of ours have not ended."""
        return len(self._ways)

    @property
    def idle(self) -> bool:
        """Whether nothing waits for an answer."""
        return not self._ways and not self._waiting

    def heard(self, job_id: str, outcome: str) -> None:
        """A job has ended."""
        if outcome == "error" or job_id in self._ways:
            self._waiting.append(Waiting(job_id))
            self.work()

    def server_changed(self) -> None:
        """The server came back; it may be another process."""
        self.mender.forget_server()
        self._told_broken = False

    def work(self) -> None:
        """Look at the jobs whose end was heard of."""
        for _ in range(len(self._waiting)):
            waiting = self._waiting.popleft()
            if not self._settled(waiting):
                self._waiting.append(waiting)

    def look(self) -> None:
        """See what became of what is under way, also where nobody told; to be called every few seconds."""
        self.work()
        heard = {waiting.id for waiting in self._waiting}
        for id_ in [id_ for id_ in self._ways if id_ not in heard]:
            try:
                self._look_at(id_, self._ways[id_])
            except NoAnswerError:
                return  # the source tells that it is away

    def _look_at(self, id_: str, way: Way) -> None:
        hands = self.mender.hands
        if way.unsure:
            found = hands.arrived(id_)
            if found is not None:
                del self._ways[id_]
                self._taken(way, found, way.proposal.job.id)
                return
        elif (job := hands.ended_job(id_)) is not None:
            self._take(job)
            return
        elif hands.where(id_) is not None:
            way.missing = 0
            self._withdraw_late(id_, way)
            self._say_broken(id_)
            return
        way.missing += 1
        if way.missing >= _LOOKS:
            self._lost(id_, way)

    def _withdraw_late(self, id_: str, way: Way) -> None:
        """What was given up and queued again may arrive after all: one of the two is taken back."""
        hands = self.mender.hands
        for late in list(way.late):
            state = hands.where(late)
            if state is None:
                continue
            way.late.remove(late)
            if state == "waits":
                hands.withdraw(late)
            elif hands.where(id_) == "waits":
                hands.withdraw(id_)
                self._ways[late] = self._ways.pop(id_)
            self._say("withdrawn", text("job {id} arrived twice; one is taken back.", id=late), late)

    def _settled(self, waiting: Waiting) -> bool:
        """Deal with one job; False where it is to be asked again."""
        try:
            job = self.mender.hands.ended_job(waiting.id)
            if job is None:
                waiting.missing += 1
                if waiting.missing < _LOOKS:
                    return False
                if waiting.id not in self._ways:
                    words = text("job {id} is no longer in the history; its prompt cannot be had.", id=waiting.id)
                    self._say("gone", words, waiting.id)
                return True
            self._take(job)
        except NoAnswerError as error:
            waiting.asked += 1
            if waiting.asked < _ASKED:
                return False
            self._say("unreachable", error.message, waiting.id)
        return True

    def _take(self, job: EndedJob) -> None:
        """A job's end, with its prompt at hand."""
        key = (job.id, job.ended.ended_ms)
        if key in self._done:
            return
        way = self._way_of(job)
        before_us = job.ended.ended_ms is not None and job.ended.ended_ms <= self._since_ms
        if job.ended.outcome == "error" and way is None and not before_us and job.extra_data.get(OF_BATCH):
            words = text(
                "job {id} is a photo of gpuwatch submit, which sees to it itself; it is left alone.", id=job.id
            )
            self._say("left_alone", words, job.id, first_job=job.id)
        elif job.ended.outcome == "error" and way is None and not before_us:
            self._mend(job, Lineage(), job.id, None)
        elif way is not None:
            self._close(job, way)
        self._done[key] = None
        if len(self._done) > _MOST_DONE:
            self._done.popitem(last=False)

    def _way_of(self, job: EndedJob) -> Way | None:
        """What was under way as this job; told as queued where that was not known."""
        way = self._ways.get(job.queued_as)
        if way is not None and way.unsure:
            del self._ways[job.queued_as]
            self._taken(way, job.id, way.proposal.job.id)
        return self._ways.get(job.id)

    def _close(self, job: EndedJob, way: Way) -> None:
        """One of ours has ended."""
        if job.ended.outcome == "error":
            self._mend(job, way.proposal.lineage, way.first_id, way)
            return
        del self._ways[job.id]
        if job.ended.outcome == "success":
            self._tell(way, "held", job.id)
            words = text("job {id}: {action} held.", id=job.id, action=way.proposal.retry.action)
            self._say("held", words, job.id, first_job=way.first_id, tries=len(way.proposal.lineage.tries))
        else:
            words = text("job {id} was interrupted by somebody; it is left alone.", id=job.id)
            self._say("left_alone", words, job.id, first_job=way.first_id)

    def _mend(self, job: EndedJob, lineage: Lineage, first_id: str, way: Way | None) -> None:
        """Propose, and queue; where the server does not answer, nothing has changed and it is done again."""
        found = self.mender.propose(job, lineage)
        broken = self._broken()
        if way is not None:
            del self._ways[job.id]
            if found_memory(found):
                self._tell(way, "failed", job.id)
                words = text("job {id}: {action} did not help.", id=job.id, action=way.proposal.retry.action)
                self._say("failed", words, job.id, first_job=first_id)
                found = self.mender.propose(job, lineage)  # what just failed is remembered now
            elif lacks_something(found, way):
                # The other node is ours: what it lacks is no reason to leave the job as it was.
                self._tell(way, "failed", job.id)
                words = text(
                    "job {id}: {action} did not help: {why}", id=job.id, action="switch_node", why=found.give_up.why
                )
                self._say("failed", words, job.id, first_job=first_id)
                job = way.proposal.job
                found = self.mender.propose(job, lineage)
        if isinstance(found, Refusal):
            if not found.of_memory and only_a_restart_helps(found.incident):
                words = text(
                    "job {id} is left as it is, only a restart of ComfyUI helps: {why}",
                    id=job.id,
                    why=found.give_up.why,
                )
                self._say("restart_needed", words, job.id, first_job=first_id)
                return
            event = "gave_up" if found.of_memory else "left_alone"
            words = text("job {id} is left as it is: {why}", id=job.id, why=found.give_up.why)
            self._say(event, words, job.id, first_job=first_id, why=render(found.give_up.why, "en"))
            return
        if broken is not None:
            words = text("job {id} is not queued again: {why}. Restart ComfyUI.", id=job.id, why=broken)
            self._say("restart_needed", words, job.id, first_job=first_id)
            return
        if len(self._ways) >= MOST_UNDER_WAY:
            words = text("job {id} is left as it is: {count} others are under way.", id=job.id, count=len(self._ways))
            self._say("gave_up", words, job.id, first_job=first_id)
            return
        incident_id = (way.incident_id if way else None) or self._incident_of(job.id) or ""
        self._queue(Way(found, first_id, incident_id), job.id)

    def _queue(self, way: Way, job_id: str) -> None:
        proposal, wanted = way.proposal, str(uuid.uuid4())
        try:
            queued = self.mender.carry_out(proposal, wanted)
        except RefusedError as error:
            self._say("gave_up", error.message, job_id, first_job=way.first_id, why=render(error.message, "en"))
            return
        except NoAnswerError as error:
            # It may have arrived or not: looked for under its id, and queued again where it did not.
            way.missing, way.unsure = 0, True
            self._ways[wanted] = way
            self._say("unreachable", error.message, job_id, first_job=way.first_id)
            return
        self._taken(way, queued.id, job_id, [render(queued.dropped, "en")] if queued.dropped else [])

    def _taken(self, way: Way, new_id: str, job_id: str, notes: Sequence[str] = ()) -> None:
        """The server has it."""
        self._ways[new_id] = way
        way.missing, way.unsure = 0, False
        self._tell_applied(way, new_id)
        proposal = way.proposal
        plan = proposal.retry.plan
        words = text(
            "job {id} ran out of GPU memory; queued again in front as {new}: {what}",
            id=job_id,
            new=new_id,
            what=what_changes(proposal),
        )
        self._say(
            "requeued",
            words,
            job_id,
            first_job=way.first_id,
            new_job=new_id,
            action=proposal.retry.action,
            number=len(proposal.lineage.tries),
            changes=[dict(as_json(change)) for change in plan.changes],
            predicted={"peak_bytes": plan.peak_bytes, "fits": plan.fits},
            notes=list(notes),
        )

    def _lost(self, id_: str, way: Way) -> None:
        """A prompt of ours is nowhere. With it the job that failed first is gone only where the server forgot everything."""
        restarted = way.unsure or self.mender.hands.ended_job(way.proposal.job.id) is None
        del self._ways[id_]
        if not restarted or way.lost >= _MOST_LOST:
            words = text("job {id} is neither in the queue nor in the history; it is left alone.", id=id_)
            self._say("left_alone", words, id_, first_job=way.first_id)
            return
        words = (
            text("job {id} did not reach the server; it is queued again.", id=id_)
            if way.unsure
            else text("job {id} was lost when the server restarted; it is queued again.", id=id_)
        )
        self._say("lost", words, id_, first_job=way.first_id)
        way.lost += 1
        if way.unsure:
            way.late.append(id_)
        self.mender.forget_server()
        self._queue(way, id_)

    def _say_broken(self, id_: str) -> None:
        broken = self._broken()
        if broken is not None and not self._told_broken:
            self._told_broken = True
            words = text("job {id} waits, and nothing runs: {why}. Restart ComfyUI.", id=id_, why=broken)
            self._say("restart_needed", words, id_)

    def _tell_applied(self, way: Way, new_id: str) -> None:
        if not way.told:
            way.told = True
            self._tell(way, "applied", new_id)

    def _tell(self, way: Way, outcome: FixOutcome, new_id: str) -> None:
        self._tell_applied(way, new_id)
        way.incident_id = way.incident_id or self._incident_of(way.proposal.job.id) or ""
        tried = way.proposal.tried(self.mender.clock(), outcome, way.incident_id, new_id)
        tried = replace(tried, failed_job_id=way.first_id)
        self.mender.closed(tried)
        self._report(tried)

    def _say(self, event: str, words: Text, job: str | None = None, **fields: Any) -> None:
        self.counts[event] = self.counts.get(event, 0) + 1
        self._note(Note(event, self.server, words, job, fields))
