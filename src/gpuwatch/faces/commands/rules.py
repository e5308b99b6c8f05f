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
import shlex
import sys
from pathlib import Path

from gpuwatch.adapters.located import raise_problems, unknown
from gpuwatch.adapters.rule_document import id_complaint
from gpuwatch.adapters.rule_template import template_of, write_new
from gpuwatch.adapters.rulebook import load_rules, read_rules
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.rules import LABELS
from gpuwatch.errors import UsageError
from gpuwatch.faces.muting import list_mutes, mute, unmute
from gpuwatch.faces.options import add_json, add_rules
from gpuwatch.faces.rule_examples import run_examples
from gpuwatch.faces.rule_page import list_rules, show_rule
from gpuwatch.settings import own_rules_folder, rule_suffix
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import render, text, visible
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
            return run_examples(arguments.folder)


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
        print(visible(render(told)), file=sys.stderr)
    told = text(
        "{path} is written; `gpuwatch rules test {folder}` tests it.",
        path=str(path),
        folder=shlex.quote(str(path.parent)),
    )
    print(visible(render(told)), file=sys.stderr)
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
