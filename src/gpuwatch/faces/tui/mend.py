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
from gpuwatch.core.loop.broken import breakage, only_a_restart_helps
from gpuwatch.core.observations import FixTried
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import GpuwatchError
from gpuwatch.texts import Text, render, text

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

IMPOSSIBLE = text(
    "No server is watched, so nothing can be queued; `gpuwatch watch http://127.0.0.1:8188` makes it possible."
)
_MOST_KEPT = 50
_MOST_JOBS = 32
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

    def plan(self, incident: Incident) -> None:
        """Begin to plan; one that was only asked about is left. Where the server computes nothing any more, say so instead.

        What held already is not planned again.
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

    def agree(self, incident_id: str) -> None:
        """Queue what was asked about, unless the server broke meanwhile."""
        mend = self._mends.get(incident_id)
        if mend is None or mend.stage != "asked":
            return
        if (broken := self._broken(mend.server)) is not None:
            self._put(mend, replace(mend, stage="refused", words=broken, proposal=None))
        else:
            queueing = replace(mend, stage="queueing")
            if self._put(mend, queueing):
                self._begin(self._act, queueing)

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
        from gpuwatch.core.loop.next_try import Lineage  # noqa: PLC0415

        if mend.held is None and (held := self._recall(incident)) is not None and held.server == mend.server:
            planning = replace(mend, held=held)
            if not self._put(mend, planning):
                return
            mend = planning
        mender: Mender | None = None
        try:
            mender = self._menders[mend.server]()
            mender.hands.greet()
            lineage = Lineage(held=mend.held.action if mend.held is not None else None)
            found: Proposal | Refusal = mender.propose(self._failed_job(mender, mend.server, incident), lineage)
            if isinstance(found, Refusal) and mend.held is None:
                found = mender.again(found, restarted=not incident.active) or found
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

    def _act(self, mend: Mend) -> None:
        from gpuwatch.faces.mending import ending_of  # noqa: PLC0415 - loaded for a server alone

        proposal, mender = mend.proposal, mend.mender
        if proposal is None or mender is None:
            return
        try:
            queued = mender.carry_through(proposal, self._stop.wait)
            self._report(mender.applied(proposal, queued, mend.incident_id))
            waiting = replace(mend, stage="queued", queued=queued)
            self._put(mend, waiting)
            mend = waiting
            job, tried = mender.see_through(proposal, queued, self._stop.wait, mend.incident_id)
            if self._stop.is_set():
                return
            outcome, words = ending_of(job, queued)
            if tried is not None:
                self._report(tried)
            now = replace(mend, stage="held" if outcome == "held" else "failed", words=words)
            self._put(mend, replace(now, held=tried) if outcome == "held" else now)
        except Exception as error:  # noqa: BLE001 - loaded for a server alone
            if not self._stop.is_set():
                self._put(mend, replace(mend, stage="failed", words=told_by(error)))
        finally:
            mender.hands.close()


def refused_by(found: Refusal, *, held: bool = False) -> Text:
    """Why nothing is queued, and what helps where that is a restart. `held`: the job ran to its end since."""
    why = found.give_up.why
    if held and not found.of_memory:
        return text("There is nothing left to mend.")
    if not found.of_memory and only_a_restart_helps(found.incident):
        return text("Only a restart of ComfyUI helps, so nothing is queued. {why}", why=why)
    if not found.of_memory:
        return text("{why} Do what helps, then queue the job again in ComfyUI.", why=ended(why))
    return why


def ended(words: Text) -> Text:
    """A sentence with its full stop, before another one."""
    return words if render(words).rstrip().endswith((".", "。", "!", "?")) else text("{words}.", words=words)


def told_by(error: Exception) -> Text:
    """What is said of an error."""
    return (
        error.message if isinstance(error, GpuwatchError) else text("stopped by an error: {error}", error=repr(error))
    )
