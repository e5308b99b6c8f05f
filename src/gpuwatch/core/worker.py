"""Servers' workers: the thread that runs prompts, which may die while HTTP goes on taking them.

After an illegal access ComfyUI's worker thread may end. Prompts are taken for ever and none runs; only a restart helps. It is
told by the thread's own traceback, or by the queue alone: prompts wait, none runs, and that stays so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import QueueState
from gpuwatch.core.rules import Rule

LABEL = "worker_dead"
_TOLD = re.compile(r"Exception in thread Thread-\d{1,9} \(prompt_worker\)")
_DEAD_AFTER = timedelta(seconds=15)
"""Between two prompts the queue looks so for a moment; a worker that lives takes the next one in milliseconds."""
_LOOKS = 3


def tells_of_dead_worker(incident: Incident) -> bool:
    """Whether the incident's own lines say that the thread which runs prompts ended with it."""
    return incident.label == LABEL or any(_TOLD.search(line) for line in (incident.text, *incident.excerpt))


def begins_as_dead_worker(incident: Incident) -> bool:
    """Whether the incident's first line is that thread's end. Its label may yet change."""
    return _TOLD.search(incident.text) is not None


@dataclass(slots=True)
class WorkerWatch:
    """One server's worker, as its queue tells."""

    dead: bool = False
    since: datetime | None = None
    looks: int = 0
    told_by_log: bool = False
    """Whether the log's own words stand open for it."""
    _was_away: bool = False

    def feed(self, queue: QueueState) -> Literal["died", "lives"] | None:
        """Take the queue's state; say when that means that the worker has died, or runs again."""
        if queue.running or not queue.pending:
            lives = self.dead and (queue.running > 0 or self._was_away)
            self.since, self.looks, self._was_away = None, 0, False
            if lives:
                self.dead = False
                return "lives"
            return None
        self.since = self.since or queue.at
        self.looks += 1
        if not self.dead and self.looks >= _LOOKS and queue.at - self.since >= _DEAD_AFTER:
            self.dead = True
            return "died"
        return None

    def away(self) -> None:
        """The server does not answer: what its queue was no longer counts."""
        self.since, self.looks, self._was_away = None, 0, True

    def restarted(self) -> Literal["lives"] | None:
        """Another process answers, with a worker of its own."""
        was_dead, self.dead = self.dead, False
        self.since, self.looks, self._was_away = None, 0, False
        return "lives" if was_dead else None


@dataclass(slots=True)
class Workers:
    """The workers of all servers, and the incidents that their queues told."""

    rule: Callable[[], Rule | None]
    """Gives the rule in force that speaks of a dead worker."""
    _watches: dict[str, WorkerWatch] = field(default_factory=dict)
    _dead: dict[str, Incident] = field(default_factory=dict)
    """By server, the incident that its queue told."""

    def queue(self, state: QueueState) -> Incident | None:
        """Take a queue's state; the incident of a worker that has died or runs again, where that is news."""
        watch = self._watches.setdefault(state.server, WorkerWatch())
        since = watch.since
        change = watch.feed(state)
        if change == "lives":
            return self._lives(state.server, state.at)
        rule = self.rule()
        if change != "died" or since is None or rule is None or watch.told_by_log:
            return None
        self._dead[state.server] = told = dead_worker(rule, state, since)
        return told

    def told_otherwise(self, server: str) -> None:
        """What the queue told is said by another incident."""
        self._dead.pop(server, None)
        self._watches[server].told_by_log = True

    def told_by_log(self, incident: Incident) -> None:
        """The log's own words say that its server's worker is dead, or that this is over."""
        if (watch := self._watches.get(incident.source)) is not None:
            watch.told_by_log = incident.active

    def away(self, server: str) -> None:
        """The server does not answer."""
        if (watch := self._watches.get(server)) is not None:
            watch.away()

    def restarted(self, server: str, at: datetime) -> Incident | None:
        """Another process answers; the incident that this ends."""
        watch = self._watches.get(server)
        return self._lives(server, at) if watch is not None and watch.restarted() else None

    def _lives(self, server: str, at: datetime) -> Incident | None:
        dead = self._dead.pop(server, None)
        return None if dead is None else replace(dead, state="cleared", last_at=at)


def dead_worker(rule: Rule, queue: QueueState, since: datetime) -> Incident:
    """The incident that a queue tells. It stands in no line of a log."""
    told = f"{queue.server}\0{rule.id}\0{since.isoformat()}"
    seconds = (queue.at - since).total_seconds()
    return Incident(
        id=hashlib.blake2s(told.encode("utf-8", "backslashreplace"), digest_size=5).hexdigest(),
        source=queue.server,
        rule=rule,
        label=rule.label,
        state="open",
        line=0,
        text=f"queue_pending is {queue.pending} and queue_running has been empty for {seconds:.0f} s",
        first_at=since,
        last_at=queue.at,
        facts={"pending_count": queue.pending},
        worker_dead=True,
    )
