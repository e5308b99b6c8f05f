"""List, show, write, check and test the rules; mute what is no failure to you.

Examples:
  gpuwatch rules list
  gpuwatch rules show cuda-oom-native
  gpuwatch rules new my-failure --out my-rules/my-failure.yaml
  gpuwatch rules check my-rules/        every mistake, with file and line
  gpuwatch rules test                   run every rule's own examples
  gpuwatch rules mute nan-output --until 3d --note 'known, see the model card'
  gpuwatch rules mute --pattern 'MyNode: .* skipped' --source comfyui.log
  gpuwatch rules mutes                  what is muted, why and until when
  gpuwatch rules unmute nan-output

Muted failures are still found, counted and shown as muted; they are no failure for the exit code of `diagnose`.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import regex

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.located import raise_problems, unknown
from gpuwatch.adapters.mute_file import LONGEST_WORDS, add_mute, load_mutes, moment_of, remove_mute
from gpuwatch.adapters.rule_patterns import complaint
from gpuwatch.adapters.rule_template import template_of, write_new
from gpuwatch.adapters.rulebook import id_complaint, load_rules, read_rules
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.mutes import Mute
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.rehearsal import spoken_of
from gpuwatch.core.rules import LABELS, Correlate, Rule, RuleSet
from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json, add_rules
from gpuwatch.faces.report import console_for, json_line
from gpuwatch.faces.wording import SEVERITY_SIGN
from gpuwatch.settings import own_mutes_file, own_rules_folder, rule_suffix
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import Text, render, text, visible
from gpuwatch.texts import translate as _

_SPAN = regex.compile(r"(\d{1,5})([mhd])")


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
    muted = actions.add_parser("mute", help=_("keep quiet about a rule, a label or a pattern"))
    unmuted = actions.add_parser("unmute", help=_("speak of it again"))
    for child in (muted, unmuted):
        child.add_argument("id", nargs="?", metavar="ID", help=_("a rule"))
        child.add_argument("--label", metavar="LABEL", help=_("a failure class instead of a rule"))
        child.add_argument("--pattern", metavar="PATTERN", help=_("lines that match it instead of a rule"))
        child.add_argument("--source", metavar="NAME", help=_("only in this source"))
        add_rules(child)
    muted.add_argument("--until", metavar="WHEN", help=_("30m, 2h, 3d, or a day such as 2026-02-01"))
    muted.add_argument("--note", metavar="WORDS", help=_("why"))
    listed_mutes = actions.add_parser("mutes", help=_("what is muted"))
    add_json(listed_mutes)


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
        case "mute":
            return mute(arguments)
        case "unmute":
            return unmute(arguments)
        case "mutes":
            return list_mutes(as_json=arguments.json)
        case _:
            return test(arguments.folder)


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
    console.print(f"{SEVERITY_SIGN[rule.severity]} {rule.id}  {render(rule.title)}", style="bold")
    console.print(render(rule.why))
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
    raise_problems([problem for _layer, rules in asked for problem in (*rules.complaints(known), *rules.slow())])
    print(render(text("{count} rules, no mistake.", count=sum(len(rules.rules.every) for _layer, rules in asked))))
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
                failed.append(render(not_matched(rule, number)))
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
                failed.append(render(matched_wrongly(rule, number)))
            else:
                passed += 1
    for rule in own.correlations:
        for number, steps in enumerate(rule.matching_sequences, start=1):
            if rule.id in spoken_of(steps, rules, every):
                passed += 1
            else:
                failed.append(render(not_matched(rule, number)))
        for number, steps in enumerate(rule.ignored_sequences, start=1):
            if rule.id in spoken_of(steps, rules, every):
                failed.append(render(matched_wrongly(rule, number)))
            else:
                passed += 1
    for line in failed:
        print(line, file=sys.stderr)
    print(f"{passed} passed, {len(failed)} failed")
    return 2 if failed else 0


def not_matched(rule: Rule, number: int) -> Text:
    """An example that the rule should find."""
    return text("{where}: {id}: example {number} is not matched.", where=rule.where, id=rule.id, number=number)


def matched_wrongly(rule: Rule, number: int) -> Text:
    """An example that the rule should leave alone."""
    return text("{where}: {id}: counter-example {number} is matched.", where=rule.where, id=rule.id, number=number)


def known_facts(incident: Incident) -> dict[str, Any]:
    """The incident's facts, with the node as one of them."""
    node = {"node_id": incident.node.id, "node_type": incident.node.type}
    return {**{name: value for name, value in node.items() if value}, **incident.facts}


def incidents_of(log: str, rules: Matcher) -> list[Incident]:
    """What the engine finds in one log."""
    engine, at = Engine(rules.rules, ready=rules), utc_now()
    events = [*engine.feed(LogChunk(at, "example", log.encode())), *engine.end(at)]
    return list({event.incident.id: event.incident for event in events if isinstance(event, IncidentChanged)}.values())


# -- mutes -----------------------------------------------------------------------------------------------------------------


def mute(arguments: argparse.Namespace) -> int:
    """Write an entry into the person's mutes."""
    asked = asked_for(arguments)
    add_mute(asked)
    told = text("{subject} is muted; `gpuwatch rules mutes` lists what is.", subject=asked.subject)
    print(visible(render(told)), file=sys.stderr)
    return 0


def unmute(arguments: argparse.Namespace) -> int:
    """Take entries out of the person's mutes: all of this subject, or only those of one source."""
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
    """Read 30m, 2h, 3d, or a day or a time that is still to come."""
    now = utc_now()
    if span := _SPAN.fullmatch(words):
        return (
            now + int(span[1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[span[2]]
        )
    moment = moment_of(words)
    if moment is None:
        raise UsageError(text("{words} is no time; write 30m, 2h, 3d, or a day such as 2026-02-01.", words=words))
    if moment <= now:
        raise UsageError(text("{words} is over already.", words=words))
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
        print(render(text("Nothing is muted. The file is {path}.", path=str(own_mutes_file() or "?"))))
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
