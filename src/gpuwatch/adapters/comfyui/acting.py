"""What is done to a server, where a person said so: a failed prompt is read, memory is freed, a prompt is queued, its end is seen.

What came with the prompt goes back with it, keys of paid services too, and is held in memory alone: nothing here writes it
down or puts it into a message. No socket is opened under the submitter's client id; the server keeps one for each.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.ended import MARK, OF_BATCH, EndedJob, ended_job
from gpuwatch.adapters.comfyui.reading import ended_entries, items, part, remaining_of, whole, words_of
from gpuwatch.adapters.comfyui.refusals import node_errors, reason_of
from gpuwatch.adapters.node_knowledge import with_object_info
from gpuwatch.core.loop.waiting import Waiting
from gpuwatch.core.workflow.changes import Card
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.errors import JobError, UsageError
from gpuwatch.texts import Text, plain, text

_PAGES = (8, 64, 512)
_NOT_KEPT = frozenset({"create_time"})
"""What the server sets by itself."""
_NOT_SENT = frozenset({"refused", "certificate", "forbidden"})
"""After these nothing can have been queued."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_SETTLE_PAUSE = 0.5
"""Between a lost answer and the first look: what the server still has to read takes its time."""
_LOST_AFTER = 3
"""Looks: the history lags up to a second behind the queue."""
_MOST_ASKED = 20

State = Literal["waits", "runs"]
Pause = Callable[[float], bool]
"""Waits so many seconds; True where one is to stop."""


class RefusedError(JobError):
    """The server does not take the prompt."""


class UnsureError(NoAnswerError):
    """The answer was lost: the server may have taken the prompt or not. It would stand there under `id`."""

    def __init__(self, error: NoAnswerError, id_: str) -> None:
        super().__init__(error.trouble, error.message, error.hint, error.status, error.said)
        self.id = id_


class GoneError(JobError):
    """The job is in no list of the server's any more."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A prompt that the server took."""

    id: str
    dropped: Text | None = None
    """Which outputs it will not make, where the prompt is partly invalid."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the server says of its card and its nodes."""

    card_bytes: int | None
    version: tuple[int, ...] | None
    knowledge: Knowledge


class Hands:
    """Acts on one server. Not for use by several threads at once."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.name = client.server.name

    def close(self) -> None:
        """Let go of the connection."""
        self.client.close()

    def greet(self) -> None:
        """Raise what is wrong, unless a ComfyUI server is there."""
        if remaining_of(self.client.get("/prompt")) is None:
            raise self._strange()

    def told(self, knowledge: Knowledge) -> Told:
        """Ask the server for its card and its nodes."""
        stats = self.client.get("/system_stats")
        device = next((each for each in items(stats, "devices") if isinstance(each, dict)), {})
        total = whole(device.get("vram_total")) if device.get("type") != "cpu" else None
        version = words_of(part(stats, "system").get("comfyui_version")) or ""
        numbers = version.removeprefix("v").split(".")
        nodes = self.client.get("/object_info")
        return Told(
            total or None,
            tuple(map(int, numbers)) if all(number.isdecimal() and len(number) < 6 for number in numbers) else None,
            with_object_info(knowledge, nodes, complete=isinstance(nodes, dict) and len(nodes) > 20),
        )

    # -- jobs --------------------------------------------------------------------------------------------------------------

    def ended_job(self, id_: str) -> EndedJob | None:
        """A job of the history; None where it is not there."""
        answer = self.client.get(f"/history/{id_}")
        entry = answer.get(id_) if isinstance(answer, dict) else None
        return ended_job(id_, entry)

    def failed_job(self, id_: str | None = None) -> EndedJob:
        """That job, or the one that failed last. Raises what a person can do where it is none."""
        if id_ is None:
            return self._newest_failed()
        job = self.ended_job(id_)
        if job is None:
            raise self._not_ended(id_)
        if job.ended.outcome != "error":
            raise UsageError(
                text(
                    "{server}: job {id} did not fail, it was {outcome}.",
                    server=self.name,
                    id=id_,
                    outcome=_ENDS[job.ended.outcome],
                )
            )
        return job

    def newest_end_ms(self) -> int:
        """When the last of the newest jobs ended, by the server's clock; 0 where it has none."""
        return max(
            (ended.ended_ms or 0 for ended in ended_entries(self.client.get("/history", max_items=_PAGES[0]))),
            default=0,
        )

    def _newest_failed(self) -> EndedJob:
        for most in _PAGES:
            answer = self.client.get("/history", max_items=most)
            if not isinstance(answer, dict):
                raise self._strange()
            failed = next((ended for ended in ended_entries(answer) if ended.outcome == "error"), None)
            job = ended_job(failed.job_id, answer[failed.job_id]) if failed is not None else None
            if job is not None:
                return job
            if len(answer) < most:
                break
        raise UsageError(
            text("{server}: no failed job is in its history.", server=self.name),
            text(
                "A server forgets its jobs when it restarts. Name a workflow's file instead: gpuwatch fix WORKFLOW.json"
            ),
        )

    def _not_ended(self, id_: str) -> JobError | UsageError:
        if self.where(id_) is not None:
            return UsageError(text("{server}: job {id} has not ended yet.", server=self.name, id=id_))
        return GoneError(
            text("{server}: job {id} is neither in the queue nor in the history.", server=self.name, id=id_),
            text(
                "A server forgets its jobs when it restarts, and a job that is deleted while it waits leaves no trace."
            ),
        )

    def where(self, id_: str) -> State | None:
        """Whether a job waits or runs; None where it does neither."""
        return next((state for item, state in self._queue() if item[1] == id_), None)

    def waiting(self) -> tuple[list[Waiting], frozenset[str], int]:
        """What runs and waits, in its order; the ids of what runs; how many there are.

        Photos of `gpuwatch submit`, which keeps its own, are only counted.
        """
        total = 0
        found: list[tuple[float, Waiting]] = []
        running: set[str] = set()
        for item, state in self._queue():
            total += 1
            prompt, extra = ([*item[2:4], None, None])[:2]
            if isinstance(prompt, dict) and isinstance(extra, dict) and OF_BATCH not in extra:
                number = item[0] if isinstance(item[0], int | float) and state == "waits" else -math.inf
                found.append((number, Waiting(str(item[1]), prompt, extra)))
            if state == "runs":
                running.add(str(item[1]))
        found.sort(key=lambda each: each[0])
        return [job for _number, job in found], frozenset(running), total

    def _queue(self) -> Iterator[tuple[list[Any], State]]:
        """What waits and runs: number, id, prompt, extra data, outputs."""
        queue = self.client.get("/queue")
        for name, state in _QUEUES:
            for item in items(queue, name):
                if isinstance(item, list) and len(item) > 1:
                    yield item, state

    def await_end(self, id_: str, pause: Pause) -> EndedJob | None:
        """Wait for a job's end, over restarts too; None where it was lost, or where one is to stop."""
        missing, seconds = 0, _FIRST_PAUSE
        while missing < _LOST_AFTER:
            try:
                if (job := self.ended_job(id_)) is not None:
                    return job
                missing = 0 if self.where(id_) is not None else missing + 1
            except NoAnswerError as error:
                if error.trouble in {"forbidden", "certificate"}:
                    raise
            if pause(seconds):
                return None
            seconds = min(seconds * 2, _LONGEST_PAUSE)
        return None

    # -- acting ------------------------------------------------------------------------------------------------------------

    def free(self) -> None:
        """Have the server let go of models and cached nodes, once what runs is over."""
        self.client.send("POST", "/free", {"unload_models": True, "free_memory": True})

    def queue(
        self,
        prompt: Mapping[str, Any],
        extra_data: Mapping[str, Any] | None = None,
        *,
        front: bool = False,
        id_: str | None = None,
    ) -> Queued:
        """Queue a prompt, under that id or one of our own.

        Raises RefusedError with what the server has against it, UnsureError where it may have been taken all the same: it is
        not to be queued again before `arrived` did not find it.
        """
        id_ = id_ or str(uuid.uuid4())
        kept = {name: value for name, value in (extra_data or {}).items() if name not in _NOT_KEPT} | {MARK: id_}
        body: dict[str, Any] = {"prompt": prompt, "extra_data": kept, "prompt_id": id_}
        if isinstance(kept.get("client_id"), str):
            body["client_id"] = kept["client_id"]
        if front:
            body["front"] = True
        try:
            answer = self.client.send("POST", "/prompt", body)
        except NoAnswerError as error:
            if error.status in {400, 413, 422} or (error.status == 500 and isinstance(error.said, dict)):
                raise RefusedError(
                    text("{server}: does not take the prompt: {why}", server=self.name, why=reason_of(error)),
                    error.hint if not isinstance(error.said, dict) else None,
                ) from error
            if error.trouble in _NOT_SENT or error.absent:
                raise
            raise UnsureError(error, id_) from error
        taken = words_of(part({"answer": answer}, "answer").get("prompt_id"))
        if taken is None:
            raise UnsureError(self._strange(), id_)
        errors = node_errors(answer.get("node_errors"))
        return Queued(taken, plain(errors) if errors else None)

    def arrived(self, id_: str) -> str | None:
        """The id under which the server has a prompt whose answer was lost: ours, or its own where it gives none away.

        None where it is in no list. It may only be late: the history lags behind the queue, and a request may wait in a
        server that is busy.
        """
        for item, _state in self._queue():
            if id_ in (item[1], _mark_of(item)):
                return str(item[1])
        if self.ended_job(id_) is not None:
            return id_
        newest = self.client.get("/history", max_items=_PAGES[0])
        entries = newest.items() if isinstance(newest, dict) else ()
        return next((str(found) for found, entry in entries if _mark_of(items(entry, "prompt")) == id_), None)

    def settle(self, unsure: UnsureError, pause: Pause) -> Queued:
        """Find out whether a prompt was taken. Raises what was unsure, with what is known then, where it was not found."""
        looks, asked, seconds = 0, 0, _SETTLE_PAUSE
        while looks < _LOST_AFTER and asked < _MOST_ASKED:
            asked += 1
            if pause(seconds):
                break
            seconds = min(seconds * 2, _LONGEST_PAUSE)
            try:
                if (found := self.arrived(unsure.id)) is not None:
                    return Queued(found)
                looks += 1
            except NoAnswerError as error:
                if error.trouble in {"forbidden", "certificate"}:
                    raise
        hint = (
            text("The server has it in no list: nothing was queued.")
            if looks >= _LOST_AFTER
            else text(
                "Whether it was queued is not known; look in its queue for {id} before you try again.", id=unsure.id
            )
        )
        raise NoAnswerError(unsure.trouble, unsure.message, hint, unsure.status) from unsure

    def withdraw(self, id_: str) -> None:
        """Take a prompt that still waits out of the queue."""
        self.client.send("POST", "/queue", {"delete": [id_]})

    def _strange(self) -> NoAnswerError:
        return NoAnswerError(
            "not_json",
            text("{server}: answers, but not as ComfyUI does.", server=self.name),
            text("Is it a ComfyUI server? Behind a reverse proxy, write its path too: http://HOST:PORT/PATH"),
        )


_QUEUES: tuple[tuple[str, State], ...] = (("queue_running", "runs"), ("queue_pending", "waits"))
_ENDS: Mapping[str, Text] = {"success": text("successful"), "interrupted": text("interrupted"), "error": text("failed")}


def _mark_of(item: list[Any]) -> Any:
    """The id that was given with a prompt, as the server keeps it; None where it was not ours."""
    extra = item[3] if len(item) > 3 else None
    return extra.get(MARK) if isinstance(extra, dict) else None


def card_of(told: Told, gpu_memory: int | None = None) -> Card | None:
    """The card, as a person says or as the server does; None where neither knows."""
    total = gpu_memory or told.card_bytes
    return Card(total) if total else None
