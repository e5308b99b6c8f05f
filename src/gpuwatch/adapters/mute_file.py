"""mutes.yaml: what a person does not want to hear of. Read with places; added to and taken from without touching the rest.

    - rule: cuda-oom-native        # or `label: cuda_oom`, or `pattern: 'a line like this'`
      until: 2026-02-01            # optional, as are the next two
      source: comfyui.log
      note: known; a new card is on its way

An entry is added at the end or cut out by its lines, and what comes out is read again before it takes the file's place, so
that comments stay and nothing else changes.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import cast

import yaml

from gpuwatch.adapters.located import (
    Located,
    Problem,
    check_keys,
    one_of,
    raise_problems,
    read_documents,
    shown_path,
)
from gpuwatch.adapters.rule_patterns import complaint
from gpuwatch.adapters.whole_file import beside, mode_of
from gpuwatch.core.mutes import Mute, Mutes
from gpuwatch.core.rules import LABELS, Label
from gpuwatch.errors import UsageError, unreadable, unwritable
from gpuwatch.settings import own_mutes_file
from gpuwatch.texts import text

SUBJECTS = ("rule", "label", "pattern")
_OPTIONAL = ("until", "source", "note")
_MOST_ENTRIES = 1000
LONGEST_WORDS = 500
_HEADER = """\
# What gpuwatch keeps quiet about. Muted failures are still found, counted and shown as muted.
# One entry each: rule, label or pattern; until, source and note where you like. `gpuwatch rules mutes` lists them.
"""


def load_mutes(path: Path | None = None) -> Mutes:
    """The person's mutes; none where there is no file. Raises UsageError that names every mistake."""
    path = path if path is not None else own_mutes_file()
    if path is None or not os.path.lexists(path):
        return Mutes()
    entries, problems = read_mutes(path)
    raise_problems(problems, text("Mend the entry, or take it out of the file."))
    return Mutes(entries)


def read_mutes(path: Path) -> tuple[tuple[Mute, ...], tuple[Problem, ...]]:
    """Every sound entry, and every mistake."""
    found: list[Mute] = []
    problems: list[Problem] = []
    try:
        for document in read_documents(path, shown_path(path)):
            if not isinstance(document.value, list):
                raise document.problem(text("a list of mutes is wanted here, each beginning with a hyphen."))
            for item in document.value:
                try:
                    found.append(mute_from(item))
                except Problem as problem:
                    problems.append(problem)
            if len(found) > _MOST_ENTRIES:
                raise document.problem(
                    text("more than {most} mutes; a label or a pattern may say it in one.", most=_MOST_ENTRIES)
                )
    except Problem as problem:
        problems.append(problem)
    return tuple(found), tuple(problems)


def mute_from(item: Located) -> Mute:
    """Make a mute of an entry. Raises `Problem` at the first mistake."""
    entry = item.mapping()
    check_keys(item, entry, required=(), optional=(*SUBJECTS, *_OPTIONAL))
    if sum(name in entry for name in SUBJECTS) != 1:
        raise item.problem(text("one of `rule`, `label` and `pattern` is wanted here."))
    if "pattern" in entry and (wrong := complaint(entry["pattern"].string())):
        raise entry["pattern"].problem(wrong)
    words = {name: entry[name].string() for name in ("rule", "source", "note") if name in entry}
    for name, value in words.items():
        if not value.strip() or len(value) > LONGEST_WORDS:
            raise entry[name].problem(text("from 1 to {most} characters are wanted here.", most=LONGEST_WORDS))
    return Mute(
        rule=words.get("rule"),
        label=cast(Label, one_of(entry["label"], LABELS)) if "label" in entry else None,
        pattern=entry["pattern"].string().encode() if "pattern" in entry else None,
        until=moment(entry["until"]) if "until" in entry else None,
        source=words.get("source"),
        note=words.get("note"),
        where=item.where,
    )


def moment(item: Located) -> datetime:
    """A day, to its end, or a time; local where it names no zone."""
    value = item.value
    if isinstance(value, str):
        if (found := moment_of(value)) is None:
            raise item.problem(text("a day such as 2026-02-01 or a time such as 2026-02-01 18:00 is wanted here."))
        return found
    if isinstance(value, date):
        try:
            return _aware(value)
        except (OverflowError, ValueError, OSError) as error:
            raise item.problem(text("this day is too far away.")) from error
    raise item.problem(text("a day such as 2026-02-01 or a time such as 2026-02-01 18:00 is wanted here."))


def moment_of(words: str) -> datetime | None:
    """What a person wrote as a day or a time; None where it is neither."""
    try:
        return _aware(date.fromisoformat(words) if len(words) <= len("2026-02-01") else datetime.fromisoformat(words))
    except (ValueError, OverflowError, OSError):
        return None


def _aware(value: date) -> datetime:
    if not isinstance(value, datetime):
        value = datetime.combine(value, time()) + timedelta(days=1)
    return value if value.tzinfo is not None else value.astimezone()


# -- writing ---------------------------------------------------------------------------------------------------------------


def add_mute(mute: Mute, path: Path | None = None) -> Mutes:
    """Write an entry at the file's end; where the same is muted already, that entry gives way. Gives all that is muted then.

    Raises UsageError where the file has mistakes or cannot be written; it is left as it was then.
    """
    place = _place(path)
    before, content = _read(place)
    for number, known in reversed(list(enumerate(before))):
        if known.same_subject(mute):
            content = _without(place, content, number)
            before = (*before[:number], *before[number + 1 :])
    content = content or _HEADER
    if not content.endswith("\n"):
        content += "\n"
    return _write(place, content + _entry(mute), (*before, mute))


def remove_mute(mute: Mute, path: Path | None = None) -> Mutes:
    """Take an entry out of the file. Gives what is muted then.

    Raises UsageError where it is not there any more or the file cannot be written.
    """
    place = _place(path)
    before, content = _read(place)
    number = next((n for n, known in enumerate(before) if replace(known, where="") == replace(mute, where="")), None)
    if number is None:
        raise UsageError(
            text("{path}: the entry is not there any more.", path=str(place)),
            text("`gpuwatch rules mutes` lists what is."),
        )
    return _write(place, _without(place, content, number), (*before[:number], *before[number + 1 :]))


def _place(path: Path | None) -> Path:
    place = path if path is not None else own_mutes_file()
    if place is None:
        raise UsageError(
            text("there is no home folder to keep mutes in."),
            text("Name a folder in {variable}.", variable="GPUWATCH_CONFIG_DIR"),
        )
    return Path(os.path.realpath(place))  # where it is a link, the file it leads to is written


def _read(place: Path) -> tuple[tuple[Mute, ...], str]:
    if not place.exists():
        return (), ""
    mutes = load_mutes(place).entries
    try:
        return mutes, place.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(place, error) from error


def _entry(mute: Mute) -> str:
    values = {
        "rule": mute.rule,
        "label": mute.label,
        "pattern": mute.pattern.decode() if mute.pattern is not None else None,
        "until": mute.until.isoformat(sep=" ", timespec="seconds") if mute.until is not None else None,
        "source": mute.source,
        "note": mute.note,
    }
    told = [f"{name}: {_quoted(value)}\n" for name, value in values.items() if value is not None]
    return "- " + "  ".join(told)


def _quoted(value: str) -> str:
    """A value as YAML reads it back: bare where it is a plain name, else in single quotes, else escaped."""
    if value.replace("-", "a").replace("_", "a").isalnum() and value.isascii() and not value[0].isdigit():
        bare = yaml.safe_load(value)
        if bare == value:
            return value
    if value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return yaml.safe_dump(value, default_style='"', width=1 << 30).strip()


def _without(place: Path, content: str, number: int) -> str:
    """The file without the lines of an entry; its own comments within them go with it."""
    nodes = [
        node
        for document in yaml.compose_all(content, Loader=yaml.SafeLoader)
        if isinstance(document, yaml.SequenceNode)
        for node in document.value
    ]
    lines = content.splitlines(keepends=True)
    first = nodes[number].start_mark.line
    last = _last_line(nodes[number])
    if not lines[first].lstrip().startswith("-"):
        raise _by_hand(place, first)
    return "".join(lines[:first] + lines[last + 1 :])


def _last_line(node: yaml.Node) -> int:
    """The last line with something of the node in it."""
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return max(_last_line(value) for _key, value in node.value)
    mark = node.end_mark
    return int(mark.line if mark.column else mark.line - 1)


def _by_hand(place: Path, line: int) -> UsageError:
    return UsageError(
        text(
            "{path}:{line}: this file is not written as gpuwatch would write it; nothing was changed.",
            path=str(place),
            line=line + 1,
        ),
        text("Change the entry by hand."),
    )


def _write(place: Path, content: str, wanted: tuple[Mute, ...]) -> Mutes:
    """Put the content in the file's place, whole or not at all, once it reads as it should."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with beside(place, content.encode()) as temporary:
            found, problems = read_mutes(temporary)
            if problems or [_kept(m) for m in found] != [_kept(m) for m in wanted]:
                raise _by_hand(place, 0)
            temporary.chmod(mode_of(place))
            temporary.replace(place)
    except OSError as error:
        raise unwritable(
            place, error, text("Name a folder of your own in {variable}.", variable="GPUWATCH_CONFIG_DIR")
        ) from error
    return load_mutes(place)


def _kept(mute: Mute) -> Mute:
    until = mute.until.replace(microsecond=0) if mute.until is not None else None
    return replace(mute, where="", until=until)
