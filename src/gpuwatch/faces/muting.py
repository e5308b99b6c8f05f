"""What a person mutes, from the command line: an entry written, entries taken out, all of them listed."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timedelta
from typing import Any

import regex

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.located import unknown
from gpuwatch.adapters.mute_file import LONGEST_WORDS, add_mute, load_mutes, moment_of, remove_mute
from gpuwatch.adapters.rule_patterns import complaint
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.mutes import Mute
from gpuwatch.core.rules import LABELS
from gpuwatch.errors import UsageError
from gpuwatch.faces.report import json_line
from gpuwatch.faces.rule_page import known_rule
from gpuwatch.settings import own_mutes_file
from gpuwatch.texts import render, text, visible

_SPAN = regex.compile(r"(\d{1,5})([mhd])")


def mute(arguments: argparse.Namespace) -> int:
    """Write an entry into the person's mutes."""
    asked = asked_for(arguments)
    add_mute(asked)
    told = text("{subject} is muted; `gpuwatch rules mutes` lists what is.", subject=asked.subject)
    print(visible(render(told)), file=sys.stderr)
    return 0


def unmute(arguments: argparse.Namespace) -> int:
    """Take entries out of the person's mutes: all of this subject, or only those of one source.

    Raises UsageError where none is there.
    """
    asked = asked_for(arguments)
    every_source = asked.source is None
    same = [
        known
        for known in load_mutes().entries
        if (known.rule, known.label, known.pattern) == (asked.rule, asked.label, asked.pattern)
        and (every_source or known.source == asked.source)
    ]
    if not same:
        raise UsageError(
            text("{subject} is not muted.", subject=asked.subject), text("`gpuwatch rules mutes` lists what is.")
        )
    for known in same:
        remove_mute(known)
    print(visible(render(text("{subject} is muted no more.", subject=asked.subject))), file=sys.stderr)
    return 0


def asked_for(arguments: argparse.Namespace) -> Mute:
    """The mute that the command line means. Raises UsageError where it means none."""
    if sum(value is not None for value in (arguments.id, arguments.label, arguments.pattern)) != 1:
        raise UsageError(
            text("name one of a rule, --label and --pattern."),
            text("For example: {example}.", example="gpuwatch rules mute nan-output"),
        )
    label = next((name for name in LABELS if name == arguments.label), None)
    if arguments.label is not None and label is None:
        raise UsageError(unknown(arguments.label, LABELS))
    if arguments.pattern is not None and (wrong := complaint(arguments.pattern)):
        raise UsageError(wrong)
    muting = arguments.action == "mute"
    for name, value in (("--source", arguments.source), ("--note", arguments.note if muting else None)):
        if value is not None and not (value.strip() and len(value) <= LONGEST_WORDS):
            raise UsageError(text("{name}: from 1 to {most} characters are wanted.", name=name, most=LONGEST_WORDS))
    if muting and arguments.id is not None:
        known_rule(load_rules(arguments.rules), arguments.id)
    return Mute(
        rule=arguments.id,
        label=label,
        pattern=arguments.pattern.encode() if arguments.pattern is not None else None,
        until=until(arguments.until) if muting and arguments.until is not None else None,
        source=arguments.source,
        note=arguments.note if muting else None,
    )


def until(words: str) -> datetime:
    """Read 30m, 2h, 3d, or a day or a time that is still to come. Raises UsageError for anything else."""
    now = utc_now()
    if span := _SPAN.fullmatch(words):
        return (
            now + int(span[1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[span[2]]
        )
    moment = moment_of(words)
    if moment is None:
        raise UsageError(text("{words} is no time; write 30m, 2h, 3d, or a day such as 2026-02-01.", words=words))
    if moment <= now:
        raise UsageError(text("{words} is over already.", words=words), text("Name a time that is still to come."))
    return moment


def list_mutes(*, as_json: bool) -> int:
    """What is muted, a line each."""
    mutes, now = load_mutes().entries, utc_now()
    for known in mutes:
        if as_json:
            print(json_line(mute_json(known, now)))
            continue
        details = [
            render(text("in {source}", source=known.source)) if known.source is not None else "",
            until_words(known, now),
            known.note or "",
        ]
        print(
            visible("  ".join([render(known.subject), *(detail for detail in details if detail), f"({known.where})"]))
        )
    if not mutes and not as_json:
        told = text("Nothing is muted. The file is {path}.", path=str(own_mutes_file() or "?"))
        print(visible(render(told)))
    return 0


def until_words(known: Mute, now: datetime) -> str:
    """Until when, for a person."""
    if known.until is None:
        return ""
    day = known.until.astimezone().strftime("%Y-%m-%d %H:%M")
    return render(text("over since {day}", day=day) if known.over(now) else text("until {day}", day=day))


def mute_json(known: Mute, now: datetime) -> dict[str, Any]:
    """An entry as JSON."""
    return {
        "rule": known.rule,
        "label": known.label,
        "pattern": known.pattern.decode() if known.pattern is not None else None,
        "until": known.until.isoformat() if known.until is not None else None,
        "over": known.over(now),
        "source": known.source,
        "note": known.note,
        "where": known.where,
    }
