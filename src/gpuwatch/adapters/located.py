"""YAML with places: every value knows its file and line, so that a mistake in a rule can be pointed at.

Safe by construction: plain data only, no tags, no aliases (and so no "billion laughs"), no duplicate keys, bounded size and
depth. What is wanted at a place is asked of the value there, so that the answer "not that" carries the place.
"""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, plain, text

_MOST_BYTES = 1 << 20
"""The largest shipped file has 42 KiB; a file of this size takes seconds to read."""
_DEEPEST = 16
_DISPUTED = ("\t", "\ufeff")
"""What the two parsers do not always take alike."""


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
    source = _read(path, shown)
    if any(mark in source for mark in _DISPUTED):
        yield from read_slowly(source, shown)
        return
    try:
        documents = list(_documents(_FastLoader(source, shown), shown))
    except (Problem, yaml.YAMLError, ValueError, OverflowError):
        yield from read_slowly(source, shown)  # what it says of a mistake does not depend on the machine
    else:
        yield from documents


def read_slowly(source: str, shown: str) -> Iterator[Located]:
    """The same of a source, by the parser in Python, whose words on a mistake are better known."""
    try:
        loader = _Loader(source, shown)
    except yaml.reader.ReaderError as error:
        line = source.count("\n", 0, error.position) + 1
        raise Problem(
            f"{shown}:{line}",
            text("holds a character that YAML does not allow: {code}.", code=f"U+{error.character:04X}"),
        ) from error
    try:
        yield from _documents(loader, shown)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Problem(f"{shown}:{line}", _unreadable(error.problem or "?")) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise Problem(f"{shown}:{loader.line + 1}", _unreadable(str(error).partition("\n")[0])) from error


def _documents(loader: Any, shown: str) -> Iterator[Located]:
    try:
        while loader.check_node():
            node = loader.get_node()
            if not _is_empty(node):
                yield _located(node, shown, loader)
    finally:
        loader.dispose()


def _read(path: Path, shown: str) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Problem(shown, text("is no ordinary file; put the text itself there."))
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise Problem(shown, text("cannot be read: {reason}.", reason=error.strerror or str(error))) from error
    if len(content) > _MOST_BYTES:
        raise Problem(
            shown, text("the file is larger than {most_bytes}; split it into several.", most_bytes=_MOST_BYTES)
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Problem(f"{shown}:{line}", text("is not UTF-8 text; save the file as UTF-8.")) from error


def _unreadable(reason: str) -> Text:
    if r"'\t'" in reason:
        return text("a tab stands here; YAML is indented with spaces.")
    return text("is no YAML: {reason}.", reason=reason)


class _Plain(yaml.composer.Composer):
    """Composes nodes of a parser's events: no aliases and tags, and not deeper than a rule can be."""

    _shown: str
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[attr-defined]  # the parser's
        where = f"{self._shown}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.events.AliasEvent):
            raise Problem(where, text("aliases are not allowed here; write the value out."))
        if event.tag is not None:
            raise Problem(where, text("tags such as {tag} are not allowed here; write plain data.", tag=event.tag))
        if self._depth >= _DEEPEST:
            raise Problem(where, text("this is nested deeper than a rule can be."))
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Loader(_Plain, yaml.SafeLoader):
    """The safe loader in Python: slow, and it says best what is wrong."""

    def __init__(self, source: str, shown: str) -> None:
        yaml.SafeLoader.__init__(self, source)
        self._shown = shown


_Fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Over libyaml, eight times as fast, where PyYAML was built with it."""


class _FastLoader(_Plain, _Fast):  # type: ignore[misc]  # one or the other
    def __init__(self, source: str, shown: str) -> None:
        _Fast.__init__(self, source)
        yaml.composer.Composer.__init__(self)
        self._shown = shown


def _is_empty(node: Any) -> bool:
    """Whether nothing stands between two `---`."""
    return isinstance(node, yaml.ScalarNode) and not node.style and not node.value


def _located(node: Any, file: str, loader: Any) -> Located:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        pairs: dict[str, Located] = {}
        for key_node, value_node in node.value:
            key = _located(key_node, file, loader)
            if not isinstance(key.value, str):
                raise key.problem(text("a key must be a string."))
            if key.value in pairs:
                raise key.problem(text("`{key}` stands here twice; keep one of them.", key=key.value))
            value = _located(value_node, file, loader)
            pairs[key.value] = Located(
                value.value, file, key.line if not isinstance(value.value, dict | list) else value.line
            )
        return Located(pairs, file, line)
    if isinstance(node, yaml.SequenceNode):
        return Located([_located(item, file, loader) for item in node.value], file, line)
    try:
        value = loader.construct_object(node)
        if isinstance(value, str):
            value.encode()
    except yaml.YAMLError as error:
        reason = str(error).partition("\n")[0]
        raise Problem(f"{file}:{line}", text("is not plain data: {reason}.", reason=reason)) from error
    except (ValueError, OverflowError) as error:
        raise Problem(f"{file}:{line}", text("is not plain data: {reason}.", reason=str(error))) from error
    return Located(value, file, line)


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
    return names.get(type(value), text("a date") if isinstance(value, date) else plain(type(value).__name__))


# -- what is wanted at a place ---------------------------------------------------------------------------------------------


def check_keys(
    place: Located, entry: dict[str, Located], *, required: Iterable[str], optional: Iterable[str] = ()
) -> None:
    """Raise where a key is not known or missing; not known first, because a misspelt key is both."""
    required, known = tuple(required), {*required, *optional}
    for name, value in entry.items():
        if name not in known:
            raise value.problem(unknown(name, sorted(known)))
    for name in required:
        if name not in entry:
            raise place.problem(text("`{name}` is missing.", name=name))


def unknown(name: str, known: Iterable[str]) -> Text:
    """ "Not known", with the nearest known name, else all of them."""
    known = tuple(known)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return text("`{name}` is not known; is `{near}` meant?", name=name, near=near[0])
    return text("`{name}` is not known; use one of {known}.", name=name, known=", ".join(known))


def one_of(item: Located, known: tuple[str, ...]) -> str:
    """A string out of a closed set."""
    value = item.string()
    if value not in known:
        raise item.problem(unknown(value, known))
    return value


def items(entry: dict[str, Located], name: str) -> list[Located]:
    """The list under a key; empty where the key is absent."""
    return entry[name].items() if name in entry else []


def flag(entry: dict[str, Located], name: str) -> bool:
    """The flag under a key; false where the key is absent."""
    return entry[name].flag() if name in entry else False


def bilingual(item: Located) -> Text:
    """A text in both languages."""
    entry = item.mapping()
    check_keys(item, entry, required=("en", "zh"))
    english, chinese = (" ".join(entry[key].string().split()) for key in ("en", "zh"))
    if not english or not chinese:
        raise item.problem(text("a text must not be empty."))
    return Text(english, zh=chinese)


# -- what a person is told -------------------------------------------------------------------------------------------------


def raise_problems(problems: Iterable[Problem], hint: Text | None = None) -> None:
    """Raise one UsageError that lists the mistakes, where there are any."""
    listed = "\n".join(str(problem.as_text()) for problem in problems)
    if listed:
        raise UsageError(
            plain(listed), hint or text("`gpuwatch rules new my-rule` prints a rule that works, to compare with.")
        )


def shown_path(path: Path) -> str:
    """A path as a person would type it: relative to where they stand, if it is below."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
