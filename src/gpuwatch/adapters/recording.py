"""Recordings: observations with their times, one JSON object a line.

`at` is not kept: an observation has it again when it is played. Bytes stand as text where they are UTF-8, so that a person
can read and write a recording, and as base64 where they are not. What is not known to this version is refused, not skipped.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import types
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Literal, NoReturn, Union, cast, get_args, get_origin, get_type_hints

from gpuwatch.core.observations import Observation
from gpuwatch.errors import UsageError, unreadable, unwritable
from gpuwatch.texts import Text, plain, render, text

VERSION = 1

_LONGEST_SECONDS = 10 * 365 * 86400
_LONGEST_LINE_BYTES = 32 << 20
_MOST_BYTES = 1 << 30
_BEYOND = 1 << 64
"""No count of ours is so large; a float does not hold the largest that JSON may have."""
_HEADER = "gpuwatch_recording"
_BASE64 = "_base64"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OBSERVATIONS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in get_args(Observation)}
_HINTS: Mapping[str, Mapping[str, Any]] = {
    kind_name: {name: hint for name, hint in get_type_hints(kind).items() if name != "at"}
    for kind_name, kind in _OBSERVATIONS.items()
}

Entry = tuple[float, Observation]
"""How many seconds after the recording began, and what was observed."""


def write_recording(
    path: str | Path, entries: Iterable[Entry], *, made_from: str = "gpuwatch", stands_for: Path | None = None
) -> None:
    """Write a recording, to the disk; packed where the name ends in .gz. `made_from` says where it comes from, for a reader.

    Raises UsageError where it cannot be written. `stands_for` is the name that it will have, where it is written beside that.
    """
    named = stands_for or Path(path)
    try:
        with Path(path).open("wb") as below:
            with _packed_where_asked(named, below) as file:
                file.write(_line({_HEADER: VERSION, "made_from": made_from}))
                for after_seconds, observation in entries:
                    file.write(_line(_written(after_seconds, observation)))
            below.flush()
            os.fsync(below.fileno())
    except OSError as error:
        raise unwritable(named, error, text("Name another file.")) from error


def read_recording(path: str | Path) -> Iterator[Entry]:
    """Read a recording; times count from 1970. A UsageError names the file and the line that cannot be used."""
    number = 0
    try:
        with _reader(Path(path)) as file:
            latest_seconds = 0.0
            for number, line in enumerate(_lines(file, Path(path)), start=1):
                place = f"{path}:{number}"
                if number == 1:
                    _check_header(line, place)
                elif line.strip():
                    entry = _read(_object(line, place), place)
                    if entry[0] < latest_seconds:
                        raise UsageError(text("{place}: after_seconds goes back in time.", place=place))
                    latest_seconds = entry[0]
                    yield entry
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error
    if not number:
        raise UsageError(text("{path}: is empty, not a recording.", path=str(path)))


# -- writing ---------------------------------------------------------------------------------------------------------------


def _packed_where_asked(path: Path, below: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    if path.suffix != ".gz":
        return nullcontext(below)
    # Neither name nor time inside: the same recording gives the same file.
    return cast(AbstractContextManager[IO[bytes]], gzip.GzipFile(filename="", mode="wb", fileobj=below, mtime=0))


def _line(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a name with bytes that are no text
        return json.dumps(value).encode() + b"\n"


def _written(after_seconds: float, observation: Observation) -> dict[str, Any]:
    line: dict[str, Any] = {"after_seconds": after_seconds, "observation": type(observation).__name__}
    for field in fields(observation):
        value = getattr(observation, field.name)
        if field.name == "at" or (field.default is not MISSING and value == field.default):
            continue
        if isinstance(value, bytes):
            try:
                line[field.name] = value.decode()
            except UnicodeDecodeError:
                line[field.name + _BASE64] = base64.b64encode(value).decode()
        else:
            line[field.name] = to_json(value)
    return line


def to_json(value: Any) -> Any:
    """A value of ours as JSON has it."""
    if isinstance(value, Text):
        values = {name: render(inner) if isinstance(inner, Text) else inner for name, inner in value.values.items()}
        return to_json({"template": value.template, "values": values} | ({"zh": value.zh} if value.zh else {}))
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


# -- reading ---------------------------------------------------------------------------------------------------------------


def _reader(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The lines, in bounded memory: what is packed may unpack to anything."""
    left_bytes = _MOST_BYTES
    while line := file.readline(min(_LONGEST_LINE_BYTES, left_bytes) + 1):
        left_bytes -= len(line)
        if left_bytes < 0:
            raise UsageError(
                text("{path}: is longer than {most_bytes}.", path=str(path), most_bytes=_MOST_BYTES),
                text("Play a part of it: the first line is its head, each other one stands for itself."),
            )
        if len(line) > _LONGEST_LINE_BYTES:
            raise UsageError(
                text("{path}: has a line longer than {most_bytes}.", path=str(path), most_bytes=_LONGEST_LINE_BYTES)
            )
        yield line


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = text("it is nested too deep") if isinstance(error, RecursionError) else plain(str(error))
        raise UsageError(text("{place}: is not JSON: {error}", place=place, error=reason)) from error
    if not isinstance(value, dict):
        raise UsageError(text("{place}: is not a JSON object.", place=place))
    return value


def _check_header(line: bytes, place: str) -> None:
    try:
        version = _object(line, place).get(_HEADER)
    except UsageError as error:
        hint = text("A recording is what `gpuwatch record` writes; a log is read by `gpuwatch diagnose`.")
        raise UsageError(error.message, hint) from error
    if version is None:
        raise UsageError(
            text("{place}: is not the head of a recording.", place=place),
            text('The first line of a recording is {"gpuwatch_recording": 1, "made_from": "..."}.'),
        )
    if version != VERSION:
        raise UsageError(
            text(
                "{place}: is a recording of version {version}; this gpuwatch reads {known}.",
                place=place,
                version=version,
                known=VERSION,
            )
        )


def _read(line: dict[str, Any], place: str) -> Entry:
    after_seconds = line.pop("after_seconds", None)
    if (
        isinstance(after_seconds, bool)
        or not isinstance(after_seconds, int | float)
        or not 0 <= after_seconds <= _LONGEST_SECONDS
    ):
        raise UsageError(text("{place}: after_seconds is not a number of seconds from 0 on.", place=place))
    name = line.pop("observation", None)
    kind = _OBSERVATIONS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise UsageError(
            text("{place}: the observation {name} is not known.", place=place, name=str(name)),
            text("Known are: {known}", known=", ".join(sorted(_OBSERVATIONS))),
        )
    at = _EPOCH + timedelta(seconds=after_seconds)
    return float(after_seconds), cast(Observation, kind(at=at, **_fields(kind, line, place)))


def _fields(kind: type[Any], line: Mapping[str, Any], place: str) -> dict[str, Any]:
    hints = _HINTS[kind.__name__]
    values: dict[str, Any] = {}
    for key, value in line.items():
        name = key.removesuffix(_BASE64) if key not in hints else key
        if name not in hints or (name != key and hints[name] is not bytes) or name in values:
            raise UsageError(
                text("{place}: {observation} has no field {field}.", place=place, observation=kind.__name__, field=key),
                text("Known are: {known}", known=", ".join(hints)),
            )
        try:
            values[name] = base64.b64decode(value, validate=True) if name != key else from_json(hints[name], value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UsageError(
                text("{place}: {field} cannot be {value}.", place=place, field=key, value=json.dumps(value)[:80])
            ) from error
    for field in fields(kind):
        if (
            field.name in hints
            and field.name not in values
            and field.default is MISSING
            and field.default_factory is MISSING
        ):
            raise UsageError(
                text(
                    "{place}: {observation} needs the field {field}.",
                    place=place,
                    observation=kind.__name__,
                    field=field.name,
                )
            )
    return values


def from_json(hint: Any, value: Any) -> Any:
    """The JSON value as the field's type has it; a TypeError where it is none of that type."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        if value is None and type(None) in inner:
            return None
        return from_json(next(kind for kind in inner if kind is not type(None)), value)
    if origin is Literal:
        return value if value in inner else _refuse()
    if origin is tuple:
        return tuple(from_json(inner[0], each) for each in value) if isinstance(value, list) else _refuse()
    if origin is Mapping:
        return value if isinstance(value, dict) else _refuse()
    if hint is datetime:
        return datetime.fromisoformat(value) if isinstance(value, str) else _refuse()
    if hint is bytes:
        return value.encode() if isinstance(value, str) else _refuse()
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Text or is_dataclass(hint):
        return _dataclass(hint, value)
    if hint is int and type(value) is int:
        return value if abs(value) < _BEYOND else _refuse()
    return value if type(value) is hint else _refuse()


def _dataclass(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        _refuse()
    hints = get_type_hints(kind)
    return kind(**{name: from_json(hints[name] if name in hints else _refuse(), each) for name, each in value.items()})


def _refuse() -> NoReturn:
    raise TypeError
