"""What is under way to mend failed jobs on their servers: planned, agreed to by a person, queued, and seen to its end.

Servers are asked on threads of their own, so that the screen never waits. What becomes of a fix is told to the pipeline: the
incident, the journal and the metrics have it from there. How it looks is in `mend_rows`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from gpuwatch.core.incidents import Incident
from gpuwatch.core.loop.as_it_was import OUTSIDE
from gpuwatch.core.loop.broken import breakage
from gpuwatch.core.observations import FixTried
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.mend_words import ANOTHER_PLAN, IMPOSSIBLE, refused_by, together_words, told_by
from gpuwatch.texts import Text, text

if TYPE_CHECKING:  # what acts on a server is loaded once it is to act: the first screen need not wait for it
    from gpuwatch.adapters.comfyui.acting import Queued
    from gpuwatch.adapters.comfyui.address import Server
    from gpuwatch.adapters.comfyui.ended import EndedJob
    from gpuwatch.adapters.comfyui.mending import Mender, Proposal, Refusal
    from gpuwatch.adapters.sources import Source

Stage = Literal["planning", "asked", "queueing", "queued", "held", "failed", "refused"]
MakeMender = Callable[[], "Mender"]

Recall = Callable[[Incident], FixTried | None]
"""The fix that held for a failure's job, as it was kept before this run; asked on a thread, for it may wait for a file."""

_MOST_KEPT = 50
_MOST_JOBS = 64
_MOST_ALIKE = 40
_QUEUED = frozenset({"shrink_size", "tiny_checkpoint", "reduce_batch", "tile_vae", "switch_node", "free_memory"})
"""Fixes that can be had by queueing the job anew."""


@dataclass(frozen=True, slots=True)
class Mend:
    """How far one failed job's mending is."""

    incident_id: str
    stage: Stage
    server: str
    words: Text | None = None
    """What became of it, or why nothing does."""
    proposal: Proposal | None = None
    queued: Queued | None = None
    mender: Mender | None = field(default=None, repr=False, compare=False)
    held: FixTried | None = None
    """The fix that its job ran to its end with."""
    alike: tuple[Incident, ...] = ()
    """Other failures that may be mended in the same way, as they were when it was planned."""
    broken: bool = False
    """Whether nothing was planned because the server computed nothing any more."""

    @property
    def under_way(self) -> bool:
        """Whether the server has been told."""
        return self.stage in {"queueing", "queued"}


def servers_of(sources: Sequence[Source]) -> dict[str, Server]:
    """The servers that are watched, by their sources' names."""
    from gpuwatch.adapters.sources.comfyui import ComfyuiSource  # noqa: PLC0415 - loaded for a server alone

    return {source.name: source.client.server for source in sources if isinstance(source, ComfyuiSource)}


class Mends:
    """Those of one run of the screen. Its methods are for the screen's thread."""

    def __init__(
        self,
        menders: Mapping[str, MakeMender],
        report: Callable[[FixTried], object],
        changed: Callable[[], object],
        known: Callable[[], Snapshot] = Snapshot,
        recall: Recall | None = None,
    ) -> None:
        """`known`: all that is known now."""
        self._menders, self._report, self._changed, self._known = menders, report, changed, known
        self.told: Text | None = None
        """How many jobs were queued together; taken by whoever shows it."""
        self._recall = recall or (lambda _incident: None)
        self._mends: dict[str, Mend] = {}
        self._jobs: OrderedDict[tuple[str, str], EndedJob] = OrderedDict()
        """By server and id, failed jobs as the server had them: it forgets them when it is restarted. In memory alone."""
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def of(self, incident_id: str) -> Mend | None:
        """The one of an incident; that its server was broken is said only as long as it is."""
        mend = self._mends.get(incident_id)
        if mend is not None and mend.broken and self._broken(mend.server) is None:
            self.leave(incident_id)
            return None
        return mend

    def obstacle(self, incident: Incident) -> Text | None:
        """Why nothing can be planned for an incident; None where it can."""
        if not self._menders:
            return IMPOSSIBLE
        if self._server_of(incident) is None:
            return text("This failure is not one of a watched server.")
        if incident.job_id is None:
            return text("Which job this was is not known; a server tells it a moment after the failure.")
        return None

    def offer(self, incident: Incident) -> Text | None:
        """What the key that mends is likely to do here, so that the answer may name it; None where that is nothing."""
        if self.obstacle(incident) is not None or incident.fix_outcome == "held" or incident.id in self._mends:
            return None
        fixes = incident.diagnosis.fixes if incident.diagnosis is not None else ()
        if any(fix.action in _QUEUED for fix in fixes):
            return text("fixes the job; shows the plan first")
        return text("queues the job again as it was, once the cause is mended") if incident.label in OUTSIDE else None

    def keeps(self, incident: Incident) -> bool:
        """Whether its job is known here, should its server forget it."""
        server = self._server_of(incident)
        return server is not None and (server, incident.job_id or "") in self._jobs

    def is_over(self, incident_id: str | None) -> bool | None:
        """Whether nothing more comes of the one of an incident; None where there is none."""
        mend = self._mends.get(incident_id or "")
        return mend.stage in {"held", "failed", "refused"} if mend is not None else None

    def plan(self, incident: Incident, alike: Sequence[Incident] = ()) -> None:
        """Begin to plan; one that was only asked about is left. Where the server computes nothing any more, say so instead.

        What held already is not planned again. `alike`: failures that may be mended in the same way.
        """
        server = self._server_of(incident)
        if server is None or incident.job_id is None:
            return
        before = self._mends.get(incident.id)
        held = (before.held if before is not None else None) or self._known().held(incident)
        for other in [mend for mend in self._mends.values() if mend.stage in {"planning", "asked"}]:
            self.leave(other.incident_id)
        broken = self._broken(server)
        mend = Mend(
            incident.id,
            "planning" if broken is None else "refused",
            server,
            broken,
            held=held,
            alike=tuple(each for each in alike if self._joins(each, server))[:_MOST_ALIKE],
            broken=broken is not None,
        )
        with self._lock:
            self._mends.pop(incident.id, None)
            self._mends[incident.id] = mend
            over = [one.incident_id for one in self._mends.values() if not one.under_way]
            if len(self._mends) > _MOST_KEPT and over:
                del self._mends[over[0]]
        if broken is None:
            self._begin(self._plan, mend, incident)
        else:
            self._begin(self._keep, server, incident)

    def _joins(self, incident: Incident, server: str) -> bool:
        """Whether its job may be mended along with another of the server's."""
        known = incident.job_id is not None and self._server_of(incident) == server and incident.id not in self._mends
        return known and incident.fix_outcome is None

    def agree(self, incident_id: str, *, with_alike: bool = False) -> None:
        """Queue what was asked about, unless the server broke meanwhile. `with_alike`: and the jobs that failed alike."""
        mend = self._mends.get(incident_id)
        if mend is None or mend.stage != "asked":
            return
        if (broken := self._broken(mend.server)) is not None:
            self._put(mend, replace(mend, stage="refused", words=broken, proposal=None))
        else:
            queueing = replace(mend, stage="queueing")
            others = [Mend(each.id, "queueing", mend.server) for each in mend.alike if with_alike]
            if self._put(mend, queueing):
                with self._lock:
                    self._mends |= {other.incident_id: other for other in others}
                self._begin(self._act, queueing, list(zip(others, mend.alike, strict=False)))

    def leave(self, incident_id: str) -> bool:
        """Forget what is not under way; False where there is no such thing."""
        with self._lock:
            mend = self._mends.get(incident_id)
            if mend is None or mend.under_way:
                return False
            del self._mends[incident_id]
        return True

    def close(self) -> None:
        """Wait for nothing more; what is queued stays queued."""
        self._stop.set()
        for mend in list(self._mends.values()):
            if mend.mender is not None:
                mend.mender.hands.client.abort()

    def _server_of(self, incident: Incident) -> str | None:
        return next((name for name in (incident.source, *incident.also_in) if name in self._menders), None)

    def _broken(self, server: str) -> Text | None:
        """Why nothing may be queued there, whatever it is; None where the server computes."""
        found = breakage(self._known().incidents.values(), server)
        if found is None:
            return None
        return text(
            "{why}: this ComfyUI computes nothing any more, so nothing is queued. Restart it, then press a again.",
            why=found.title,
        )

    def _put(self, before: Mend, now: Mend) -> bool:
        """Put this in the place of that; False where that is no longer there."""
        with self._lock:
            if self._mends.get(before.incident_id) is not before:
                return False
            self._mends[before.incident_id] = now
        self._changed()
        return True

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, name="mend", daemon=True).start()

    # -- on a thread of their own ----------------------------------------------------------------------------------------

    def _plan(self, mend: Mend, incident: Incident) -> None:
        from gpuwatch.adapters.comfyui.mending import Refusal  # noqa: PLC0415 - loaded for a server alone

        if mend.held is None and (held := self._recall(incident)) is not None and held.server == mend.server:
            planning = replace(mend, held=held)
            if not self._put(mend, planning):
                return
            mend = planning
        mender: Mender | None = None
        try:
            mender = self._menders[mend.server]()
            mender.hands.greet()
            found = self._found(mender, mend, incident)
        except Exception as error:  # noqa: BLE001 - it is shown, and the screen goes on
            now = replace(mend, stage="refused", words=told_by(error))
        else:
            if isinstance(found, Refusal):
                now = replace(mend, stage="refused", words=refused_by(found, held=mend.held is not None))
            else:
                now = replace(mend, stage="asked", proposal=found, mender=mender)
        if mender is not None:
            mender.hands.close()
        self._put(mend, now)

    def _found(self, mender: Mender, mend: Mend, incident: Incident) -> Proposal | Refusal:
        """What to queue in its job's place; the same once more, where only something outside it is to change."""
        from gpuwatch.adapters.comfyui.mending import Refusal  # noqa: PLC0415 - loaded for a server alone
        from gpuwatch.core.loop.next_try import Lineage  # noqa: PLC0415

        lineage = Lineage(held=mend.held.action if mend.held is not None else None)
        found = mender.propose(self._failed_job(mender, mend.server, incident), lineage)
        if isinstance(found, Refusal) and mend.held is None:
            return mender.again(found, restarted=not incident.active) or found
        return found

    def _failed_job(self, mender: Mender, server: str, incident: Incident) -> EndedJob:
        """The job, as the server has it; as it had it, where it forgot it when it was restarted."""
        from gpuwatch.adapters.comfyui.acting import GoneError  # noqa: PLC0415 - loaded for a server alone

        key = (server, incident.job_id or "")
        try:
            job = mender.hands.failed_job(incident.job_id)
        except GoneError:
            if (kept := self._jobs.get(key)) is not None:
                return kept
            raise
        with self._lock:
            self._jobs[key] = job
            while len(self._jobs) > _MOST_JOBS:
                self._jobs.popitem(last=False)
        return job

    def _keep(self, server: str, incident: Incident) -> None:
        mender: Mender | None = None
        with suppress(Exception):  # it is kept in case a restart comes; nobody waits for it
            mender = self._menders[server]()
            self._failed_job(mender, server, incident)
        if mender is not None:
            mender.hands.close()

    def _act(self, mend: Mend, alike: Sequence[tuple[Mend, Incident]]) -> None:
        """Queue what was agreed to, and the jobs that failed alike where the same comes of them; see each to its end."""
        proposal, mender = mend.proposal, mend.mender
        if proposal is None or mender is None:
            return
        try:
            # Each goes in front of all others: of those that are queued in this order the last runs first.
            queued = [self._queue_alike(mender, proposal, other, incident) for other, incident in alike]
            queued.append(self._queue(mender, proposal, mend))
            if alike:
                self.told = together_words(len(queued), sum(each is None for each in queued))
                self._changed()
            for each in reversed(queued):
                if each is not None:
                    self._see(mender, each)
        finally:
            mender.hands.close()

    def _queue_alike(self, mender: Mender, example: Proposal, mend: Mend, incident: Incident) -> Mend | None:
        from gpuwatch.adapters.comfyui.mending import Refusal  # noqa: PLC0415 - loaded for a server alone

        try:
            found = self._found(mender, mend, incident)
        except Exception as error:  # noqa: BLE001 - it is shown, and the others go on
            self._put(mend, replace(mend, stage="failed", words=told_by(error)))
            return None
        if isinstance(found, Refusal) or found.sets != example.sets:
            self._put(mend, replace(mend, stage="refused", words=ANOTHER_PLAN))
            return None
        return self._queue(mender, found, mend)

    def _queue(self, mender: Mender, proposal: Proposal, mend: Mend) -> Mend | None:
        """Queue it; None where that failed, which is shown."""
        try:
            queued = mender.carry_through(proposal, self._stop.wait)
            self._report(mender.applied(proposal, queued, mend.incident_id))
        except Exception as error:  # noqa: BLE001 - it is shown, and the screen goes on
            if not self._stop.is_set():
                self._put(mend, replace(mend, stage="failed", words=told_by(error)))
            return None
        waiting = replace(mend, stage="queued", queued=queued, proposal=proposal, mender=mender)
        self._put(mend, waiting)
        return waiting

    def _see(self, mender: Mender, mend: Mend) -> None:
        """See what was queued to its end."""
        from gpuwatch.faces.mending import ending_of  # noqa: PLC0415 - loaded for a server alone

        if mend.proposal is None or mend.queued is None:
            return
        try:
            job, tried = mender.see_through(mend.proposal, mend.queued, self._stop.wait, mend.incident_id)
            if self._stop.is_set():
                return
            outcome, words = ending_of(job, mend.queued)
            if tried is not None:
                self._report(tried)
            now = replace(mend, stage="held" if outcome == "held" else "failed", words=words)
            self._put(mend, replace(now, held=tried) if outcome == "held" else now)
        except Exception as error:  # noqa: BLE001 - as above
            if not self._stop.is_set():
                self._put(mend, replace(mend, stage="failed", words=told_by(error)))
