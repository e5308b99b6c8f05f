"""The photos of one run: what waits, what a server has, what is over, and the manifest that says so."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.adapters.comfyui.bulk_folder import OutputFolder
from gpuwatch.adapters.comfyui.client import NoAnswerError
from gpuwatch.adapters.comfyui.mending import Proposal
from gpuwatch.core.loop.bulk import Entry, Photo, State, output_names
from gpuwatch.core.loop.next_try import Lineage
from gpuwatch.texts import Text, render


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one photo."""

    photo: Photo
    server: str
    outputs: tuple[str, ...] = ()
    failed: Text | None = None
    tries: int = 1
    changes: tuple[Mapping[str, Any], ...] = ()
    seconds: float | None = None


@dataclass(slots=True)
class Flight:
    """One photo that a server has."""

    photo: Photo
    job: str
    lineage: Lineage = field(default_factory=Lineage)
    proposal: Proposal | None = None
    """The fix that it was queued with."""
    missing: int = 0
    """How often it was looked for in vain."""
    lost: int = 0
    """How often it was queued and lost."""
    unsure: NoAnswerError | None = None
    """Where the answer was lost: it is not known whether the server took it."""
    since: float = field(default_factory=time.monotonic)


class Batch:
    """The photos that are still to be done, and what every server is given. Safe for several threads."""

    def __init__(
        self,
        photos: Sequence[Photo],
        template: tuple[Mapping[str, Any], str],
        output: OutputFolder,
        tell: Callable[[Outcome], None],
        *,
        names: Mapping[str, str] | None = None,
        depth: int = 4,
        degrade: bool = False,
        say: Callable[[Text], None] = lambda _words: None,
    ) -> None:
        self.names = names or output_names(photos)
        self.prompt, self.node_id = template
        self.depth, self.degrade = depth, degrade
        self.output, self.say = output, say
        self.stop = threading.Event()
        self.error: Exception | None = None
        self._tell = tell
        self._lock = threading.Lock()
        self._waiting = deque((photo, 0) for photo in photos)
        self._left = len(photos)

    @property
    def left(self) -> int:
        """How many are not over."""
        return self._left

    def take(self) -> tuple[Photo, int] | None:
        """The next photo, and how often it was lost; None where none waits."""
        with self._lock:
            return self._waiting.popleft() if self._waiting and not self.stop.is_set() else None

    def adopt(self, photo: Photo) -> None:
        """Take a photo out of the list: a server has it already."""
        with self._lock:
            self._waiting = deque(pair for pair in self._waiting if pair[0].name != photo.name)

    def give_back(self, photo: Photo, lost: int = 0) -> None:
        """Let another server have it, or this one later."""
        with self._lock:
            self._waiting.appendleft((photo, lost))

    def postpone(self, photo: Photo, lost: int = 0) -> None:
        """Let the others go first."""
        with self._lock:
            self._waiting.append((photo, lost))

    @property
    def waits(self) -> bool:
        """Whether a photo waits to be taken."""
        return bool(self._waiting)

    def queued(self, photo: Photo, server: str, job: str) -> None:
        """Write down that a server has it, or is about to get it: a run that ends now must find it there again."""
        with self._lock:
            self.output.write(Entry(photo.name, photo.size_bytes, photo.mtime_ns, "queued", server, job).line())

    def over(self, outcome: Outcome, job: str, first_bytes: int = 0) -> None:
        """Write down what became of it."""
        photo = outcome.photo
        state: State = "done" if outcome.failed is None else "failed"
        head = (photo.name, photo.size_bytes, photo.mtime_ns)
        entry = Entry(*head, state, outcome.server, job, outcome.outputs, first_bytes)
        why = {"why": render(outcome.failed, "en")} if outcome.failed is not None else {}
        with self._lock:
            self.output.write(entry.line(tries=outcome.tries, changes=[dict(each) for each in outcome.changes], **why))
            self._left -= 1
            self._tell(outcome)

    def fail(self, error: Exception) -> None:
        """End it all: what went wrong is no one photo's fault."""
        with self._lock:
            self.error = self.error or error
        self.stop.set()
