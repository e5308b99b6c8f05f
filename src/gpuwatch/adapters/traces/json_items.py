"""Large JSON, an item at a time: the arrays of a document come in batches of their elements, never as a whole.

An element is decoded by Python's own scanner as soon as it is complete in the window of text that is held, so memory is
bounded by the longest element. Two levels of arrays are opened; what is deeper belongs to its element.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuwatch.adapters.traces.opening import pieces_of
from gpuwatch.errors import UsageError
from gpuwatch.texts import text

LONGEST_CHARACTERS = 16 << 20
"""The longest element; a usual event has 300."""
_BATCH = 512
_DEEPEST_OPENED = 2
_WORD_CHARACTERS = 16
"""Longer than what is one thing: a word, a number's sign, an escape."""
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(strict=False).scan_once  # type: ignore[attr-defined] # not in typeshed
_SPACE = re.compile(r"[ \t\n\r]*")
_COMMA = re.compile(r"[ \t\n\r]*,[ \t\n\r]*").match
_BETWEEN = re.compile(r"[ \t\n\r]*([,\]}])[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Items:
    """Some elements of an array, or the one value of a key that is no array."""

    key: str
    """The key in the document's object; empty where the document is an array."""
    outer: int
    """The array's place where it is an element of the key's array; -1 otherwise."""
    values: list[Any]


class _IncompleteError(Exception):
    """The document ends before it is complete."""


def items_of(path: Path) -> Iterator[Items]:
    """The document's arrays in batches, its other values whole.

    A UsageError comes where the document is cut off or is no JSON; what stands before was given by then.
    """
    window = _Window(path)
    try:
        sign = window.sign()
        if sign == "[":
            yield from _elements(window, "", -1, 1)
        elif sign == "{":
            window.at += 1
            yield from _members(window)
        else:
            raise window.no_json()
    except _IncompleteError as error:
        raise UsageError(
            text("{path}: ends early: its JSON is cut off.", path=str(path)),
            text("What came before was read. The program that wrote it was ended, or is not done."),
        ) from error
    except RecursionError as error:
        raise UsageError(
            text("{path}: values are nested too deep near character {place}.", path=str(path), place=window.place)
        ) from error


def _members(window: _Window) -> Iterator[Items]:
    if window.sign() == "}":
        return
    while True:
        key = window.value()
        if type(key) is not str or window.sign() != ":":
            raise window.no_json()
        window.at += 1
        if window.sign() == "[":
            yield from _elements(window, key, -1, 1)
        else:
            yield Items(key, -1, [window.value()])
        if window.between("}"):
            return


def _elements(window: _Window, key: str, outer: int, depth: int) -> Iterator[Items]:
    window.at += 1
    values: list[Any] = []
    inner = 0
    if window.sign() == "]":
        window.at += 1
        yield Items(key, outer, values)
        return
    try:
        while True:
            window.objects(values)
            if depth < _DEEPEST_OPENED and window.sign() == "[":
                yield from _elements(window, key, inner, depth + 1)
                inner += 1
            else:
                values.append(window.value())
            if window.between("]"):
                break
            if len(values) >= _BATCH:
                yield Items(key, outer, values)
                values = []
    except (_IncompleteError, UsageError, RecursionError):
        yield Items(key, outer, values)
        raise
    if values:
        yield Items(key, outer, values)


class _Window:
    """The text around the place that is being read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pieces = pieces_of(path)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._gone = 0
        self._ended = False
        self.text = ""
        self.at = 0

    @property
    def place(self) -> int:
        """Characters before the place that is being read."""
        return self._gone + self.at

    def no_json(self) -> UsageError:
        """What is there cannot be read."""
        return UsageError(
            text("{path}: is no valid JSON near character {place}.", path=str(self._path), place=self.place),
            text("What came before was read. The file is damaged, or two programs wrote to it."),
        )

    def more(self) -> bool:
        """Read on; False at the end."""
        if self._ended:
            return False
        if len(self.text) - self.at > LONGEST_CHARACTERS:
            raise UsageError(
                text(
                    "{path}: one value is longer than {length} characters, near character {place}.",
                    path=str(self._path),
                    length=LONGEST_CHARACTERS,
                    place=self.place,
                ),
                text("What came before was read. A trace's events are a few hundred characters long."),
            )
        piece = next(self._pieces, None)
        self._gone += self.at
        self._ended = piece is None
        self.text = self.text[self.at :] + self._decoder.decode(piece or b"", self._ended)
        self.at = 0
        return True

    def sign(self) -> str:
        """The next character that is no space, without taking it."""
        while True:
            found = _SPACE.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                raise _IncompleteError

    def value(self) -> Any:
        """Take the next value."""
        self.sign()
        while True:
            try:
                value, end = _scan(self.text, self.at)
            except (StopIteration, ValueError) as error:
                if self._wrong(error):
                    raise self.no_json() from error
                if self.more():
                    continue
                raise _IncompleteError from error
            if type(value) in (int, float) and end > len(self.text) - _WORD_CHARACTERS and not self._ended:
                # "1", where ".5e3" may follow in the next piece
                self.more()
                continue
            self.at = end
            return value

    def objects(self, values: list[Any]) -> None:
        """Take as many objects as stand whole in the window, each with the comma after it, up to a batch: the usual case, fast."""
        text, at = self.text, self.at
        for _ in range(_BATCH - len(values)):
            if not text.startswith("{", at):
                break
            try:
                value, end = _scan(text, at)
            except (StopIteration, ValueError):
                break  # cut off or wrong: `value` tells which
            found = _COMMA(text, end)
            if found is None or found.end() == len(text):
                break
            values.append(value)
            at = found.end()
        self.at = at

    def _wrong(self, error: Exception) -> bool:
        """Whether more text cannot mend it: it is wrong well before the end of what is there."""
        if isinstance(error, json.JSONDecodeError):
            return not error.msg.startswith("Unterminated") and error.pos < len(self.text) - _WORD_CHARACTERS
        if isinstance(error, StopIteration):
            return int(error.value) < len(self.text) - _WORD_CHARACTERS
        return True  # a number of thousands of digits

    def between(self, closing: str) -> bool:
        """Take the comma or the closing bracket after a value; True where it is the bracket."""
        while True:
            found = _BETWEEN.match(self.text, self.at)
            if found and (found.end() < len(self.text) or self._ended):
                if found[1] not in (",", closing):
                    raise self.no_json()
                self.at = found.end()
                return found[1] == closing
            if found is None and self.sign() not in ",]}":
                raise self.no_json()
            if not self.more() and found is None:
                raise _IncompleteError
