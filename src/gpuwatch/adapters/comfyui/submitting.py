"""Photos in bulk to one or several servers: each takes as many as it is to hold, and the next when one has ended.

Every server has a thread and a connection of its own and takes photos from one list. Prompts are made when they are queued,
never before, so that ten thousand photos are ten thousand names. A prompt that is in neither list of the server any more was
lost in a restart, and its photo is queued again. The socket only wakes: whether a job has ended is asked of the history.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpuwatch.adapters.comfyui.acting import EndedJob, RefusedError
from gpuwatch.adapters.comfyui.bulk_folder import OutputFolder
from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.mending import Mender, Proposal
from gpuwatch.adapters.comfyui.reading import words_of
from gpuwatch.core.loop.bulk import FOLDER, Entry, Photo, State, output_names, output_paths, with_photo
from gpuwatch.core.loop.next_try import Lineage
from gpuwatch.core.workflow.changes import as_json
from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.texts import Text, plain, render, text

MOST_UPLOAD_BYTES = 512 << 20
MOST_RESULT_BYTES = 1 << 30
_LOST_AFTER = 5
"""Looks: the history lags up to a second behind the queue."""
_MOST_LOST = 3
_UNFIT = frozenset({400, 413, 415, 422})
"""What a server answers that does not take this very photo."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_GIVEN_BACK_SECONDS = 30.0
"""A server that is away so long loses its photos to the others."""


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
    lost: int = 0


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
        self.error: GpuwatchError | None = None
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

    def queued(self, photo: Photo, server: str, job: str) -> None:
        """Write down that a server has it."""
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

    def fail(self, error: GpuwatchError) -> None:
        """End it all: what went wrong is no one photo's fault."""
        with self._lock:
            self.error = self.error or error
        self.stop.set()


class Lane:
    """One server's share."""

    def __init__(self, mender: Mender, batch: Batch, *, alone: bool = True) -> None:
        self.mender, self.batch, self.name = mender, batch, mender.hands.name
        self.flights: dict[str, Flight] = {}
        self.ended: GpuwatchError | None = None
        """Why this server takes no more photos."""
        self._alone = alone
        self._prompt = batch.prompt
        self._took_one = False
        self._away_since: float | None = None
        self._fetching = Client(mender.hands.client.server, most_bytes=MOST_RESULT_BYTES)

    def adopt(self, photo: Photo, job: str) -> None:
        """Take over what an earlier run queued here."""
        self.batch.adopt(photo)
        self.flights[job] = Flight(photo, job)

    def run(self) -> None:
        """Until every photo is over, or one is to stop."""
        pause = _FIRST_PAUSE
        try:
            while not self.batch.stop.is_set() and self.batch.left:
                try:
                    moved = self.step()
                    self._away_since = None
                except NoAnswerError as error:
                    if error.trouble in {"forbidden", "certificate"}:
                        raise
                    moved = False
                    self._is_away(error)
                pause = _FIRST_PAUSE if moved else min(pause * 1.5, _LONGEST_PAUSE)
                self.batch.stop.wait(pause)
        except UsageError as error:
            self.batch.fail(error)  # the folder cannot be written
        except GpuwatchError as error:
            self.ended = error
            for flight in self.flights.values():
                self.batch.give_back(flight.photo, flight.lost)
            if self._alone:
                self.batch.fail(error)
        finally:
            self.mender.hands.close()
            self._fetching.close()

    def step(self) -> bool:
        """Queue what there is room for, and see what has ended; whether anything moved."""
        moved = False
        while len(self.flights) < self.batch.depth and (next_one := self.batch.take()) is not None:
            try:
                moved = self._send(*next_one) or moved
            except NoAnswerError:
                self.batch.give_back(*next_one)
                raise
        for id_ in list(self.flights):
            if self.batch.stop.is_set():
                break
            moved = self._look(id_) or moved
        return moved

    # -- queueing ----------------------------------------------------------------------------------------------------------

    def _send(self, photo: Photo, lost: int) -> bool:
        try:
            content = read_photo(photo)
        except OSError as error:
            why = text("cannot be read: {error}", error=error.strerror or str(error))
            self.batch.over(Outcome(photo, self.name, failed=why), "")
            return True
        try:
            uploaded = upload(self.mender.hands.client, photo.upload_name, content)
        except NoAnswerError as error:
            if error.status not in _UNFIT:
                raise
            self.batch.over(Outcome(photo, self.name, failed=error.message), "")
            return True
        prompt = with_photo(self._prompt, self.batch.node_id, uploaded)
        try:
            queued = self.mender.hands.queue(prompt, id_=str(uuid.uuid4()))
        except RefusedError as error:
            if not self._took_one:
                raise  # the workflow is at fault
            self.batch.over(Outcome(photo, self.name, failed=error.message), "")
            return True
        if queued.dropped is not None and not self._took_one:
            self.batch.say(
                text("{server}: some outputs are invalid and left out: {why}", server=self.name, why=queued.dropped)
            )
        self._took_one = True
        self.flights[queued.id] = Flight(photo, queued.id, lost=lost)
        self.batch.queued(photo, self.name, queued.id)
        return True

    # -- what became of it -------------------------------------------------------------------------------------------------

    def _look(self, id_: str) -> bool:
        flight = self.flights[id_]
        job = self.mender.hands.ended_job(id_)
        if job is not None:
            self._ended(flight, job)
            return True
        if self.mender.hands.where(id_) is not None:
            flight.missing = 0
            return False
        flight.missing += 1
        if flight.missing < _LOST_AFTER:
            return False
        del self.flights[id_]
        if flight.lost >= _MOST_LOST:
            self._over(
                flight, failed=text("it was lost {count} times; does the server crash on it?", count=flight.lost + 1)
            )
            return True
        self.batch.say(
            text(
                "{server}: {photo} is in no list any more; it is queued again.",
                server=self.name,
                photo=flight.photo.name,
            )
        )
        self.batch.give_back(flight.photo, flight.lost + 1)
        return True

    def _ended(self, flight: Flight, job: EndedJob) -> None:
        """Deal with an end; where the server stops to answer, nothing has changed and it is done again."""
        self._close(flight, job)
        del self.flights[flight.job]

    def _close(self, flight: Flight, job: EndedJob) -> None:
        if job.ended.outcome == "success":
            self._fetch(flight, job)
            return
        if job.ended.outcome == "interrupted":
            self._over(flight, failed=text("somebody interrupted it."))
            return
        words = job.error.message.partition("\n")[0][:300] if job.error else "?"
        where = f"{job.error.node_type} #{job.error.node_id}: " if job.error else ""
        found = self.mender.propose(job, flight.lineage)
        if flight.proposal is not None and (isinstance(found, Proposal) or found.of_memory):
            self.mender.closed(flight.proposal.tried(self.mender.clock(), "failed", "", job.id))
            found = self.mender.propose(job, flight.lineage)
        if isinstance(found, Proposal) and self.batch.degrade:
            try:
                queued = self.mender.carry_out(found, str(uuid.uuid4()))
            except RefusedError as error:
                self._over(flight, failed=error.message)
                return
            self.flights[queued.id] = Flight(flight.photo, queued.id, found.lineage, found, lost=flight.lost)
            self.batch.queued(flight.photo, self.name, queued.id)
            return
        if isinstance(found, Proposal):
            why = text("{words} --retry-degrade would queue it again as it fits.", words=where + words)
        elif found.of_memory:
            why = Text("{words} {why}", {"words": where + words, "why": found.give_up.why}, "{words} {why}")
        else:
            why = plain(where + words)
        self._over(flight, failed=why)

    def _fetch(self, flight: Flight, job: EndedJob) -> None:
        if not job.images:
            self._over(flight, failed=text("the workflow saved no picture."))
            return
        paths = output_paths(self.batch.names[flight.photo.name], [image["filename"] for image in job.images])
        first_bytes = 0
        for path, image in zip(paths, job.images, strict=True):
            try:
                content = self._fetching.get_bytes("/view", **image)
            except NoAnswerError as error:
                if not error.absent:
                    raise
                self._over(flight, failed=text("its result cannot be fetched: {why}", why=error.message))
                return
            if not content:
                self._over(flight, failed=text("its result is empty."))
                return
            self.batch.output.put(path, content)
            first_bytes = first_bytes or len(content)
        if flight.proposal is not None:
            self.mender.closed(flight.proposal.tried(self.mender.clock(), "held", "", job.id))
            if flight.proposal.retry.plan.fits == "yes":
                self._prompt = (
                    flight.proposal.retry.prompt
                )  # what surely fits this card is what the next ones begin with
        self._over(flight, tuple(paths), first_bytes=first_bytes, seconds=job.ended.duration_seconds)

    def _over(
        self,
        flight: Flight,
        outputs: tuple[str, ...] = (),
        *,
        failed: Text | None = None,
        first_bytes: int = 0,
        seconds: float | None = None,
    ) -> None:
        changes = flight.proposal.retry.plan.changes if flight.proposal else ()
        outcome = Outcome(
            flight.photo,
            self.name,
            outputs,
            failed,
            1 + len(flight.lineage.tries),
            tuple(as_json(change) for change in changes),
            seconds,
        )
        self.batch.over(outcome, flight.job, first_bytes)

    def _is_away(self, error: NoAnswerError) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self.batch.say(text("{why} Waiting for it.", why=error.message))
            self.mender.forget_server()
        elif not self._alone and now - self._away_since > _GIVEN_BACK_SECONDS and self.flights:
            for flight in self.flights.values():
                self.batch.give_back(flight.photo, flight.lost)
            self.flights.clear()


def read_photo(photo: Photo) -> bytes:
    """A photo's bytes. Raises OSError where there are none, or too many."""
    with Path(photo.path).open("rb") as file:
        content = file.read(MOST_UPLOAD_BYTES + 1)
    if len(content) > MOST_UPLOAD_BYTES:
        raise OSError(None, "larger than 512 MiB")
    return content


def upload(client: Client, name: str, content: bytes) -> str:
    """Put a photo into the server's input folder; what a LoadImage node calls it there."""
    boundary = f"gpuwatch{uuid.uuid4().hex}"
    fields = (("type", "input"), ("subfolder", FOLDER), ("overwrite", "true"))
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields
    )
    head += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    answer = client.send_bytes("/upload/image", body, f"multipart/form-data; boundary={boundary}")
    told = answer if isinstance(answer, dict) else {}
    stored = words_of(told.get("name"))
    if stored is None:
        raise NoAnswerError(
            "not_json", text("{server}: does not say where it put the photo.", server=client.server.name)
        )
    folder = words_of(told.get("subfolder"))
    return f"{folder}/{stored}" if folder else stored
