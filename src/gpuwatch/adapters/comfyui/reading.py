"""What a server's answers mean. They are another program's: fields may be missing, unknown, or of another type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gpuwatch.core.learned.jobs import Ran
from gpuwatch.core.learned.reading import ran_of
from gpuwatch.core.observations import JobEnded, JobOutcome, JobProgress, ServerSeen
from gpuwatch.core.workflow.graph import NotWorkflow, read_workflow

_LONGEST_WORDS = 200
LONGEST_MESSAGE = 8000
_MOST_INPUTS = 32
_MOST_ARGUMENTS = 100
_MOST_FRAMES = 200
_BEYOND, _BEYOND_SEEDS = 1 << 63, 1 << 64
"""No number of a server's is so large, and no node's input; what is not below is none, or one that a float does not hold."""
_OUTCOMES: Mapping[str, JobOutcome] = {"completed": "success", "failed": "error", "cancelled": "interrupted"}
_ENDS: Mapping[str, JobOutcome] = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is over, as the server keeps it."""

    job_id: str
    ended_ms: int | None
    """Together with the id it names the run: after a restart an id may come again."""
    outcome: JobOutcome
    error: Mapping[str, Any]
    """The execution_error; empty where there is none."""
    duration_seconds: float | None = None
    waited_seconds: float | None = None
    """From being queued to being run, by the server's clock; servers before 0.24 do not keep it."""
    prompt: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Its workflow, where the answer held it: lists of /api/jobs do not."""

    def observation(
        self, at: datetime, server: str, *, fresh: bool, node_seconds: Mapping[str, float] | None = None
    ) -> JobEnded:
        """The job as the engine takes it. The time is ours: the server's clock may be another."""
        return JobEnded(
            at,
            server,
            self.job_id,
            self.outcome,
            node_id=words_of(self.error.get("node_id")),
            node_type=words_of(self.error.get("node_type")),
            exception_type=words_of(self.error.get("exception_type")),
            exception_message=words_of(self.error.get("exception_message"), LONGEST_MESSAGE),
            inputs=plain_inputs(self.error.get("current_inputs")),
            duration_seconds=self.duration_seconds,
            waited_seconds=self.waited_seconds,
            fresh=fresh,
            node_seconds=node_seconds or {},
            ran=self.ran,
        )

    @property
    def ran(self) -> Ran | None:
        """Which kind of job it was and how large, where its workflow tells."""
        try:
            return ran_of(read_workflow(self.prompt)) if self.prompt else None
        except NotWorkflow:
            return None


def server_seen(answer: Any, at: datetime, name: str) -> ServerSeen | None:
    """What /system_stats says; None where that is no ComfyUI's."""
    system, devices = part(answer, "system"), items(answer, "devices")
    if not system:
        return None
    device = next((each for each in devices if isinstance(each, dict)), {})
    argv = tuple(word for word in items(system, "argv") if isinstance(word, str))
    return ServerSeen(
        at,
        name,
        version=words_of(system.get("comfyui_version")),
        argv=argv[:_MOST_ARGUMENTS],
        device=words_of(device.get("name")),
        total_bytes=whole(device.get("vram_total")),
        free_bytes=whole(device.get("vram_free")),
        torch_idle_bytes=whole(device.get("torch_vram_free")),
    )


def remaining_of(answer: Any) -> int | None:
    """The jobs that wait and run, as /prompt and the `status` frames say."""
    return whole(part(answer, "exec_info").get("queue_remaining"))


def queue_of(answer: Any) -> tuple[int, list[str]] | None:
    """How many jobs wait, and the ids of those that run, as /queue says; None where it says neither."""
    if not isinstance(answer, dict) or not isinstance(answer.get("queue_pending"), list):
        return None
    running = [str(item[1]) for item in items(answer, "queue_running") if isinstance(item, list) and len(item) > 1]
    return len(answer["queue_pending"]), running


def running_of(answer: Any) -> list[str] | None:
    """The ids of the jobs that run, as /api/jobs says."""
    if not isinstance(answer, dict) or not isinstance(answer.get("jobs"), list):
        return None
    return [str(job["id"]) for job in answer["jobs"] if isinstance(job, dict) and "id" in job]


def ended_jobs(answer: Any) -> list[Ended]:
    """The jobs of /api/jobs that are over, in the order that they are listed in."""
    return [ended for job in items(answer, "jobs") if (ended := ended_job(job)) is not None]


def ended_job(job: Any) -> Ended | None:
    """One job of /api/jobs; None where it is not over, or no job."""
    if not isinstance(job, dict) or not isinstance(job.get("id"), str):
        return None
    outcome = _OUTCOMES.get(str(job.get("status")))
    if outcome is None:
        return None
    began, ended = whole(job.get("execution_start_time")), whole(job.get("execution_end_time"))
    error = part(job, "execution_error") if outcome == "error" else {}
    waited = _seconds(whole(job.get("create_time")), began)
    prompt = part(part(job, "workflow"), "prompt")
    return Ended(job["id"], ended, outcome, error, _seconds(began, ended), waited, prompt)


def ended_entries(answer: Any) -> list[Ended]:
    """The entries of /history that are over, the newest first."""
    if not isinstance(answer, dict):
        return []
    read = (ended_entry(id_, entry) for id_, entry in reversed(answer.items()))
    return [ended for ended in read if ended is not None]


def ended_entry(id_: str, entry: Any) -> Ended | None:
    """One entry of /history. An interrupted prompt has the status of an error too: only the messages tell."""
    said: dict[str, Mapping[str, Any]] = {}
    for message in items(part(entry, "status"), "messages"):
        if isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict):
            said[str(message[0])] = message[1]
    last = next((name for name in reversed(said) if name in _ENDS), None)
    if last is None:
        return None
    began = whole(said.get("execution_start", {}).get("timestamp"))
    ended = whole(said[last].get("timestamp"))
    outcome = _ENDS[last]
    prompt = items(entry, "prompt")
    extra = prompt[3] if len(prompt) > 3 and isinstance(prompt[3], dict) else {}
    waited = _seconds(whole(extra.get("create_time")), began)
    graph = prompt[2] if len(prompt) > 2 and isinstance(prompt[2], dict) else {}
    error = said[last] if outcome == "error" else {}
    return Ended(id_, ended, outcome, error, _seconds(began, ended), waited, graph)


def log_of(ended: Ended) -> bytes:
    """What the server's log said of a job, made from its history: for servers whose log cannot be had."""
    if ended.outcome != "error":
        return (
            b"Prompt executed in %.2f seconds\n" % (ended.duration_seconds or 0.0)
            if ended.outcome == "success"
            else b""
        )
    message = (words_of(ended.error.get("exception_message"), LONGEST_MESSAGE) or "").partition("\nThis error means")[0]
    kind = words_of(ended.error.get("exception_type")) or "Exception"
    frames = [frame for frame in items(ended.error, "traceback") if isinstance(frame, str)][:_MOST_FRAMES]
    told = "".join(
        [
            f"!!! Exception during processing !!! {message.rstrip()}\n",
            "Traceback (most recent call last):\n",
            *(f"{frame[:LONGEST_MESSAGE].rstrip()}\n" for frame in frames),
            f"{kind}: {message.rstrip()}\n\n",
            f"Prompt executed in {ended.duration_seconds or 0.0:.2f} seconds\n",
        ]
    )
    return told.encode("utf-8", "replace")


def progress_of(data: Any, at: datetime, server: str) -> JobProgress | None:
    """The node that runs and how far it is, as a `progress_state` or `progress` frame says."""
    if not isinstance(data, dict):
        return None
    job_id = words_of(data.get("prompt_id"))
    nodes = data.get("nodes")
    states = nodes.values() if isinstance(nodes, dict) else [data]
    for state in states:
        if not isinstance(state, dict) or state.get("state", "running") != "running":
            continue
        node = words_of(state.get("node_id") or state.get("node"))
        if job_id and node:
            return JobProgress(at, server, job_id, node, number(state.get("value")), number(state.get("max")))
    return None


def log_entries(answer: Any) -> Iterator[tuple[str, str]]:
    """Time and words of each entry of the log, as a `logs` frame and /internal/logs/raw hold them."""
    for entry in items(answer, "entries"):
        if isinstance(entry, dict) and isinstance(entry.get("m"), str):
            yield str(entry.get("t")), entry["m"]


def plain_inputs(inputs: Any) -> dict[str, Any]:
    """The failed node's inputs: numbers and short words; tensors and lists are left out."""
    plain: dict[str, Any] = {}
    for name, value in inputs.items() if isinstance(inputs, dict) else ():
        only = value[0] if isinstance(value, list) and len(value) == 1 else value
        if len(plain) < _MOST_INPUTS and isinstance(name, str) and _is_plain(only):
            plain[name[:_LONGEST_WORDS]] = only
    return plain


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_WORDS and not value.startswith(("tensor(", "<"))
    return isinstance(value, bool | int | float) and abs(value) < _BEYOND_SEEDS


def part(value: Any, name: str) -> Mapping[str, Any]:
    """The object under a name; an empty one where there is none."""
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def items(value: Any, name: str) -> list[Any]:
    """The list under a name; an empty one where there is none."""
    inner = value.get(name) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, list) else []


def words_of(value: Any, most: int = _LONGEST_WORDS) -> str | None:
    """The value as words, cut where it is long; None where there is none. Half a character, which JSON may hold, is none."""
    if value is None or isinstance(value, dict | list):
        return None
    words = str(value)[:most]
    return (words if words.isascii() else words.encode("utf-8", "replace").decode()) or None


def whole(value: Any) -> int | None:
    """The value as a whole number; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _BEYOND:
        return None
    return int(value)


def number(value: Any) -> float | None:
    """The value as a number; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _BEYOND:
        return None
    return float(value)


def _seconds(began_ms: int | None, ended_ms: int | None) -> float | None:
    return (
        (ended_ms - began_ms) / 1000 if began_ms is not None and ended_ms is not None and ended_ms >= began_ms else None
    )
