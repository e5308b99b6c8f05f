"""One incident from the journal: show it, or pack it for a bug report.

Examples:
  gpuwatch incident show 3f2a90
  gpuwatch incident export 3f2a90                     a zip file here
  gpuwatch incident export 3f2a90 --out report.zip

The first letters of the ID are enough; `gpuwatch history` lists them, an older one of the same id with ~1 behind it. What is
packed holds no home path, user name, host name, address or token that can be recognised, and it is said what was taken out.
Read it before you hand it on.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import platform
import sys
import zipfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path

from gpuwatch import __version__
from gpuwatch.adapters.journal.reading import Kept, read_fixes, read_incidents
from gpuwatch.adapters.whole_file import write_whole
from gpuwatch.core.scrub import Scrubber
from gpuwatch.errors import UsageError
from gpuwatch.faces.commands.history import kept_json, line_of, own_journal
from gpuwatch.faces.options import add_json
from gpuwatch.faces.report import console_for, json_line, print_incident
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _

_PACKAGES = ("hyperscan", "nvidia-ml-py", "regex", "textual", "websockets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar=_("ACTION"))
    show = actions.add_parser("show", help=_("the diagnosis, the lines before it, what was tried"))
    export = actions.add_parser("export", help=_("a zip file for a bug report"))
    export.add_argument("--out", type=Path, metavar="FILE.zip", help=_("default: gpuwatch-ID.zip here"))
    for action in (show, export):
        action.add_argument("id", metavar="ID", help=_("the incident's id, or how it begins"))
        action.add_argument("--journal", type=Path, metavar="FILE", help=_("another journal than your own"))
    add_json(show)


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    path = own_journal(arguments.journal)
    kept = only_one(path, arguments.id)
    fixes = read_fixes(path, kept.incident.id, kept.incident.job_id)
    if arguments.action == "export":
        return export_to(arguments.out or Path(f"gpuwatch-{kept.incident.id}.zip"), kept, fixes)
    if arguments.json:
        print(json_line({**kept_json(kept), **context_json(kept, fixes)}))
        return 0
    print(visible(line_of(kept)))
    print_incident(console_for(sys.stdout), kept.incident)
    for heading, lines in (
        (text("The lines before it"), kept.incident.before),
        (text("Its lines"), kept.incident.excerpt),
        (text("What was tried"), [" ".join(fix) for fix in fixes]),
    ):
        if lines:
            print(f"\n── {render(heading)}")
            print("\n".join(visible(line) for line in lines))
    return 0


def only_one(path: Path, name: str) -> Kept:
    """The incident whose id begins so, the newest or the one that `~N` asks for.

    Raises UsageError where there is none, or where several ids begin so.
    """
    begins, _, newer = name.partition("~")
    found = list(read_incidents(path, id_begins=begins)) if begins else []
    ids = list(dict.fromkeys(kept.incident.id for kept in found))
    if len(ids) > 1:
        raise UsageError(
            text("{id} begins several ids: {ids}", id=begins, ids=", ".join(ids[:10])), text("Write more of the id.")
        )
    for kept in found:
        if str(kept.newer) == (newer or "0"):
            return kept
    raise UsageError(text("there is no incident {id} in the journal.", id=name), text("`gpuwatch history` lists them."))


def context_json(kept: Kept, fixes: list[tuple[str, str, str]]) -> dict[str, object]:
    """What stands around the incident."""
    return {
        "before": list(kept.incident.before),
        "lines": list(kept.incident.excerpt),
        "tried": [{"at": at, "action": action, "outcome": outcome} for at, action, outcome in fixes],
    }


def export_to(out: Path, kept: Kept, fixes: list[tuple[str, str, str]]) -> int:
    """Write the zip file, whole or not at all, and say what was taken out."""
    if out.exists():
        raise UsageError(text("{path}: is there already.", path=str(out)), text("Name another with --out."))
    scrub = Scrubber(users=own_names(), hosts=[platform.node(), platform.node().partition(".")[0]])
    incident = kept.incident
    told = scrub.value({**kept_json(kept), **context_json(kept, fixes)})
    diagnosis = [render(incident.title, "en")]
    if incident.diagnosis is not None:
        diagnosis.append(render(incident.diagnosis.cause, "en"))
        diagnosis += [f"- {render(fix.title, 'en')}" for fix in incident.diagnosis.fixes]
        diagnosis += [render(line, "en") for line in incident.diagnosis.evidence]
    files = {
        "incident.json": json.dumps(told, indent=1, ensure_ascii=False),
        "diagnosis.txt": scrub("\n".join(diagnosis)),
        "log.txt": scrub("\n".join([*incident.before, *incident.excerpt])),
        "versions.json": json.dumps(versions(), indent=1),
    }
    taken = dict(sorted(scrub.taken.items()))
    files["scrubbed.json"] = json.dumps(taken, indent=1)
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, words in files.items():
            bundle.writestr(name, words.encode("utf-8", "replace") + b"\n")
    write_whole(out, packed.getvalue())
    print(visible(str(out)))
    what = ", ".join(f"{count} × {kind}" for kind, count in taken.items()) or "0"
    print(render(text("Taken out: {what}. Read it before you hand it on.", what=what)), file=sys.stderr)
    return 0


def own_names() -> list[str]:
    """What this person is called here."""
    names = {os.environ.get("USER", ""), Path.home().name}
    with suppress(OSError, KeyError, ImportError):
        names.add(getpass.getuser())
    return sorted(name for name in names if name)


def versions() -> dict[str, str]:
    """What runs here."""
    known = {"gpuwatch": __version__, "python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            known[package] = version(package)
    return known
