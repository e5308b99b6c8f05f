"""The rules for a person and for a program: all of them, a line each, and one of them whole."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

from gpuwatch.core.rules import Correlate, Rule, RuleSet
from gpuwatch.errors import UsageError
from gpuwatch.faces.report import console_for, json_line
from gpuwatch.faces.wording import SEVERITY_SIGN
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _


def list_rules(rules: RuleSet, *, as_json: bool) -> int:
    """A line a rule; the person's own come last."""
    shipped = shipped_folder("rules").absolute()
    own = {rule.id for rule in rules.every if Path(rule.where.rpartition(":")[0]).absolute().parent != shipped}
    listed = sorted(rules.every, key=lambda rule: rule.id in own)
    if as_json:
        for rule in listed:
            print(json_line(rule_json(rule)))
        return 0
    from rich.table import Table  # noqa: PLC0415 - only where a person reads

    table = Table(box=None, pad_edge=False)
    for heading in (_("rule"), _("label"), "", _("title"), *([_("where")] if own else [])):
        table.add_column(heading, overflow="fold")
    for rule in listed:
        table.add_row(
            rule.id,
            rule.label,
            SEVERITY_SIGN[rule.severity],
            visible(render(rule.title)),
            visible(rule.where) if rule.id in own else "",
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
        "correlate": correlate_json(rule.correlate) if rule.correlate is not None else None,
    }


def correlate_json(wants: Correlate) -> dict[str, Any]:
    """Which failures mean something together, as JSON."""
    return {
        "any_of": sorted(wants.any_of),
        "count": wants.count,
        "after": sorted(wants.after),
        "all_of": [sorted(names) for names in wants.all_of],
        "within_seconds": wants.within_seconds,
        "same": wants.same,
        "standing": wants.standing,
    }


def correlate_lines(wants: Correlate | None) -> list[str]:
    """The same for a person."""
    if wants is None:
        return []
    lines = []
    if wants.after:
        lines.append(render(text("after one of: {names}", names=", ".join(sorted(wants.after)))))
    if wants.any_of:
        told = text("{count} of: {names}", count=wants.count, names=", ".join(sorted(wants.any_of)))
        lines.append(render(told))
    lines += [render(text("one of: {names}", names=", ".join(sorted(names)))) for names in wants.all_of]
    lines.append(render(text("within {within_seconds}", within_seconds=wants.within_seconds)))
    if wants.same is not None:
        lines.append(render(text("of the same {what}", what=wants.same)))
    if wants.standing:
        lines.append(render(text("as long as they are not over")))
    return lines


def known_rule(rules: RuleSet, rule_id: str) -> Rule:
    """The rule of that id. Raises UsageError with the nearest."""
    rule = rules.by_id.get(rule_id)
    if rule is None:
        near = difflib.get_close_matches(rule_id, rules.by_id, n=3)
        hint = (
            text("Is one of these meant: {near}?", near=", ".join(near))
            if near
            else text("`gpuwatch rules list` lists them.")
        )
        raise UsageError(text("there is no rule {id}.", id=rule_id), hint)
    return rule


def show_rule(rules: RuleSet, rule_id: str, *, as_json: bool) -> int:
    """One rule, whole."""
    rule = known_rule(rules, rule_id)
    if as_json:
        print(json_line(rule_json(rule)))
        return 0
    console = console_for(sys.stdout)
    console.print(f"{SEVERITY_SIGN[rule.severity]} {rule.id}  {visible(render(rule.title))}", style="bold")
    console.print(visible(render(rule.why)))
    for heading, lines in (
        (_("label"), [rule.label]),
        (_("matches"), [pattern.decode() for pattern in rule.match]),
        (_("together"), correlate_lines(rule.correlate)),
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
                console.print(f"  {visible(line)}", soft_wrap=True)
    return 0
