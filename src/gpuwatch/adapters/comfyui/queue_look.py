"""How many jobs of a server wait and run, and which: asked cheaply where it is idle, of its job list where it has one."""

from __future__ import annotations

from dataclasses import dataclass

from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.jobs import JobFeed
from gpuwatch.adapters.comfyui.reading import queue_of, remaining_of, running_of

_MOST_RUNNING = 8


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


def look_at_queue(client: Client, jobs: JobFeed) -> Queue | None:
    """The server's queue; None where it does not say. Raises NoAnswerError where nothing answers."""
    remaining = remaining_of(client.get("/prompt"))
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
