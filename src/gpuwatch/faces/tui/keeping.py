"""The queues of the watched servers, kept while their jobs wait, and put back after a restart when a person says so.

Servers are asked on threads of their own, and only when their queue holds others than are known here. What is kept is in memory
alone and ends with the screen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from gpuwatch.core.incidents import Incident
from gpuwatch.core.loop.broken import breakage
from gpuwatch.core.loop.waiting import Waiting, WaitingJobs
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import GpuwatchError
from gpuwatch.texts import Text, text

if TYPE_CHECKING:
    from gpuwatch.adapters.comfyui.acting import Hands

MakeHands = Callable[[], "Hands"]


@dataclass(slots=True)
class _Kept:
    jobs: WaitingJobs = field(default_factory=WaitingJobs)
    restarts: int | None = None
    """How often the server had been restarted when this was looked at last."""
    busy: bool = False
    """Whether a thread asks the server."""


class Keeping:
    """Those of one run of the screen. Its methods are for the screen's thread."""

    def __init__(self, hands: Mapping[str, MakeHands], changed: Callable[[], object]) -> None:
        self._hands, self._changed = hands, changed
        self._kept = {name: _Kept() for name in hands}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.told: Text | None = None
        """What became of putting jobs back; taken by whoever shows it."""

    def look(self, snapshot: Snapshot) -> str | None:
        """Compare what is known with what is told of the queues; a server whose jobs were lost just now, where there is one."""
        if snapshot.at is None:
            return None
        lost_on = None
        for name, kept in self._kept.items():
            seen, queue = snapshot.servers.get(name), snapshot.queues.get(name)
            status = snapshot.sources.get(name)
            if seen is None or queue is None or status is None:
                continue
            with self._lock:
                kept.jobs.ended([job.job_id for job in snapshot.jobs if job.server == name])
                if (running := snapshot.progress.get(name)) is not None:
                    kept.jobs.ran(running.job_id)
                if kept.restarts is not None and seen.restarts > kept.restarts:
                    before = len(kept.jobs.lost)
                    kept.jobs.restarted(snapshot.at)
                    lost_on = name if len(kept.jobs.lost) > before else lost_on
                kept.restarts = seen.restarts
                if status.state != "up" or kept.busy or not kept.jobs.turn(queue.pending + queue.running, snapshot.at):
                    continue
                kept.busy = True
            self._begin(self._read, name, kept, snapshot.at)
        return lost_on

    def count(self, server: str) -> int:
        """How many jobs that wait on it are kept here."""
        return self._kept[server].jobs.count if server in self._kept else 0

    def lost(self) -> tuple[str, int] | None:
        """A server that forgot jobs that waited, and how many."""
        return next(((name, len(kept.jobs.lost)) for name, kept in self._kept.items() if kept.jobs.lost), None)

    def word(self, incident: Incident, snapshot: Snapshot) -> Text | None:
        """What a person should know before they restart the server that a failure broke; None where nothing waits on it."""
        server = next((name for name in (incident.source, *incident.also_in) if name in self._kept), None)
        if server is None or not self.count(server) or breakage(snapshot.incidents.values(), server) is None:
            return None
        return text(
            "Jobs that wait there and that a restart forgets: {count}. They are kept here: Q queues them again afterwards.",
            count=self.count(server),
        )

    def put_back(self, server: str) -> None:
        """Queue again what was lost, in its order, under the ids that it had."""
        kept = self._kept[server]
        with self._lock:
            if kept.busy or not kept.jobs.lost:
                return
            kept.busy = True
            lost = kept.jobs.lost
        self._begin(self._queue_again, server, kept, lost)

    def close(self) -> None:
        """Begin nothing more."""
        self._stop.set()

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, name="keep queue", daemon=True).start()

    # -- on a thread of their own ----------------------------------------------------------------------------------------

    def _read(self, name: str, kept: _Kept, at: datetime) -> None:
        try:
            with suppress(GpuwatchError):  # that it does not answer is told by who watches it
                hands = self._hands[name]()
                try:
                    jobs, running, total = hands.waiting()
                finally:
                    hands.close()
                with self._lock:
                    kept.jobs.see(jobs, running, at, total)
        finally:
            kept.busy = False
        self._changed()

    def _queue_again(self, name: str, kept: _Kept, lost: tuple[Waiting, ...]) -> None:
        from gpuwatch.adapters.comfyui.acting import RefusedError, UnsureError  # noqa: PLC0415 - loaded to act

        queued, refused, trouble = 0, 0, None
        try:
            hands = self._hands[name]()
            try:
                there = {job.id for job in hands.waiting()[0]}
                for job in lost:
                    if self._stop.is_set():
                        break
                    try:
                        if job.id not in there and hands.ended_job(job.id) is None:  # another may have done it
                            hands.queue(job.prompt, job.extra_data, id_=job.id)
                        queued += 1
                    except UnsureError as unsure:
                        hands.settle(unsure, self._stop.wait)
                        queued += 1
                    except RefusedError as error:
                        refused, trouble = refused + 1, error.message
                    with self._lock:
                        kept.jobs.queued_again({job.id})
            finally:
                hands.close()
        except GpuwatchError as error:
            trouble = error.message
        finally:
            kept.busy = False
        self.told = (
            text("Jobs queued again on {server}: {count}.", count=queued, server=name)
            if trouble is None
            else text(
                "Jobs queued again on {server}: {count}; refused: {refused}. {why}",
                count=queued, server=name, refused=refused, why=trouble,
            )
        )  # fmt: skip
        self._changed()
