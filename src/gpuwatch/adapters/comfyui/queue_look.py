"""How many jobs of a server wait and run, and which: told by its socket, asked cheaply where it is idle, of its job list where
it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.jobs import JobFeed
from gpuwatch.adapters.comfyui.reading import queue_of, remaining_of, running_of
from gpuwatch.core.observations import QueueState

_MOST_RUNNING = 8
_SETTLE_LOOKS = 2
"""Looks at the busy pace after jobs ended: the history lags up to a second behind."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue at one moment."""

    remaining: int
    """Those that wait and those that run."""
    pending: int = 0
    ids: tuple[str, ...] = ()
    """Of those that run."""

    @property
    def running(self) -> int:
        """How many run."""
        return min(len(self.ids), self.remaining)


def look_at_queue(client: Client, jobs: JobFeed, told: int | None = None) -> Queue | None:
    """The server's queue; None where it does not say. Raises NoAnswerError where nothing answers.

    `told`: how many the socket said just now.
    """
    remaining = remaining_of(client.get("/prompt")) if told is None else told
    if not remaining:
        return None if remaining is None else Queue(0)
    pending, ids = _split(client, jobs, remaining)
    return Queue(remaining, pending, tuple(ids))


def _split(client: Client, jobs: JobFeed, remaining: int) -> tuple[int, list[str]]:
    """How many of them wait, and which run."""
    if jobs.lists_jobs is not False:
        try:
            ids = running_of(client.get("/api/jobs", status="in_progress", limit=_MOST_RUNNING))
        except NoAnswerError as error:
            if not error.lives:
                raise
        else:
            if ids is not None:
                return max(remaining - len(ids), 0), ids
    try:
        split = queue_of(client.get("/queue"))
    except NoAnswerError as error:
        if error.trouble != "too_large":
            raise
        split = None
    # A queue too large to read surely has one that runs, or nothing would have filled it; which one is not known.
    return split if split is not None else (remaining - 1, [""])


class Deafness:
    """Notices a socket that does not say what the queue does: another took its place, or its server forgot it."""

    def __init__(self) -> None:
        self.heard: int | None = None
        """What the socket said last."""
        self._mismatches = 0

    def is_told(self, remaining: int | None, *, listening: bool) -> bool:
        """Take what the queue says; whether the socket, twice in a row, said another thing."""
        if not listening or self.heard in {None, remaining}:
            self._mismatches = 0
            return False
        self._mismatches += 1
        if self._mismatches > 1:
            self._mismatches, self.heard = 0, None
            return True
        return False


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a queue showed."""

    state: QueueState | None = None
    """None where it is not to be told: nothing waits or runs, as before."""
    began: bool = False
    """Whether something runs and nothing did before."""
    ended: bool = False
    """Whether jobs may have ended that were not found yet."""
    deaf: bool = False


class QueueWatch:
    """One server's queue: when to look at it, and what that showed."""

    def __init__(self, client: Client, jobs: JobFeed, clock: Callable[[], datetime]) -> None:
        self._client, self._jobs, self._clock = client, jobs, clock
        self.remaining: int | None = None
        self._deafness = Deafness()
        self._just_told: int | None = None
        self._settling = 0
        self._owed = 0
        """Jobs that left the queue by what the socket said, and were not found among the ended ones. Some were deleted."""
        self._state: QueueState | None = None

    @property
    def hurried(self) -> bool:
        """Whether it is to be looked at often."""
        return bool(self.remaining) or self._settling > 0

    @property
    def has_news(self) -> bool:
        """Whether the socket said something since it was looked at."""
        return self._just_told is not None

    def server_changed(self) -> None:
        """What was known is of another life."""
        self.remaining = self._just_told = self._deafness.heard = None
        self._owed = 0

    def away(self) -> None:
        """The server does not answer: its next state is told whatever it is."""
        self._state = None

    def hear(self, remaining: int | None) -> bool:
        """Take what the socket says; whether to look soon."""
        before, self._deafness.heard = self._deafness.heard, remaining
        if remaining is None or remaining == before:
            return False
        if before is None or remaining < before:
            self._settling = _SETTLE_LOOKS
            self._owed += 0 if before is None else before - remaining
        self._just_told = remaining
        return True

    def look(self, *, listening: bool, tells: bool = False) -> Look:
        """Look at it; `tells`: its state is news whatever it is. Raises NoAnswerError."""
        before, told = self.remaining, self._just_told
        self._just_told = None
        queue = look_at_queue(self._client, self._jobs, told)
        if queue is None:
            return Look(ended=self._settling > 0)
        self.remaining = queue.remaining
        state = QueueState(self._clock(), self._client.server.name, queue.pending, queue.running)
        changed = self._state is None or (self._state.pending, self._state.running) != (state.pending, state.running)
        self._state = state
        others = self._jobs.running(queue.ids)
        if others or (told is None and before != queue.remaining):
            self._settling = _SETTLE_LOOKS
        return Look(
            state if changed or queue.remaining or tells else None,
            began=bool(queue.remaining and not before),
            ended=self._settling > 0,
            deaf=self._deafness.is_told(queue.remaining, listening=listening),
        )

    def found(self, ended: int, *, listening: bool) -> None:
        """So many were found that ended since: where that is all, none is waited for."""
        self._owed = max(self._owed - ended, 0)
        all_found = listening and ended > 0 and not self._owed and self._deafness.heard == self.remaining
        self._settling = 0 if all_found else max(self._settling - 1, 0)
        if not self._settling:
            self._owed = 0
