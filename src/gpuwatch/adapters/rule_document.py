"""One document of a rule file -> `Rule`, or the first mistake in it with its place.

Which files are read, and which rule goes before which, is `rulebook`'s; what stands under `correlate` is `rule_correlate`'s.
"""

from __future__ import annotations

from typing import cast, get_args

import regex

from gpuwatch.adapters.located import Located, bilingual, check_keys, flag, items, one_of
from gpuwatch.adapters.rule_correlate import correlate_of, sequence, sequences_in
from gpuwatch.adapters.rule_patterns import complaint, matches_anything
from gpuwatch.core.diagnosis import Safety
from gpuwatch.core.planners import PLANNERS
from gpuwatch.core.rules import (
    ACTIONS,
    FACT_UNITS,
    LABELS,
    REFINEMENTS,
    SEVERITIES,
    ClearAfter,
    Example,
    Label,
    Refinement,
    Rule,
    RuleFix,
    Severity,
    known_fact_name,
)
from gpuwatch.texts import Text, text

REQUIRED = ("id", "label", "title", "severity", "why", "match", "examples")
OPTIONAL = (
    "unless", "overrides", "fallback", "same_when", "echo", "recovered", "facts", "back", "ahead", "refine", "clear", "fixes",
    "references",
)  # fmt: skip
CORRELATION_REQUIRED = ("id", "label", "title", "severity", "why", "correlate", "examples")
CORRELATION_OPTIONAL = ("fixes", "references")
"""A rule with `correlate` speaks of what other rules found and has no patterns of its own."""
ID_PATTERN = "[a-z][a-z0-9]*(-[a-z0-9]+)*"
LONGEST_ID_CHARACTERS = 64
"""It is a file's name, a heading and a table's cell too."""
FARTHEST_RECORDS = 32


def rule_from(document: Located) -> Rule:
    """Make a rule of a document. Raises `Problem` at the first mistake."""
    entry = document.mapping()
    if "correlate" in entry:
        return correlation_from(document, entry)
    check_keys(document, entry, required=REQUIRED, optional=(*OPTIONAL, "correlate"))
    facts = tuple(fact_pattern(item) for item in items(entry, "facts"))
    clear_after, clear_match = clear_of(entry.get("clear"))
    matching, ignored = examples_of(entry["examples"])
    return Rule(
        id=identifier(entry["id"]),
        label=cast(Label, one_of(entry["label"], LABELS)),
        title=bilingual(entry["title"]),
        severity=cast(Severity, one_of(entry["severity"], SEVERITIES)),
        why=bilingual(entry["why"]),
        match=patterns(entry["match"]),
        unless=tuple(pattern(item) for item in items(entry, "unless")),
        overrides=tuple(item.string() for item in items(entry, "overrides")),
        fallback=flag(entry, "fallback"),
        same_when=tuple(item.string() for item in entry["same_when"].items()) if "same_when" in entry else None,
        echo=flag(entry, "echo"),
        recovered=flag(entry, "recovered"),
        facts=facts,
        back=entry["back"].whole(0, FARTHEST_RECORDS) if "back" in entry else 0,
        ahead=entry["ahead"].whole(0, FARTHEST_RECORDS) if "ahead" in entry else 0,
        refine=refinements_of(entry.get("refine")),
        clear_after=clear_after,
        clear_match=clear_match,
        fixes=tuple(fix_of(item) for item in items(entry, "fixes")),
        references=tuple(item.string() for item in items(entry, "references")),
        matching_examples=matching,
        ignored_examples=ignored,
        where=document.where,
    )


def correlation_from(document: Located, entry: dict[str, Located]) -> Rule:
    """Make a rule of a document that speaks of other rules' failures. Raises `Problem` at the first mistake."""
    if "match" in entry:
        raise entry["match"].problem(text("a rule has `match` or `correlate`, not both."))
    check_keys(document, entry, required=CORRELATION_REQUIRED, optional=CORRELATION_OPTIONAL)
    label = cast(Label, one_of(entry["label"], LABELS))
    examples = entry["examples"].mapping()
    check_keys(entry["examples"], examples, required=("match", "ignore"))
    matching, ignored = (tuple(sequence(item) for item in sequences_in(examples[name])) for name in ("match", "ignore"))
    if not matching:
        raise examples["match"].problem(text("a rule needs at least one example that it matches."))
    return Rule(
        id=identifier(entry["id"]),
        label=label,
        title=bilingual(entry["title"]),
        severity=cast(Severity, one_of(entry["severity"], SEVERITIES)),
        why=bilingual(entry["why"]),
        match=(),
        fixes=tuple(fix_of(item) for item in items(entry, "fixes")),
        references=tuple(item.string() for item in items(entry, "references")),
        correlate=correlate_of(entry["correlate"], label),
        matching_sequences=matching,
        ignored_sequences=ignored,
        where=document.where,
    )


def identifier(item: Located) -> str:
    """A rule's id: lower-case words and hyphens."""
    value = item.string()
    if wrong := id_complaint(value):
        raise item.problem(wrong)
    return value


def id_complaint(value: str) -> Text | None:
    """What is wrong with a rule's id; None where nothing is."""
    if len(value) > LONGEST_ID_CHARACTERS:
        return text(
            "an id has at most {most} characters; this one has {count}.", most=LONGEST_ID_CHARACTERS, count=len(value)
        )
    if regex.fullmatch(ID_PATTERN, value):
        return None
    return text("an id is lower-case words joined by hyphens, not `{value}`.", value=value)


def patterns_in(entry: dict[str, Located]) -> list[Located]:
    """Every pattern of a rule."""
    found = [item for name in ("match", "unless", "facts") for item in items(entry, name)]
    return found + (items(entry["clear"].mapping(), "match") if "clear" in entry else [])


def patterns(item: Located) -> tuple[bytes, ...]:
    """At least one pattern, none of which matches whatever there is."""
    found = tuple(pattern(each) for each in item.items())
    for each in item.items():
        if matches_anything(each.string()):
            raise each.problem(text("the pattern matches almost any line; write words that tell the failure."))
    if not found:
        raise item.problem(text("at least one pattern is wanted here."))
    return found


def pattern(item: Located) -> bytes:
    """A pattern that compiles, holds nothing that means something else over bytes, and does not match everywhere."""
    written = item.string()
    if wrong := complaint(written):
        raise item.problem(wrong)
    return written.encode()


def fact_pattern(item: Located) -> bytes:
    """A pattern whose named groups are facts with units."""
    source = pattern(item)
    names = regex.compile(source).groupindex
    if not names:
        raise item.problem(text("a fact pattern needs a named group, such as (?P<tried_bytes>...)."))
    for name in names:
        if not known_fact_name(name):
            raise item.problem(
                text(
                    'unit "_{unit}" is not known; use one of {units}.',
                    unit=name.rpartition("_")[2],
                    units=", ".join(f"_{u}" for u in FACT_UNITS),
                )
            )
    return source


def clear_of(item: Located | None) -> tuple[ClearAfter | None, bytes | None]:
    """When the condition is over."""
    if item is None:
        return None, None
    entry = item.mapping()
    check_keys(item, entry, required=(), optional=("after", "match"))
    if not entry:
        raise item.problem(text("`{name}` is missing.", name="after"))
    after = cast(ClearAfter, one_of(entry["after"], get_args(ClearAfter))) if "after" in entry else None
    return after, pattern(entry["match"]) if "match" in entry else None


def refinements_of(item: Located | None) -> dict[Refinement, Label]:
    """Named tests over the facts, and the labels they give."""
    entry = item.mapping() if item is not None else {}
    return {
        cast(Refinement, one_of(Located(name, label.file, label.line), REFINEMENTS)): cast(Label, one_of(label, LABELS))
        for name, label in entry.items()
    }


def fix_of(item: Located) -> RuleFix:
    """A fix: a planner's name, or a name with words of the rule's own."""
    if isinstance(item.value, str):
        action = one_of(item, ACTIONS)
        if action not in PLANNERS:
            raise item.problem(text("{action} needs a `title` of this rule's own.", action=action))
        return RuleFix(action)
    entry = item.mapping()
    check_keys(item, entry, required=("action", "title"), optional=("safety", "command"))
    return RuleFix(
        one_of(entry["action"], ACTIONS),
        bilingual(entry["title"]),
        cast(Safety, one_of(entry["safety"], get_args(Safety))) if "safety" in entry else None,
        entry["command"].string() if "command" in entry else None,
    )


def examples_of(item: Located) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """The rule's own examples; at least one it must match."""
    entry = item.mapping()
    check_keys(item, entry, required=("match", "ignore"))
    matching = []
    for example in entry["match"].items():
        if isinstance(example.value, str):
            matching.append(Example(example.value))
            continue
        parts = example.mapping()
        check_keys(example, parts, required=("log",), optional=("facts",))
        matching.append(Example(parts["log"].string(), parts["facts"].bare() if "facts" in parts else {}))
    if not matching:
        raise item.problem(text("a rule needs at least one example that it matches."))
    return tuple(matching), tuple(example.string() for example in entry["ignore"].items())
