"""A worker that is dead behind a server that lives: prompts wait, none runs, and that stays so.

After an illegal access ComfyUI's worker thread may end while its HTTP goes on. It takes prompts for ever and runs none of them;
only a restart helps. Told from the queue alone, so that it is noticed without the log too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import QueueState
from gpuwatch.core.rules import Rule

LABEL = "worker_dead"
_DEAD_AFTER = timedelta(seconds=15)
"""Between two prompts the queue looks so for a moment; a worker that lives takes the next one in milliseconds."""
_LOOKS = 3


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


def dead_worker(rule: Rule, queue: QueueState, since: datetime) -> Incident:
    """The incident that a queue tells. It stands in no line of a log."""
    told = f"{queue.server}\0{rule.id}\0{since.isoformat()}"
    seconds = (queue.at - since).total_seconds()
    return Incident(
        id=hashlib.blake2s(told.encode(), digest_size=5).hexdigest(),
        source=queue.server,
        rule=rule,
        label=rule.label,
        state="open",
        line=0,
        text=f"queue_pending is {queue.pending} and queue_running has been empty for {seconds:.0f} s",
        first_at=since,
        last_at=queue.at,
        facts={"pending_count": queue.pending},
    )
