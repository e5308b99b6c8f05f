"""Places in a JSON text: a value is replaced where it stands, so that everything else stays as it was written, byte for byte.

A workflow is kept under version control, shared and compared. Writing it anew would change its indentation, its numbers
(1.0 and 1) and its non-ASCII characters, though nobody asked for that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]  # there, but not in the type stubs
from typing import Any

Path = tuple[str | int, ...]
"""Keys and indexes from the root of a JSON value."""

_SPACE = re.compile(r"[ \t\n\r]*")
_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # likewise
_EXACT = 2**53
"""Up to here a float holds every whole number."""
_FLOAT = re.compile(r"-?\d+\.\d*$|-?\d+(?:\.\d+)?[eE]")


@dataclass(frozen=True, slots=True)
class Edit:
    """One value put in the place of another, or members added to an object."""

    place: Path
    value: Any = None
    added: Mapping[str, Any] = field(default_factory=dict)
    """Members that the object at the place gets; then `value` means nothing."""


def at(value: Any, place: Path) -> Any:
    """The value at a place. Raises LookupError or TypeError where there is none."""
    for step in place:
        value = value[step]
    return value


def edited(value: Any, edits: Iterable[Edit]) -> Any:
    """The value with the edits in it; what they do not touch is shared with the original, which stays as it was."""
    for edit in edits:
        value = _edited(value, edit, 0)
    return value


def _edited(value: Any, edit: Edit, depth: int) -> Any:
    if depth == len(edit.place):
        return {**value, **edit.added} if edit.added else edit.value
    step = edit.place[depth]
    if isinstance(value, dict):
        if step not in value:
            raise KeyError(step)
        return {**value, step: _edited(value[step], edit, depth + 1)}
    copy = list(value)
    copy[step] = _edited(value[step], edit, depth + 1)  # type: ignore[index]  # a list's steps are numbers
    return copy


def edited_text(text: str, edits: Iterable[Edit]) -> str:
    """The JSON text with the edits in it, and not one other character changed. The places must be there."""
    pieces: list[tuple[int, int, str]] = []
    for edit in edits:
        start, end = span_of(text, edit.place)
        if edit.added:
            pieces.append(_members(text, start, end, edit.added))
        else:
            pieces.append((start, end, _written(text, start, end, edit.value)))
    for start, end, words in sorted(pieces, reverse=True):
        text = text[:start] + words + text[end:]
    return text


def span_of(text: str, place: Path) -> tuple[int, int]:
    """Where in the text the value at a place begins and ends. Of a key that stands twice the last counts, as for Python."""
    here = _space(text, 1 if text.startswith("\ufeff") else 0)
    for step in place:
        here = _member(text, here, step) if isinstance(step, str) else _item(text, here, step)
    return here, _scan(text, here)[1]


def _member(text: str, here: int, wanted: str) -> int:
    if text[here] != "{":
        raise KeyError(wanted)
    found = None
    here = _space(text, here + 1)
    while text[here] != "}":
        key, here = scanstring(text, here + 1)
        here = _space(text, _space(text, here) + 1)
        if key == wanted:
            found = here
        here = _space(text, _scan(text, here)[1])
        if text[here] == ",":
            here = _space(text, here + 1)
    if found is None:
        raise KeyError(wanted)
    return found


def _item(text: str, here: int, wanted: int) -> int:
    if text[here] != "[":
        raise IndexError(wanted)
    here = _space(text, here + 1)
    for _number in range(wanted):
        here = _space(text, _scan(text, here)[1])
        if text[here] != ",":
            raise IndexError(wanted)
        here = _space(text, here + 1)
    return here


def _space(text: str, here: int) -> int:
    return _SPACE.match(text, here).end()  # type: ignore[union-attr]  # it always matches


def _written(text: str, start: int, end: int, value: Any) -> str:
    """The value as this text would write it."""
    before = text[start:end]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _EXACT and _FLOAT.match(before):
        return repr(float(value))
    if isinstance(value, list | dict):
        begin = text.rfind("\n", 0, start) + 1
        indent = text[begin : _SPACE.match(text, begin).end()]  # type: ignore[union-attr]  # it always matches
        return _nested(text, value, indent)
    return _dumped(text, value)


def _dumped(text: str, value: Any, **style: Any) -> str:
    return json.dumps(value, ensure_ascii=text.isascii(), **style)


def _nested(text: str, value: Any, indent: str) -> str:
    if "\n" not in text.strip():
        return _dumped(text, value, separators=(",", ":") if '":' in text and '": ' not in text else None)
    unit = re.search(r"\n([ \t]+)", text)
    newline = "\r\n" if "\r\n" in text else "\n"
    return _dumped(text, value, indent=unit[1] if unit else 2).replace("\n", newline + indent)


def _members(text: str, start: int, end: int, added: Mapping[str, Any]) -> tuple[int, int, str]:
    """What to put into an object's text for more members, in the style of those that it has."""
    inner = _space(text, start + 1)
    between = text[start + 1 : inner]
    if text[inner] == "}":
        return (
            inner,
            inner,
            ", ".join(f"{_dumped(text, name)}: {_dumped(text, value)}" for name, value in added.items()),
        )
    _key, here = scanstring(text, inner + 1)
    colon = text[here : _space(text, _space(text, here) + 1)]
    last = end - 1
    while text[last - 1] in " \t\n\r":
        last -= 1
    here = _space(text, _scan(text, _space(text, _space(text, here) + 1))[1])
    if text[here] == ",":
        between = text[here + 1 : _space(text, here + 1)]
    elif "\n" not in between and colon.endswith(" "):
        between = " "
    indent = between.rpartition("\n")[2] if "\n" in between else ""
    return last, last, "".join(
        f",{between}{_dumped(text, name)}{colon}"
        + (_nested(text, value, indent) if isinstance(value, list | dict) else _dumped(text, value))
        for name, value in added.items()
    )  # fmt: skip
