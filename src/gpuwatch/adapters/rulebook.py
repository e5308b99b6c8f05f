"""Rule files -> `RuleSet`. Every mistake is reported with its file and line.

A rule file holds one YAML document a rule. Three layers: the shipped rules, the person's own folder over them, a named folder
over both; the same id replaces, a new one adds. Read are *.yaml and *.yml, in the order of their names; what begins with a dot
is an editor's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import regex

from gpuwatch.adapters.located import (
    Located,
    Problem,
    bilingual,
    check_keys,
    flag,
    items,
    one_of,
    raise_problems,
    read_documents,
    shown_path,
    unknown,
)
from gpuwatch.adapters.rule_patterns import complaint, matches_anything, slowness
from gpuwatch.core.diagnosis import Safety
from gpuwatch.core.planners import PLANNERS
from gpuwatch.core.rules import (
    ACTIONS,
    FACT_UNITS,
    LABELS,
    REFINEMENTS,
    SEVERITIES,
    ClearAfter,
    Correlate,
    Example,
    Label,
    Refinement,
    Rule,
    RuleFix,
    RuleSet,
    Sameness,
    Severity,
    Step,
    known_fact_name,
    rule_set,
)
from gpuwatch.errors import UsageError
from gpuwatch.settings import own_rules_folder, rule_suffix
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import Text, text

REQUIRED = ("id", "label", "title", "severity", "why", "match", "examples")
OPTIONAL = (
    "unless", "overrides", "fallback", "same_when", "echo", "recovered", "facts", "back", "ahead", "refine", "clear", "fixes",
    "references",
)  # fmt: skip
CORRELATION_REQUIRED = ("id", "label", "title", "severity", "why", "correlate", "examples")
CORRELATION_OPTIONAL = ("fixes", "references")
"""A rule with `correlate` speaks of what other rules found and has no patterns of its own."""
DURATION_PATTERN = r"\d+(?:\.\d+)?\s*[smh]"
SHORTEST_SECONDS, LONGEST_SECONDS = 1, 24 * 3600
MOST_FAILURES = 1000
MOST_TOGETHER = 8
ID_PATTERN = "[a-z][a-z0-9]*(-[a-z0-9]+)*"
FARTHEST_RECORDS = 32
_MOST_FILES = 1000
_MOST_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class RuleFolder:
    """What a folder of rule files holds."""

    rules: RuleSet
    """The sound ones."""
    problems: tuple[Problem, ...]
    overrides: tuple[Located, ...]
    """Each name under an `overrides`, with its place."""
    correlated: tuple[Located, ...]
    """Each name under a `correlate`, with its place."""
    patterns: tuple[tuple[Located, Rule], ...]
    """Each pattern of a sound rule, with its place."""
    ids: frozenset[str]
    """Also of the rules that are not sound."""

    def complaints(self, known: Iterable[str]) -> list[Problem]:
        """Every mistake, where these are the rules that may be overridden besides the folder's own."""
        known = {*known, *self.ids}
        return [
            *self.problems,
            *(item.problem(no_rule(item.value, known)) for item in self.overrides if item.value not in known),
            *(
                item.problem(unknown(item.value, (*LABELS, *known)))
                for item in self.correlated
                if item.value not in LABELS and item.value not in known
            ),
        ]

    def slow(self) -> list[Problem]:
        """Every pattern that is too slow on long lines; to look takes seconds."""
        found = []
        for item, rule in self.patterns:
            samples = [example.log.encode() for example in rule.matching_examples[:_MOST_SAMPLES]]
            if wrong := slowness(item.string().encode(), samples):
                found.append(item.problem(wrong))
        return found


def load_rules(folder: Path | None = None) -> RuleSet:
    """The shipped rules, the person's own over them, a folder's over both. Raises UsageError that names every mistake."""
    rules = RuleSet(())
    problems: list[Problem] = []
    for layer in (shipped_folder("rules"), own_rules_folder(), folder):
        if layer is not None:
            read = read_rules(layer)
            problems += read.complaints(rules.by_id)
            rules = rules.layered(read.rules.every)
    raise_problems(problems)
    return rules


def read_rules(folder: Path) -> RuleFolder:
    """Every rule in a folder that is sound, and every mistake."""
    rules: dict[str, Rule] = {}
    problems: list[Problem] = []
    overrides: list[Located] = []
    correlated: list[Located] = []
    patterns: list[tuple[Located, Rule]] = []
    ids: set[str] = set()
    for path in rule_files(folder):
        documents = read_documents(path, shown_path(path))
        while True:
            try:
                document = next(documents)
                ids |= {item.value for item in (document.mapping().get("id"),) if item and isinstance(item.value, str)}
                rule = rule_from(document)
                if rule.id in rules:
                    taken = text(
                        "the id {id} is taken by {where}; give one of them another.",
                        id=rule.id,
                        where=rules[rule.id].where,
                    )
                    raise document.mapping()["id"].problem(taken)
                rules[rule.id] = rule
                overrides += items(document.mapping(), "overrides")
                correlated += names_in(document.mapping().get("correlate"))
                patterns += [(item, rule) for item in patterns_in(document.mapping())]
            except StopIteration:
                break
            except Problem as problem:
                problems.append(problem)
    return RuleFolder(
        rule_set(rules.values()),
        tuple(problems),
        tuple(overrides),
        tuple(correlated),
        tuple(patterns),
        frozenset(ids),
    )


def rule_files(folder: Path) -> list[Path]:
    """The rule files of a folder. Raises UsageError where it is no folder or cannot be read."""
    try:
        paths = sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            text("{folder}: there is no such rules folder.", folder=str(folder)),
            text("Name a folder with *.yaml files."),
        ) from error
    except OSError as error:
        raise UsageError(
            text("{folder} cannot be read: {reason}.", folder=str(folder), reason=error.strerror or str(error)),
            text("Name a folder with *.yaml files."),
        ) from error
    found = [path for path in paths if rule_suffix(path)]
    if len(found) > _MOST_FILES:
        raise UsageError(
            text("{folder}: there are more than {most} rule files.", folder=str(folder), most=_MOST_FILES),
            text("Put several rules into a file, with --- between them."),
        )
    return found


def no_rule(name: str, known: Iterable[str]) -> Text:
    """ "No such rule", with the nearest."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return text("overrides: there is no rule {name}; is `{near}` meant?", name=name, near=near[0])
    return text("overrides: there is no rule {name}; `gpuwatch rules list` lists them.", name=name)


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


def identifier(item: Located) -> str:
    """A rule's id: lower-case words and hyphens."""
    value = item.string()
    if wrong := id_complaint(value):
        raise item.problem(wrong)
    return value


def id_complaint(value: str) -> Text | None:
    """What is wrong with a rule's id; None where nothing is."""
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
