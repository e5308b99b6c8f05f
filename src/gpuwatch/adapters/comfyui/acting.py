"""What is done to a server, where a person said so: a failed prompt is read, memory is freed, a prompt is queued, its end is seen.

What came with the prompt goes back with it, keys of paid services too, and is held in memory alone: nothing here writes it
down or puts it into a message. No socket is opened under the submitter's client id; the server keeps one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.reading import (
    Ended,
    ended_entries,
    ended_entry,
    items,
    part,
    remaining_of,
    whole,
    words_of,
)
from gpuwatch.adapters.job_error import JobError as FailedNode
from gpuwatch.adapters.job_error import job_error_of
from gpuwatch.adapters.node_knowledge import with_object_info
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.workflow.changes import Card
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workload import Workloads
from gpuwatch.errors import JobError, UnreachableError, UsageError
from gpuwatch.texts import Text, plain, text

_PAGES = (8, 64, 512)
_NOT_KEPT = frozenset({"create_time"})
"""What the server sets by itself."""
_MOST_TOLD = 4
_LONGEST = 300
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_LOST_AFTER = 3
"""Looks: the history lags up to a second behind the queue."""

State = Literal["waits", "runs"]
Pause = Callable[[float], bool]
"""Waits so many seconds; True where one is to stop."""


class RefusedError(JobError):
    """The server does not take the prompt."""


class GoneError(JobError):
    """The job is in no list of the server's any more."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that is over, with the prompt that it ran."""

    id: str
    ended: Ended
    prompt: Mapping[str, Any]
    extra_data: Mapping[str, Any] = field(repr=False)
    error: FailedNode | None = None
    images: tuple[Mapping[str, str], ...] = ()
    """What it saved: file name, folder and kind, as /view wants them."""


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
        queue = self.client.get("/queue")
        for name, state in _QUEUES:
            if any(isinstance(item, list) and len(item) > 1 and item[1] == id_ for item in items(queue, name)):
                return state
        return None

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
        """Queue a prompt, under that id where one is given. Raises RefusedError with what the server has against it."""
        kept = {name: value for name, value in (extra_data or {}).items() if name not in _NOT_KEPT}
        body: dict[str, Any] = {"prompt": prompt, "extra_data": kept}
        if isinstance(kept.get("client_id"), str):
            body["client_id"] = kept["client_id"]
        if front:
            body["front"] = True
        if id_ is not None:
            body["prompt_id"] = id_
        try:
            answer = self.client.send("POST", "/prompt", body)
        except NoAnswerError as error:
            if error.status in {400, 413, 422} or (error.status == 500 and isinstance(error.said, dict)):
                raise RefusedError(
                    text("{server}: does not take the prompt: {why}", server=self.name, why=_against(error)),
                    error.hint if not isinstance(error.said, dict) else None,
                ) from error
            raise
        taken = words_of(part({"answer": answer}, "answer").get("prompt_id"))
        if taken is None:
            raise self._strange()
        errors = _node_errors(answer.get("node_errors"))
        return Queued(taken, plain(errors) if errors else None)

    def _strange(self) -> UnreachableError:
        return NoAnswerError(
            "not_json",
            text("{server}: answers, but not as ComfyUI does.", server=self.name),
            text("Is it a ComfyUI server? Behind a reverse proxy, write its path too: http://HOST:PORT/PATH"),
        )


_QUEUES: tuple[tuple[str, State], ...] = (("queue_running", "runs"), ("queue_pending", "waits"))
_ENDS: Mapping[str, Text] = {"success": text("successful"), "interrupted": text("interrupted"), "error": text("failed")}


def ended_job(id_: str, entry: Any) -> EndedJob | None:
    """An entry of the history; None where it is not over, or where its prompt is not there."""
    ended = ended_entry(id_, entry)
    item = items(entry, "prompt")
    if ended is None or len(item) < 4 or not isinstance(item[2], dict):
        return None
    extra = item[3] if isinstance(item[3], dict) else {}
    error = job_error_of({**ended.error, "prompt_id": id_}) if ended.outcome == "error" else None
    return EndedJob(id_, ended, item[2], extra, error, _images(part(entry, "outputs")))


def _images(outputs: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    """The saved pictures, previews only where there is nothing else."""
    found = [
        {name: str(image.get(name) or "") for name in ("filename", "subfolder", "type")}
        for output in outputs.values()
        for image in items(output, "images")
        if isinstance(image, dict) and isinstance(image.get("filename"), str)
    ]
    saved = tuple(image for image in found if image["type"] == "output")
    return saved or tuple(found)


def incidents_of(
    error: FailedNode, matcher: Matcher, workloads: Workloads, at: datetime, server: str = "job"
) -> list[Incident]:
    """What a failed job is by the rules: its words read as the log's, its node as the history tells it."""
    engine = Engine(matcher.rules, workloads, shows_records=False, ready=matcher)
    events = engine.feed(LogChunk(at, server, error.as_log(), "comfyui"))
    events += engine.feed(error.as_job(at, server))
    events += engine.end(at)
    found = {event.incident.id: event.incident for event in events if isinstance(event, IncidentChanged)}
    return [_with_node(incident, error) for incident in found.values()]


def _with_node(incident: Incident, error: FailedNode) -> Incident:
    node = replace(incident.node, id=error.node_id, type=error.node_type, inputs=error.inputs)
    return replace(incident, node=node)


def card_of(told: Told, gpu_memory: int | None = None) -> Card | None:
    """The card, as a person says or as the server does; None where neither knows."""
    total = gpu_memory or told.card_bytes
    return Card(total) if total else None


def _against(error: NoAnswerError) -> Text:
    """What the server has against a prompt."""
    if error.status == 413:
        return text("it is too large for it.")
    said = error.said if isinstance(error.said, dict) else {}
    told = said.get("error")
    if isinstance(told, dict):
        told = ". ".join(str(told.get(name)) for name in ("message", "details") if told.get(name))
    words = [str(told)[:_LONGEST]] if told else []
    if nodes := _node_errors(said.get("node_errors")):
        words.append(nodes)
    return plain("; ".join(words)) if words else text("HTTP {status}, without a reason.", status=error.status)


def _node_errors(value: Any) -> str:
    """The server's words on the nodes that it refuses, the first few."""
    if not isinstance(value, dict):
        return ""
    told: list[str] = []
    for id_, entry in value.items():
        name = f"{words_of(part({'e': entry}, 'e').get('class_type')) or '?'} #{str(id_)[:40]}"
        reasons = [
            ": ".join(str(error[key]) for key in ("details", "message") if error.get(key))
            for error in items(entry, "errors")
            if isinstance(error, dict)
        ]
        told.append(f"{name}: {', '.join(reasons[:_MOST_TOLD]) or '?'}"[:_LONGEST])
    more = len(told) - _MOST_TOLD
    return "; ".join(told[:_MOST_TOLD]) + (f"; +{more}" if more > 0 else "")
