"""The jobs that wait on a server, kept beside it: ComfyUI holds its queue in memory alone and forgets it when its process ends.

What is seen of its queue comes in from time to time; when the server was restarted, those that waited and did not end are lost
there and known here. What ran at that moment is left out: it may be what ended the process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

MOST = 1000
_LOOK_EVERY = timedelta(seconds=3)
_JUST_NOW = timedelta(seconds=15)
"""A queue that was read from the new process already, before the restart was known, held none of them."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A prompt in a queue, as it was submitted."""

    id: str
    prompt: Mapping[str, Any] = field(repr=False)
    extra_data: Mapping[str, Any] = field(repr=False)
    """May hold keys of paid services: kept in memory alone."""


@dataclass(slots=True)
class WaitingJobs:
    """Those of one server."""

    lost: tuple[Waiting, ...] = ()
    """What waited when the server was restarted and is not queued again yet, in its order."""
    _kept: dict[str, Waiting] = field(default_factory=dict)
    _running: frozenset[str] = frozenset()
    _gone: dict[str, tuple[Waiting, datetime]] = field(default_factory=dict)
    """What was in the queue no longer, and since when; it may have ended, or have been deleted."""
    _others: int = 0
    """How many are in the queue beside those."""
    _read_at: datetime | None = None

    @property
    def count(self) -> int:
        """How many are known to wait."""
        return sum(id_ not in self._running for id_ in self._kept)

    def turn(self, remaining: int, at: datetime) -> bool:
        """Whether the queue is to be read now: it holds others than are known here. `remaining`: what waits and runs there."""
        if self._read_at is not None and at - self._read_at < _LOOK_EVERY:
            return False
        if remaining == len(self._kept) + self._others:
            return False
        self._read_at = at
        return True

    def see(self, jobs: Sequence[Waiting], running: Collection[str], at: datetime, total: int | None = None) -> None:
        """This is the queue now, in its order. `total`: how many are in it, with those that are not kept here."""
        self._others = (len(jobs) if total is None else total) - len(jobs[:MOST])
        now = {job.id: job for job in jobs[:MOST]}
        self.queued_again(now.keys())
        self._gone = {id_: (job, since) for id_, (job, since) in self._gone.items() if at - since < _JUST_NOW}
        self._gone |= {id_: (job, at) for id_, job in self._kept.items() if id_ not in now}
        if now:
            self._running = frozenset(running)
        self._kept = now

    def ran(self, id_: str) -> None:
        """This one runs now."""
        if id_ in self._kept:
            self._running = frozenset({id_})

    def ended(self, ids: Collection[str]) -> None:
        """These are over."""
        for id_ in ids:
            self._kept.pop(id_, None)
            self._gone.pop(id_, None)
        self.queued_again(ids)

    def restarted(self, at: datetime) -> None:
        """Another process answers: what waited is lost there."""
        gone = [job for job, since in self._gone.values() if at - since < _JUST_NOW]
        waited = {job.id: job for job in (*self.lost, *gone, *self._kept.values()) if job.id not in self._running}
        self.lost = tuple(waited.values())[:MOST]
        self._kept, self._gone, self._running, self._others, self._read_at = {}, {}, frozenset(), 0, None

    def queued_again(self, ids: Collection[str]) -> None:
        """These are in a queue again, or were."""
        if self.lost:
            self.lost = tuple(job for job in self.lost if job.id not in ids)
