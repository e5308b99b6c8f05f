"""List, show, write, check and test the rules.

Examples:
  gpuwatch rules list
  gpuwatch rules show cuda-oom-native
  gpuwatch rules new my-failure --out my-rules/my-failure.yaml
  gpuwatch rules check my-rules/        every mistake, with file and line
  gpuwatch rules test                   run every rule's own examples
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import Any

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.located import raise_problems, unknown
from gpuwatch.adapters.rule_template import template_of, write_new
from gpuwatch.adapters.rulebook import id_complaint, load_rules, read_rules, rule_suffix
from gpuwatch.core.engine import Engine, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.rules import LABELS, Rule, RuleSet
from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json, add_rules
from gpuwatch.faces.report import console_for, json_line
from gpuwatch.faces.wording import SEVERITY_SIGN
from gpuwatch.settings import own_rules_folder
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import render, text
from gpuwatch.texts import translate as _


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    listed = actions.add_parser("list", help=_("every rule, a line each"))
    shown = actions.add_parser("show", help=_("one rule: what it means, what it matches, what helps"))
    shown.add_argument("id", metavar="ID")
    for child in (listed, shown):
        add_json(child)
        add_rules(child)
    made = actions.add_parser("new", help=_("print a rule to begin with, or write it to a file"))
    made.add_argument("id", metavar="ID", help=_("lower-case words joined by hyphens"))
    made.add_argument(
        "--label", metavar="LABEL", default="node_failed", help=_("the failure class (default: node_failed)")
    )
    made.add_argument("--out", type=Path, metavar="FILE", help=_("a new file, or a folder to write ID.yaml into"))
    checked = actions.add_parser("check", help=_("find mistakes in rule files"))
    tested = actions.add_parser("test", help=_("run every rule's own examples"))
    for child in (checked, tested):
        child.add_argument(
            "folder", nargs="?", type=Path, metavar="DIR", help=_("default: the shipped rules and your own")
        )


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    match arguments.action:
        case "list":
            return list_rules(load_rules(arguments.rules), as_json=arguments.json)
        case "show":
            return show_rule(load_rules(arguments.rules), arguments.id, as_json=arguments.json)
        case "new":
            return new(arguments.id, arguments.label, arguments.out)
        case "check":
            return check(arguments.folder)
        case _:
            return test(arguments.folder)


def list_rules(rules: RuleSet, *, as_json: bool) -> int:
    """A line a rule."""
    if as_json:
        for rule in rules:
            print(json_line(rule_json(rule)))
        return 0
    from rich.table import Table  # noqa: PLC0415 - only where a person reads

    shipped = shipped_folder("rules").absolute()
    own = {rule.id for rule in rules if Path(rule.where.rpartition(":")[0]).absolute().parent != shipped}
    table = Table(box=None, pad_edge=False)
    for heading in (_("rule"), _("label"), "", _("title"), *([_("where")] if own else [])):
        table.add_column(heading, overflow="fold")
    for rule in rules:
        table.add_row(
            rule.id, rule.label, SEVERITY_SIGN[rule.severity], render(rule.title), rule.where if rule.id in own else ""
        )
    console_for(sys.stdout).print(table)
    return 0


def rule_json(rule: Rule) -> dict[str, Any]:
    """A rule as JSON."""
    return {
        "id": rule.id,
        "label": rule.label,
        "severity": rule.severity,
        "title": render(rule.title),
        "why": render(rule.why),
        "match": [pattern.decode() for pattern in rule.match],
        "unless": [pattern.decode() for pattern in rule.unless],
        "overrides": list(rule.overrides),
        "facts": [pattern.decode() for pattern in rule.facts],
        "clear_after": rule.clear_after,
        "fixes": [fix.action for fix in rule.fixes],
        "references": list(rule.references),
        "where": rule.where,
    }


def show_rule(rules: RuleSet, rule_id: str, *, as_json: bool) -> int:
    """One rule, whole."""
    rule = rules.by_id.get(rule_id)
    if rule is None:
        near = difflib.get_close_matches(rule_id, rules.by_id, n=3)
        hint = (
            text("Is one of these meant: {near}?", near=", ".join(near))
            if near
            else text("`gpuwatch rules list` lists them.")
        )
        raise UsageError(text("there is no rule {id}.", id=rule_id), hint)
    if as_json:
        print(json_line(rule_json(rule)))
        return 0
    console = console_for(sys.stdout)
    console.print(f"{SEVERITY_SIGN[rule.severity]} {rule.id}  {render(rule.title)}", style="bold")
    console.print(render(rule.why))
    for heading, lines in (
        (_("label"), [rule.label]),
        (_("matches"), [pattern.decode() for pattern in rule.match]),
        (_("unless"), [pattern.decode() for pattern in rule.unless]),
        (_("facts"), [pattern.decode() for pattern in rule.facts]),
        (_("gives way"), list(rule.overrides)),
        (_("what helps"), [render(fix.title) if fix.title else fix.action for fix in rule.fixes]),
        (_("references"), list(rule.references)),
        (_("file"), [rule.where]),
    ):
        if lines:
            console.print(f"{heading}:", style="cyan")
            for line in lines:
                console.print(f"  {line}", soft_wrap=True)
    return 0


def new(rule_id: str, label: str, out: Path | None) -> int:
    """Print or write a rule that passes its own examples, to be changed."""
    if wrong := id_complaint(rule_id):
        raise UsageError(wrong, text("For example: {example}.", example="upscaler-gave-up"))
    known = next((name for name in LABELS if name == label), None)
    if known is None:
        raise UsageError(unknown(label, LABELS), text("`gpuwatch rules list` shows the labels in use."))
    shipped = load_rules()
    if out is None:
        print(template_of(rule_id, known, Matcher(shipped)), end="")
        return 0
    path = out / f"{rule_id}.yaml" if out.is_dir() else out
    if not rule_suffix(path):
        raise UsageError(
            text("{path} would not be read: a rule file ends in .yaml.", path=str(path)),
            text("Name another file with --out."),
        )
    write_new(path, template_of(rule_id, known, Matcher(shipped), path.parent))
    if rule_id in shipped.by_id:
        told = text("{id} takes the place of {where}.", id=rule_id, where=shipped.by_id[rule_id].where)
        print(render(told), file=sys.stderr)
    told = text("{path} is written; `gpuwatch rules test {folder}` tests it.", path=str(path), folder=str(path.parent))
    print(render(told), file=sys.stderr)
    return 0


def check(folder: Path | None) -> int:
    """Report every mistake; nothing but a count where there is none. Without a folder, in the shipped rules and the person's."""
    layers = [shipped_folder("rules"), own_rules_folder(), folder]
    read = [(layer, read_rules(layer)) for layer in layers if layer is not None]
    asked = read if folder is None else read[-1:]
    known = {rule_id for _layer, rules in read for rule_id in rules.ids}
    raise_problems([problem for _layer, rules in asked for problem in rules.complaints(known)])
    print(render(text("{count} rules, no mistake.", count=sum(len(rules.rules) for _layer, rules in asked))))
    return 0


def test(folder: Path | None) -> int:
    """Run the examples of every rule in the folder; without one, of every rule in force."""
    rules = load_rules(folder)
    own = rules if folder is None else read_rules(folder).rules
    every = Matcher(rules)
    passed = 0
    failed: list[str] = []
    for rule in own:
        for number, example in enumerate(rule.matching_examples, start=1):
            found = [incident for incident in incidents_of(example.log, every) if incident.rule.id == rule.id]
            facts = {name: value for incident in found for name, value in known_facts(incident).items()}
            wrong = {name: facts.get(name) for name, value in example.facts.items() if facts.get(name) != value}
            if found and not wrong:
                passed += 1
            elif not found:
                failed.append(
                    render(
                        text(
                            "{where}: {id}: example {number} is not matched.",
                            where=rule.where,
                            id=rule.id,
                            number=number,
                        )
                    )
                )
            else:
                told = text(
                    "{where}: {id}: example {number}: found {facts}.",
                    where=rule.where,
                    id=rule.id,
                    number=number,
                    facts=str(wrong),
                )
                failed.append(render(told))
        for number, log in enumerate(rule.ignored_examples, start=1):
            if any(incident.rule.id == rule.id for incident in incidents_of(log, every)):
                told = text(
                    "{where}: {id}: counter-example {number} is matched.", where=rule.where, id=rule.id, number=number
                )
                failed.append(render(told))
            else:
                passed += 1
    for line in failed:
        print(line, file=sys.stderr)
    print(f"{passed} passed, {len(failed)} failed")
    return 2 if failed else 0


def known_facts(incident: Incident) -> dict[str, Any]:
    """The incident's facts, with the node as one of them."""
    node = {"node_id": incident.node.id, "node_type": incident.node.type}
    return {**{name: value for name, value in node.items() if value}, **incident.facts}


def incidents_of(log: str, rules: Matcher) -> list[Incident]:
    """What the engine finds in one log."""
    engine, at = Engine(rules.rules, ready=rules), utc_now()
    events = [*engine.feed(LogChunk(at, "example", log.encode())), *engine.end(at)]
    return list({event.incident.id: event.incident for event in events if isinstance(event, IncidentChanged)}.values())
