"""What stands under a rule's `correlate`, and the examples of such a rule: failures that mean something together."""

from __future__ import annotations

from typing import cast, get_args

import regex

from gpuwatch.adapters.located import Located, check_keys, flag, items, one_of
from gpuwatch.core.rules import LABELS, Correlate, Label, Sameness, Step
from gpuwatch.texts import text

DURATION_PATTERN = r"\d+(?:\.\d+)?\s*[smh]"
SHORTEST_SECONDS, LONGEST_SECONDS = 1, 24 * 3600
MOST_FAILURES = 1000
MOST_TOGETHER = 8


def correlate_of(item: Located, label: Label) -> Correlate:
    """Which failures mean something together."""
    entry = item.mapping()
    check_keys(item, entry, required=("within",), optional=("any_of", "count", "after", "all_of", "same", "standing"))
    if ("any_of" in entry) == ("all_of" in entry):
        raise item.problem(text("either `any_of` or `all_of` is wanted here."))
    if "all_of" in entry:
        for name in ("count", "after"):
            if name in entry:
                raise entry[name].problem(text("`{name}` goes with `any_of`, not with `all_of`.", name=name))
    after = frozenset(each.string() for each in items(entry, "after"))
    all_of = tuple(frozenset(name.string() for name in each.items()) for each in items(entry, "all_of"))
    if "all_of" in entry and not 2 <= len(all_of) <= MOST_TOGETHER:
        raise entry["all_of"].problem(text("from 2 to {most} are wanted here.", most=MOST_TOGETHER))
    if not all(all_of) or ("any_of" in entry and not entry["any_of"].items()):
        raise item.problem(text("a list of labels or rules must not be empty."))
    for named in names_in(item):
        if named.value == label:
            raise named.problem(text("a rule must not wait for its own label."))
    return Correlate(
        within_seconds=seconds(entry["within"]),
        any_of=frozenset(each.string() for each in items(entry, "any_of")),
        count=entry["count"].whole(1 if after else 2, MOST_FAILURES) if "count" in entry else 1 if after else 2,
        after=after,
        all_of=all_of,
        same=cast(Sameness, one_of(entry["same"], get_args(Sameness))) if "same" in entry else None,
        standing=flag(entry, "standing"),
    )


def names_in(item: Located | None) -> list[Located]:
    """Every label and rule that is named under a `correlate`."""
    entry = item.mapping() if item is not None else {}
    named = [each for name in ("any_of", "after", "all_of") for each in items(entry, name)]
    return [inner for each in named for inner in each.items()]


def seconds(item: Located) -> float:
    """A time span: seconds, or "30s", "10m", "2h"."""
    if isinstance(item.value, str):
        if not regex.fullmatch(DURATION_PATTERN, item.value):
            raise item.problem(text("a time span is wanted here, such as 30s, 10m or 2h."))
        found = float(item.value[:-1]) * {"s": 1, "m": 60, "h": 3600}[item.value[-1]]
    else:
        found = item.number()
    if not SHORTEST_SECONDS <= found <= LONGEST_SECONDS:
        raise item.problem(text("a time span from 1 s to 24 h is wanted here."))
    return found


def sequences_in(item: Located) -> list[Located]:
    """The examples of a rule that correlates: lists of steps."""
    return item.value if isinstance(item.value, list) else [item]


def sequence(item: Located) -> tuple[Step, ...]:
    """One example: failures in the order of time."""
    steps: list[Step] = []
    for each in item.items():
        entry = each.mapping()
        check_keys(each, entry, required=("at",), optional=("source", "log", "label"))
        if ("log" in entry) == ("label" in entry):
            raise each.problem(text("either `log` or `label` is wanted here."))
        at = entry["at"].number()
        if not (steps[-1].at_seconds if steps else 0) <= at <= 10 * LONGEST_SECONDS:
            raise entry["at"].problem(text("the times of an example must not go back."))
        steps.append(
            Step(
                at,
                entry["source"].string() if "source" in entry else "log",
                entry["log"].string() if "log" in entry else None,
                cast(Label, one_of(entry["label"], LABELS)) if "label" in entry else None,
            )
        )
    if not steps:
        raise item.problem(text("an example needs at least one failure."))
    return tuple(steps)
