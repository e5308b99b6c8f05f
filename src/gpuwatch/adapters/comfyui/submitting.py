"""Photos in bulk to one or several servers: each takes as many as it is to hold, and the next when one has ended.

Every server has a thread and a connection of its own and takes photos from one list. Prompts are made when they are queued,
never before, so that ten thousand photos are ten thousand names. A prompt that is in neither list of the server any more was
lost in a restart, and its photo is queued again. The socket only wakes: whether a job has ended is asked of the history.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

from gpuwatch.adapters.comfyui.acting import Queued, RefusedError, UnsureError
from gpuwatch.adapters.comfyui.batch import Batch, Flight, Outcome
from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.ended import OF_BATCH, EndedJob
from gpuwatch.adapters.comfyui.mending import Mender, Proposal
from gpuwatch.adapters.comfyui.patience import Patience
from gpuwatch.adapters.comfyui.uploading import read_photo, upload
from gpuwatch.core.loop.bulk import Photo, output_paths, with_photo
from gpuwatch.core.workflow.changes import as_json
from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.texts import Text, plain, text

MOST_RESULT_BYTES = 1 << 30
GIVE_UP_SECONDS = 600.0
"""A server may load models for minutes, or be restarted by a person."""
_LOST_AFTER = 5
"""Looks: the history lags up to a second behind the queue."""
_MOST_LOST = 3
_MOST_STRIKES = 3
"""How often a server may fail over one photo while it takes others."""
_UNFIT = frozenset({400, 413, 415, 422})
"""What a server answers that does not take this very photo."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_ARRIVES_SECONDS = 3.0
"""How long a prompt whose answer was lost may be on its way."""
_GIVEN_BACK_SECONDS = 30.0
"""A server that is away so long loses its photos to the others."""


class Lane:
    """One server's share."""

    def __init__(
        self, mender: Mender, batch: Batch, *, alone: bool = True, give_up_seconds: float = GIVE_UP_SECONDS
    ) -> None:
        self.mender, self.batch, self.name = mender, batch, mender.hands.name
        self.flights: dict[str, Flight] = {}
        self.ended: GpuwatchError | None = None
        """Why this server takes no more photos."""
        self._alone = alone
        self._prompt = batch.prompt
        self._took = 0
        """How many photos the server took."""
        self._strikes: dict[str, tuple[int, int]] = {}
        """By photo, how often the server failed over it, and how many it had taken when it did so last."""
        self._patience = Patience(self.name, give_up_seconds)
        self._fetching = Client(mender.hands.client.server, most_bytes=MOST_RESULT_BYTES)

    def adopt(self, photo: Photo, job: str) -> None:
        """Take over what an earlier run queued here."""
        self.batch.adopt(photo)
        self.flights[job] = Flight(photo, job)

    def run(self) -> None:
        """Until every photo is over, one is to stop, or the server does not answer for too long."""
        pause = _FIRST_PAUSE
        try:
            while not self.batch.stop.is_set() and self.batch.left:
                try:
                    moved = self.step()
                    if not any(flight.unsure for flight in self.flights.values()):
                        self._say(self._patience.answered())
                    pause = _FIRST_PAUSE if moved else min(pause * 1.5, _LONGEST_PAUSE)
                except NoAnswerError as error:
                    if error.trouble in {"forbidden", "certificate"}:
                        raise
                    self._is_away(error)
                    pause = self._patience.pause_seconds(_FIRST_PAUSE)
                self.batch.stop.wait(pause)
        except UsageError as error:
            self.batch.fail(error)  # the folder cannot be written
        except GpuwatchError as error:
            self.ended = error
            self._give_back()
            if self._alone:
                self.batch.fail(error)
        except Exception as error:  # noqa: BLE001 - a thread's fault would end it unheard, and leave its photos without a word
            self.batch.fail(error)
        finally:
            self.mender.hands.close()
            self._fetching.close()

    def step(self) -> bool:
        """See what has ended, and queue what there is room for; whether anything moved."""
        moved = False
        for id_ in list(self.flights):
            if self.batch.stop.is_set():
                return moved
            moved = self._look(id_) or moved
        while len(self.flights) < self.batch.depth and (next_one := self.batch.take()) is not None:
            moved = self._send(*next_one) or moved
        return moved

    def _is_away(self, error: NoAnswerError) -> None:
        said = self._patience.failed(error)
        if said is not None:
            self._say(said)
            self.mender.forget_server()
        if not self._alone and self._patience.away_seconds > _GIVEN_BACK_SECONDS:
            self._give_back()

    def _give_back(self) -> None:
        """Let the others have what this server has."""
        for flight in self.flights.values():
            self.batch.give_back(flight.photo, flight.lost)
        self.flights.clear()

    def _say(self, words: Text | None) -> None:
        if words is not None:
            self.batch.say(words)

    # -- queueing ----------------------------------------------------------------------------------------------------------

    def _send(self, photo: Photo, lost: int) -> bool:
        try:
            content = read_photo(photo)
        except UsageError as error:
            self.batch.over(Outcome(photo, self.name, failed=error.message), "")
            return True
        try:
            uploaded = upload(self.mender.hands.client, photo.upload_name, content)
        except NoAnswerError as error:
            if error.status not in _UNFIT:
                return self._put_off(photo, lost, error)
            self.batch.over(Outcome(photo, self.name, failed=error.message), "")
            return True
        prompt = with_photo(self._prompt, self.batch.node_id, uploaded)
        flight = Flight(photo, str(uuid.uuid4()), lost=lost)
        self.batch.queued(photo, self.name, flight.job)
        try:
            queued = self.mender.hands.queue(prompt, {OF_BATCH: True}, id_=flight.job)
        except RefusedError as error:
            if not self._took:
                raise  # the workflow is at fault
            self.batch.over(Outcome(photo, self.name, failed=error.message), "")
            return True
        except UnsureError as error:
            self.flights[flight.job] = replace(flight, unsure=error)
            raise
        except NoAnswerError as error:
            return self._put_off(photo, lost, error)
        if queued.dropped is not None and not self._took:
            self.batch.say(
                text("{server}: some outputs are invalid and left out: {why}", server=self.name, why=queued.dropped)
            )
        self._taken(flight, queued)
        return True

    def _taken(self, flight: Flight, queued: Queued) -> None:
        """The server has it."""
        self._took += 1
        self.flights[queued.id] = replace(flight, job=queued.id, unsure=None, missing=0)
        if flight.proposal is not None:
            self.mender.applied(flight.proposal, queued)
        if queued.id != flight.job:
            self.batch.queued(flight.photo, self.name, queued.id)

    def _put_off(self, photo: Photo, lost: int, error: NoAnswerError) -> bool:
        """The server does not take a photo now. One that it fails over again and again, while it takes others, is at fault."""
        if error.status is None or error.status < 500:
            self.batch.give_back(photo, lost)
            raise error
        strikes, took = self._strikes.get(photo.name, (0, 0))
        if self._took > took or not self.batch.waits:
            strikes += self._took > 0
        self._strikes[photo.name] = strikes, self._took
        if strikes >= _MOST_STRIKES:
            self.batch.over(Outcome(photo, self.name, failed=error.message), "")
            return True
        self.batch.postpone(photo, lost)
        raise error

    # -- what became of it -------------------------------------------------------------------------------------------------

    def _look(self, id_: str) -> bool:
        flight = self.flights[id_]
        if flight.unsure is not None:
            return self._look_for(flight, flight.unsure)
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

    def _look_for(self, flight: Flight, why: NoAnswerError) -> bool:
        """See whether a prompt whose answer was lost arrived all the same."""
        found = self.mender.hands.arrived(flight.job)
        if found is not None:
            del self.flights[flight.job]
            self._taken(flight, Queued(found))
            return True
        flight.missing += 1
        if flight.missing < _LOST_AFTER or time.monotonic() - flight.since < _ARRIVES_SECONDS:
            return False
        del self.flights[flight.job]
        return self._put_off(flight.photo, flight.lost, why)

    def _ended(self, flight: Flight, job: EndedJob) -> None:
        """Deal with an end; where the server stops to answer, nothing has changed and it is done again."""
        try:
            self._close(flight, job)
        except UnsureError:
            del self.flights[flight.job]
            raise
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
            self._retry(Flight(flight.photo, str(uuid.uuid4()), found.lineage, found, lost=flight.lost), found, flight)
            return
        if isinstance(found, Proposal):
            why = text("{words} --retry-degrade would queue it again as it fits.", words=where + words)
        elif found.of_memory:
            why = Text("{words} {why}", {"words": where + words, "why": found.give_up.why}, "{words} {why}")
        else:
            why = plain(where + words)
        self._over(flight, failed=why)

    def _retry(self, flight: Flight, found: Proposal, before: Flight) -> None:
        """Queue it as it fits."""
        self.batch.queued(flight.photo, self.name, flight.job)
        try:
            queued = self.mender.carry_out(found, flight.job)
        except RefusedError as error:
            self._over(before, failed=error.message)
        except UnsureError as error:
            self.flights[flight.job] = replace(flight, unsure=error)
            raise
        else:
            self._taken(flight, queued)

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
                self._prompt = flight.proposal.retry.prompt  # what surely fits this card, the next ones begin with
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
