"""Rule files -> `RuleSet`, workload files -> `Workloads`. Every mistake is reported with its file and line.

A rule file holds one YAML document a rule. A user's folder is layered over the shipped one: the same id replaces, a new one
adds.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast, get_args

import regex

from gpuwatch.adapters.located import Located, Problem, read_documents
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
from gpuwatch.core.workload import Band, MemoryCurve, Variant, WorkloadProfile, Workloads
from gpuwatch.errors import UsageError
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import Text, plain, text

_REQUIRED = ("id", "label", "title", "severity", "why", "match", "examples")
_OPTIONAL = (
    "unless", "overrides", "fallback", "same_when", "echo", "recovered", "facts", "back", "ahead", "refine", "clear", "fixes",
    "references",
)  # fmt: skip
_FARTHEST_RECORDS = 32


def load_rules(folder: Path | None = None) -> RuleSet:
    """The shipped rules, with a user's folder over them. Raises UsageError that names every mistake."""
    rules, problems = read_rules(shipped_folder("rules"))
    raise_problems(problems)
    if folder is None:
        return rules
    own, problems = read_rules(folder)
    problems += unknown_overrides(own, known=rules.by_id.keys() | own.by_id.keys())
    raise_problems(problems)
    return rules.layered(own)


def read_rules(folder: Path) -> tuple[RuleSet, list[Problem]]:
    """Every rule in a folder that is sound, and every mistake."""
    if not folder.is_dir():
        raise UsageError(
            text("{folder}: there is no such rules folder.", folder=str(folder)),
            text("Name a folder with *.yaml files."),
        )
    rules: dict[str, Rule] = {}
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.yaml")):
        documents = read_documents(path, shown_path(path))
        while True:
            try:
                document = next(documents)
                rule = rule_from(document)
                if rule.id in rules:
                    raise document.problem(
                        text("the id {id} is taken by {where}.", id=rule.id, where=rules[rule.id].where)
                    )
                rules[rule.id] = rule
            except StopIteration:
                break
            except Problem as problem:
                problems.append(problem)
    return RuleSet(tuple(rules.values())), problems


def unknown_overrides(rules: RuleSet, known: Iterable[str]) -> list[Problem]:
    """A mistake for each rule that overrides one that does not exist."""
    known = set(known)
    return [
        Problem(rule.where, text("overrides: there is no rule {name}.", name=name))
        for rule in rules
        for name in rule.overrides
        if name not in known
    ]


def raise_problems(problems: list[Problem]) -> None:
    """Raise one UsageError that lists the mistakes, where there are any."""
    if problems:
        listed = "\n".join(str(problem.as_text()) for problem in problems)
        raise UsageError(plain(listed), text("`gpuwatch rules show ID` prints a rule that works, to compare with."))


def shown_path(path: Path) -> str:
    """A path as a person would type it: relative to where they stand, if it is below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def rule_from(document: Located) -> Rule:
    """Make a rule of a document. Raises `Problem` at the first mistake."""
    entry = document.mapping()
    check_keys(document, entry, required=_REQUIRED, optional=_OPTIONAL)
    facts = tuple(fact_pattern(item) for item in items(entry, "facts"))
    clear_after, clear_match = clear_of(entry.get("clear"))
    matching, ignored = examples_of(entry["examples"])
    return Rule(
        id=identifier(entry["id"]),
        label=cast(Label, one_of(entry["label"], LABELS)),
        title=bilingual(entry["title"]),
        severity=cast(Severity, one_of(entry["severity"], SEVERITIES)),
        why=bilingual(entry["why"]),
        match=tuple(pattern(item, may_be_empty=False) for item in entry["match"].items()),
        unless=tuple(pattern(item) for item in items(entry, "unless")),
        overrides=tuple(item.string() for item in items(entry, "overrides")),
        fallback=flag(entry, "fallback"),
        same_when=tuple(item.string() for item in entry["same_when"].items()) if "same_when" in entry else None,
        echo=flag(entry, "echo"),
        recovered=flag(entry, "recovered"),
        facts=facts,
        back=entry["back"].whole(0, _FARTHEST_RECORDS) if "back" in entry else 0,
        ahead=entry["ahead"].whole(0, _FARTHEST_RECORDS) if "ahead" in entry else 0,
        refine=refinements_of(entry.get("refine")),
        clear_after=clear_after,
        clear_match=clear_match,
        fixes=tuple(fix_of(item) for item in items(entry, "fixes")),
        references=tuple(item.string() for item in items(entry, "references")),
        matching_examples=matching,
        ignored_examples=ignored,
        where=document.where,
    )


def check_keys(
    place: Located, entry: dict[str, Located], *, required: Iterable[str], optional: Iterable[str] = ()
) -> None:
    """Raise where a key is missing or not known."""
    required, known = tuple(required), {*required, *optional}
    for name in required:
        if name not in entry:
            raise place.problem(text("`{name}` is missing.", name=name))
    for name, value in entry.items():
        if name not in known:
            raise value.problem(unknown(name, sorted(known)))


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


def identifier(item: Located) -> str:
    """A rule's id: lower-case words and hyphens."""
    value = item.string()
    if not regex.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", value):
        raise item.problem(text("an id is lower-case words joined by hyphens, not `{value}`.", value=value))
    return value


def bilingual(item: Located) -> Text:
    """A text in both languages."""
    entry = item.mapping()
    check_keys(item, entry, required=("en", "zh"))
    english, chinese = (" ".join(entry[key].string().split()) for key in ("en", "zh"))
    if not english or not chinese:
        raise item.problem(text("a text must not be empty."))
    return Text(english, zh=chinese)


def pattern(item: Located, *, may_be_empty: bool = True) -> bytes:
    """A pattern that compiles, holds nothing that means something else over bytes, and does not match everywhere."""
    written = item.string()
    source = written.encode()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = regex.compile(source)
    except (regex.error, Warning) as error:
        raise item.problem(text("the pattern does not compile: {reason}.", reason=str(error))) from error
    if regex.search(r"\[[^\]\\]*[^\x00-\x7f]", written):
        raise item.problem(text("a set like [显存] means single bytes here: write the alternatives as (?:显|存)."))
    if regex.search(r"[^\x00-\x7f][*+?{]", written):
        raise item.problem(
            text("a repeat after a non-ASCII character means its last byte: put the character in (?:...).")
        )
    if not may_be_empty and compiled.search(b"") is not None:
        raise item.problem(text("the pattern matches an empty line, and so every line."))
    return source


def fact_pattern(item: Located) -> bytes:
    """A pattern whose named groups are facts with units."""
    source = pattern(item, may_be_empty=False)
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
    after = cast(ClearAfter, one_of(entry["after"], get_args(ClearAfter))) if "after" in entry else None
    return after, pattern(entry["match"], may_be_empty=False) if "match" in entry else None


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


# -- workloads -------------------------------------------------------------------------------------------------------------


def load_workloads() -> Workloads:
    """The shipped workload profiles."""
    problems: list[Problem] = []
    profiles: list[WorkloadProfile] = []
    for path in sorted((shipped_folder("rules") / "workloads").glob("*.yaml")):
        try:
            profiles.extend(workload_from(document) for document in read_documents(path, shown_path(path)))
        except Problem as problem:
            problems.append(problem)
    raise_problems(problems)
    return Workloads(tuple(profiles))


def workload_from(document: Located) -> WorkloadProfile:
    """Make a workload profile of a document. Raises `Problem` at the first mistake."""
    entry = document.mapping()
    whole = (
        "min_px",
        "max_px",
        "step_px",
        "default_px",
        "smallest_traced_px",
        "largest_working_px",
        "peak_per_px_bytes",
        "workspace_bytes",
    )
    words = ("id", "title", "size_input", "checkpoint_input", "source")
    check_keys(
        document, entry, required=(*words, *whole, "node_types", "packs", "reserved_ratio", "context_bytes", "variants")
    )
    values: dict[str, Any] = {name: entry[name].string() for name in words}
    values |= {name: entry[name].whole(0, 1 << 40) for name in whole}
    return WorkloadProfile(
        **values,
        node_types=strings(entry["node_types"]),
        packs=strings(entry["packs"]),
        reserved_ratio=band(entry["reserved_ratio"], float),
        context_bytes=band(entry["context_bytes"], float),
        variants={name: variant(name, item) for name, item in entry["variants"].mapping().items()},
    )


def strings(item: Located) -> tuple[str, ...]:
    """A list of strings."""
    return tuple(each.string() for each in item.items())


def band(item: Located, convert: Callable[[float], float]) -> Band:
    """A quantity as {low, mid, high}."""
    entry = item.mapping()
    check_keys(item, entry, required=("low", "mid", "high"))
    low, mid, high = (convert(entry[name].number()) for name in ("low", "mid", "high"))
    if not low <= mid <= high:
        raise item.problem(text("low, mid and high must ascend."))
    return Band(low, mid, high)


def variant(name: str, item: Located) -> Variant:
    """One network of a workload."""
    entry = item.mapping()
    check_keys(item, entry, required=("checkpoints", "curves"))
    curves = {}
    for dtype, curve in entry["curves"].mapping().items():
        parts = curve.mapping()
        check_keys(curve, parts, required=("fixed_bytes", "per_px_bytes"))
        curves[dtype] = MemoryCurve(parts["fixed_bytes"].number(), parts["per_px_bytes"].number())
    return Variant(name, strings(entry["checkpoints"]), curves)
