"""Folders of rule files -> `RuleSet`. Every mistake is reported with its file and line.

A rule file holds one YAML document a rule. Three layers: the shipped rules, the person's own folder over them, a named folder
over both; the same id replaces, a new one adds. Read are *.yaml and *.yml, in the order of their names; what begins with a dot
is an editor's. What a document must hold is `rule_document`'s.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpuwatch.adapters.located import Located, Problem, items, raise_problems, read_documents, shown_path, unknown
from gpuwatch.adapters.rule_correlate import names_in
from gpuwatch.adapters.rule_document import patterns_in, rule_from
from gpuwatch.adapters.rule_patterns import slowness
from gpuwatch.core.rules import LABELS, Rule, RuleSet, rule_set
from gpuwatch.errors import UsageError, unreadable
from gpuwatch.settings import own_rules_folder, rule_suffix
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import Text, text

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
        raise unreadable(folder, error, text("Name a folder with *.yaml files.")) from error
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
