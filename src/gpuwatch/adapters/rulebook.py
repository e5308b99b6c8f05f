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
)
from gpuwatch.adapters.rule_patterns import complaint
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
    RuleSet,
    Severity,
    known_fact_name,
)
from gpuwatch.errors import UsageError
from gpuwatch.settings import own_rules_folder
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import Text, text

REQUIRED = ("id", "label", "title", "severity", "why", "match", "examples")
OPTIONAL = (
    "unless", "overrides", "fallback", "same_when", "echo", "recovered", "facts", "back", "ahead", "refine", "clear", "fixes",
    "references",
)  # fmt: skip
ID_PATTERN = "[a-z][a-z0-9]*(-[a-z0-9]+)*"
FARTHEST_RECORDS = 32


@dataclass(frozen=True, slots=True)
class RuleFolder:
    """What a folder of rule files holds."""

    rules: RuleSet
    """The sound ones."""
    problems: tuple[Problem, ...]
    overrides: tuple[Located, ...]
    """Each name under an `overrides`, with its place."""
    ids: frozenset[str]
    """Also of the rules that are not sound."""

    def complaints(self, known: Iterable[str]) -> list[Problem]:
        """Every mistake, where these are the rules that may be overridden besides the folder's own."""
        known = {*known, *self.ids}
        return [
            *self.problems,
            *(item.problem(no_rule(item.value, known)) for item in self.overrides if item.value not in known),
        ]


def load_rules(folder: Path | None = None) -> RuleSet:
    """The shipped rules, the person's own over them, a folder's over both. Raises UsageError that names every mistake."""
    rules = RuleSet(())
    problems: list[Problem] = []
    for layer in (shipped_folder("rules"), own_rules_folder(), folder):
        if layer is not None:
            read = read_rules(layer)
            problems += read.complaints(rules.by_id)
            rules = rules.layered(read.rules)
    raise_problems(problems)
    return rules


def read_rules(folder: Path) -> RuleFolder:
    """Every rule in a folder that is sound, and every mistake."""
    rules: dict[str, Rule] = {}
    problems: list[Problem] = []
    overrides: list[Located] = []
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
            except StopIteration:
                break
            except Problem as problem:
                problems.append(problem)
    return RuleFolder(RuleSet(tuple(rules.values())), tuple(problems), tuple(overrides), frozenset(ids))


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
    return [path for path in paths if rule_suffix(path)]


def rule_suffix(path: Path) -> bool:
    """Whether a file of that name is read as a rule file."""
    return path.suffix in (".yaml", ".yml") and not path.name.startswith(".")


def no_rule(name: str, known: Iterable[str]) -> Text:
    """ "No such rule", with the nearest."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return text("overrides: there is no rule {name}; is `{near}` meant?", name=name, near=near[0])
    return text("overrides: there is no rule {name}; `gpuwatch rules list` lists them.", name=name)


def rule_from(document: Located) -> Rule:
    """Make a rule of a document. Raises `Problem` at the first mistake."""
    entry = document.mapping()
    check_keys(document, entry, required=REQUIRED, optional=OPTIONAL)
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


def patterns(item: Located) -> tuple[bytes, ...]:
    """At least one pattern."""
    found = tuple(pattern(each) for each in item.items())
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
