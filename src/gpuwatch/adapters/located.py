"""YAML with places: every value knows its file and line, so that a mistake in a rule can be pointed at.

Safe by construction: plain data only, no tags, no aliases (and so no "billion laughs"), no duplicate keys, bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpuwatch.texts import Text, plain, text

_MOST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Problem(Exception):  # noqa: N818 - it is a finding that is collected; the error a person sees is made of several
    """One mistake: where, and what to do about it."""

    where: str
    message: Text

    def as_text(self) -> Text:
        """As a person reads it: `rules/cuda.yaml:6: ...`."""
        return text("{where}: {message}", where=self.where, message=self.message)


@dataclass(frozen=True, slots=True)
class Located:
    """A value and its place. Mappings hold `Located` by key, lists hold `Located`."""

    value: Any
    file: str
    line: int

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"

    def problem(self, message: Text) -> Problem:
        """A mistake at this place."""
        return Problem(self.where, message)

    def bare(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: item.bare() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.bare() for item in self.value]
        return self.value

    def mapping(self) -> dict[str, Located]:
        """The value as a mapping, or a problem."""
        if not isinstance(self.value, dict):
            raise self.problem(text("a mapping is wanted here, not {kind}.", kind=_kind(self.value)))
        return self.value

    def items(self) -> list[Located]:
        """The value as a list; a single value is a list of one."""
        return self.value if isinstance(self.value, list) else [self]

    def string(self) -> str:
        """The value as a string, or a problem."""
        if not isinstance(self.value, str):
            raise self.problem(text("a string is wanted here, not {kind}; put it in quotes.", kind=_kind(self.value)))
        return self.value

    def number(self) -> float:
        """The value as a number, or a problem."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.problem(text("a number is wanted here, not {kind}.", kind=_kind(self.value)))
        return self.value

    def whole(self, low: int, high: int) -> int:
        """The value as an integer within bounds, or a problem."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self.problem(text("a whole number from {low} to {high} is wanted here.", low=low, high=high))
        return self.value

    def flag(self) -> bool:
        """The value as true or false, or a problem."""
        if not isinstance(self.value, bool):
            raise self.problem(text("true or false is wanted here, not {kind}.", kind=_kind(self.value)))
        return self.value


def read_documents(path: Path, shown: str | None = None) -> Iterator[Located]:
    """The YAML documents of a file, each with its places. Raises `Problem` at the first that is no YAML."""
    shown = shown or str(path)
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise Problem(
                shown,
                text("the file has {size_bytes}; {most_bytes} is the most.", size_bytes=size, most_bytes=_MOST_BYTES),
            )
        source = path.read_text("utf-8")
    except OSError as error:
        raise Problem(shown, text("cannot be read: {reason}.", reason=error.strerror or str(error))) from error
    except UnicodeDecodeError as error:
        raise Problem(shown, text("is not UTF-8 text.")) from error
    loader = _Loader(source)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield _located(node, shown)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Problem(f"{shown}:{line}", text("is no YAML: {reason}.", reason=error.problem or "?")) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise Problem(shown, text("is no YAML: {reason}.", reason=str(error).partition("\n")[0])) from error
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """The safe loader, without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # untyped in the stubs
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed here", event.start_mark)
        return super().compose_node(parent, index)


def _located(node: Any, file: str) -> Located:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        pairs: dict[str, Located] = {}
        for key_node, value_node in node.value:
            key = _located(key_node, file)
            if not isinstance(key.value, str):
                raise key.problem(text("a key must be a string."))
            if key.value in pairs:
                raise key.problem(text("`{key}` stands here twice.", key=key.value))
            value = _located(value_node, file)
            pairs[key.value] = Located(
                value.value, file, key.line if not isinstance(value.value, dict | list) else value.line
            )
        return Located(pairs, file, line)
    if isinstance(node, yaml.SequenceNode):
        return Located([_located(item, file) for item in node.value], file, line)
    try:
        value = _SCALARS.construct_object(node)
    except yaml.YAMLError as error:
        raise Problem(
            f"{file}:{line}", text("is not plain data: {reason}.", reason=str(error).partition("\n")[0])
        ) from error
    except ValueError as error:
        raise Problem(f"{file}:{line}", plain(str(error))) from error
    return Located(value, file, line)


_SCALARS = yaml.constructor.SafeConstructor()


def _kind(value: Any) -> Text:
    names = {
        dict: text("a mapping"),
        list: text("a list"),
        str: text("a string"),
        bool: text("true or false"),
        int: text("a number"),
        float: text("a number"),
        type(None): text("nothing"),
    }
    return names.get(type(value), plain(type(value).__name__))
