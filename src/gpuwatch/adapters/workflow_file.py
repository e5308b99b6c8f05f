"""Workflow files: read them as they are, also out of a picture that ComfyUI saved; write them whole or not at all, and back.

The text is kept as it was read, so that what is written differs only where a value was changed.
"""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gpuwatch.adapters.whole_file import beside, mode_of, write_whole
from gpuwatch.adapters.workflow_image import image_kind, workflow_of_image
from gpuwatch.core.workflow.graph import NotWorkflow, Workflow, read_workflow
from gpuwatch.errors import UsageError, unreadable, unwritable
from gpuwatch.texts import Text, plain, text

MOST_BYTES = 64 << 20
_BACKUP, _UNDONE = ".bak", ".undone"
_MOST_BACKUPS = 1000
_CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class WorkflowFile:
    """A workflow and the text that it was read from."""

    path: str
    text: str
    workflow: Workflow
    from_image: bool = False


def read_workflow_file(path: str) -> WorkflowFile:
    """Read a workflow file. Raises UsageError that says what it is instead."""
    content = read_bounded(path)
    kind = image_kind(content)
    if kind is not None:
        words = workflow_of_image(content, kind)
        if words is None:
            raise UsageError(
                text("{path}: this {kind} picture holds no workflow.", path=path, kind=kind),
                text("Pictures lose it when they are edited, or sent through a messenger or a web page."),
            )
    else:
        words = _decoded(path, content)
    value = parsed(path, words)
    try:
        return WorkflowFile(path, words, read_workflow(value), kind is not None)
    except NotWorkflow as no:
        raise UsageError(
            text("{path} is no ComfyUI workflow; it looks like {what}.", path=path, what=no.why),
            _what_is_one(),
        ) from no


def read_bounded(path: str) -> bytes:
    """The bytes of a file or a pipe, at most MOST_BYTES. Raises UsageError."""
    try:
        with Path(path).open("rb") as file:
            if stat.S_ISDIR(os.fstat(file.fileno()).st_mode):
                raise IsADirectoryError(21, os.strerror(21))
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if len(content) > MOST_BYTES:
        raise UsageError(text("{path} is larger than {most_bytes}.", path=path, most_bytes=MOST_BYTES))
    return content


def _what_is_one() -> Text:
    return text("A workflow is what ComfyUI saves with Save, or with Export (API).")


def _decoded(path: str, content: bytes) -> str:
    if not content.strip():
        raise UsageError(
            text("{path} is empty.", path=path),
            _what_is_one(),
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            text("{path} is no ComfyUI workflow; it is not UTF-8 text.", path=path),
            text("Save it as UTF-8; a picture must be a PNG or WebP that ComfyUI saved."),
        ) from error


def parsed(path: str, words: str) -> Any:
    """The JSON value of a text. Raises UsageError with the line; also for a key that an object has twice."""
    twice: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs) and not twice:
            seen: set[str] = set()
            twice.append(next(key for key, _value in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]  # None goes on
        return value

    try:
        value = json.loads(words.removeprefix("\ufeff"), object_pairs_hook=members, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise UsageError(
            text(
                "{path}:{line}: is no ComfyUI workflow; it is no JSON: {reason}.",
                path=path,
                line=error.lineno,
                reason=error.msg,
            ),
            _hint(words),
        ) from error
    except RecursionError as error:
        raise UsageError(
            text("{path}: is nested too deep to be a workflow.", path=path),
            _what_is_one(),
        ) from error
    except ValueError as error:
        raise UsageError(
            text("{path}: is no JSON: {reason}.", path=path, reason=str(error)),
            _what_is_one(),
        ) from error
    if twice:
        raise UsageError(
            text("{path}: an object has {key} twice; which one counts is not certain.", path=path, key=twice[0]),
            text("Two nodes with one id cannot both be kept; give one of them another id."),
        )
    return value


def _constant(name: str) -> float:
    """NaN and Infinity, which Python's own writers put into workflows; each is one object, so that it equals itself."""
    return _CONSTANTS[name]


def _hint(words: str) -> Text:
    begin = words.lstrip()[:200]
    if begin.startswith("<"):
        return text("It begins like a web page.")
    if "Traceback (most recent call last)" in words[:100_000] or "got prompt" in words[:100_000]:
        return text("It reads like a log: give it with --log, and the workflow first.")
    if "Negative prompt:" in words[:100_000]:
        return text("It reads like the parameters of another program; ComfyUI's are JSON.")
    return _what_is_one()


# -- writing ---------------------------------------------------------------------------------------------------------------


def write_workflow(path: str, words: str) -> None:
    """Put the text in the file's place, whole or not at all. Raises UsageError."""
    write_whole(Path(path), words.encode())


def write_in_place(path: str, words: str, now: datetime) -> Path:
    """The same, with what was there kept beside it; where it is kept."""
    place = Path(os.path.realpath(path))
    kept = _keep(place, _BACKUP, now)
    write_whole(place, words.encode())
    return kept


def undo(path: str, now: datetime) -> tuple[Path, Path]:
    """Put the newest backup back. Gives the backup that was, and where the file as it was before is kept.

    Raises UsageError where there is none.
    """
    place = Path(os.path.realpath(path))
    found = sorted(_kept(place, _BACKUP))
    if not found:
        raise UsageError(
            text("{path}: there is no backup beside it.", path=path),
            text("`gpuwatch fix --in-place` keeps one as {name}.", name=f"{place.name}.TIME{_BACKUP}"),
        )
    newest = found[-1]
    undone = _keep(place, _UNDONE, now) if place.exists() else place
    try:
        newest.replace(place)
    except OSError as error:
        raise unwritable(path, error) from error
    return newest, undone


def _kept(place: Path, ending: str) -> list[Path]:
    try:
        found = list(place.parent.iterdir())
    except OSError:
        return []
    return [path for path in found if path.name.startswith(place.name + ".") and path.name.endswith(ending)]


def _keep(place: Path, ending: str, now: datetime) -> Path:
    """A copy of the file under a name that nothing has yet."""
    stamp = now.strftime("%Y%m%dT%H%M%S.%f")
    try:
        with beside(place, place.read_bytes()) as temporary:  # what --undo finds is whole, also after a full disk
            temporary.chmod(mode_of(place))
            for number in range(_MOST_BACKUPS):
                copy = place.with_name(f"{place.name}.{stamp}-{number:03d}{ending}")
                if not copy.exists():
                    temporary.replace(copy)
                    return copy
    except OSError as error:
        raise UsageError(
            text("{path} cannot be backed up: {reason}.", path=str(place), reason=error.strerror or str(error))
        ) from error
    raise UsageError(text("{path} has too many backups.", path=str(place)), plain(str(place.parent)))
