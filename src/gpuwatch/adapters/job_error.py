"""A failed job as ComfyUI tells it, saved as JSON -> what it says as a log would, and the job's end.

Taken are `/history`, `/history/ID`, one of its items, `/api/jobs/ID`, the `execution_error` message itself, and a recorded answer
that holds one of them. It is another program's: bounded in size, depth and number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gpuwatch.adapters.comfyui.reading import plain_inputs
from gpuwatch.adapters.workflow_file import parsed, read_bounded
from gpuwatch.core.observations import JobEnded
from gpuwatch.errors import UsageError
from gpuwatch.texts import text

_DEEPEST = 12
_MOST = 1000
_LONGEST = 20_000
_MOST_FRAMES = 400


@dataclass(frozen=True, slots=True)
class JobError:
    """One node's failure."""

    node_id: str | None
    node_type: str | None
    exception_type: str | None
    message: str
    traceback: str
    inputs: Mapping[str, Any]
    job_id: str

    def as_log(self) -> bytes:
        """What ComfyUI wrote into its log about it."""
        first = self.message.partition("\n")[0]
        words = (
            f"!!! Exception during processing !!! {self.message.rstrip()}\n"
            f"Traceback (most recent call last):\n{self.traceback.rstrip()}\n{self.exception_type or 'Error'}: {first}\n\n"
        )
        return words.encode("utf-8", "replace")

    def as_job(self, at: datetime, server: str) -> JobEnded:
        """The job's end."""
        return JobEnded(
            at,
            server,
            self.job_id,
            "error",
            self.node_id,
            self.node_type,
            self.exception_type,
            self.message,
            self.inputs,
        )


def read_job_errors(path: str) -> list[JobError]:
    """The failures that a file tells, each once. Raises UsageError where it tells none."""
    content = read_bounded(path)
    try:
        words = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            text("{path}: is not UTF-8 text.", path=path),
            text("Save one with `curl http://127.0.0.1:8188/history/PROMPT_ID`."),
        ) from error
    found: dict[tuple[Any, ...], JobError] = {}
    for number, value in enumerate(_errors(_value(path, words), 0)):
        if number >= _MOST:
            break
        told = _read(value)
        found[told.job_id, told.node_id, told.message] = told
    if not found:
        raise UsageError(
            text("{path}: tells of no failed job.", path=path),
            text("Save one with `curl http://127.0.0.1:8188/history/PROMPT_ID`."),
        )
    return list(found.values())


def job_error_of(value: Any) -> JobError | None:
    """The first failure that a server's answer tells; None where it tells none."""
    found = next(_errors(value, 0), None)
    return _read(found) if found is not None else None


def _value(path: str, words: str) -> Any:
    try:
        return parsed(path, words)
    except UsageError as error:
        raise UsageError(
            text("{path}: is no failed job as JSON.", path=path),
            text("A log goes with --log; a failed job is what `curl http://127.0.0.1:8188/history/PROMPT_ID` gives."),
        ) from error


def _errors(value: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        if isinstance(value.get("exception_message"), str) and ("node_id" in value or "node_type" in value):
            yield value
            return
        for inner in value.values():
            if isinstance(inner, dict | list):
                yield from _errors(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict | list):
                yield from _errors(inner, depth + 1)


def _read(value: Mapping[str, Any]) -> JobError:
    def words(name: str) -> str | None:
        said = value.get(name)
        return str(said)[:500] if isinstance(said, str | int) and not isinstance(said, bool) else None

    frames = value.get("traceback")
    lines = [line for line in frames[:_MOST_FRAMES] if isinstance(line, str)] if isinstance(frames, list) else []
    return JobError(
        words("node_id"),
        words("node_type"),
        words("exception_type"),
        value["exception_message"][:_LONGEST],
        "".join(line if line.endswith("\n") else line + "\n" for line in lines)[: 10 * _LONGEST],
        plain_inputs(value.get("current_inputs")),
        words("prompt_id") or "",
    )
