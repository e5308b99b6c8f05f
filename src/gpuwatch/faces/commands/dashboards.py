"""Write the dashboards and alerts that ship with gpuwatch into a folder, or check those in one.

Examples:
  gpuwatch dashboards export monitoring
  gpuwatch dashboards export monitoring --runbooks https://wiki.example/gpuwatch
  gpuwatch dashboards check                  the shipped ones
  gpuwatch dashboards check monitoring       your own: does every metric that they ask for exist?

The folder gets grafana/ (import the JSON files), prometheus/ (rules, their unit tests, a configuration) and alertmanager/.
Where promtool is installed, `check` asks it too.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gpuwatch.adapters.dashboard_files import EXPORTED, RUNBOOKS, promtool_complaint, read_contents
from gpuwatch.adapters.whole_file import make_folder, write_whole
from gpuwatch.errors import UsageError
from gpuwatch.faces.exporter import METRICS
from gpuwatch.faces.exporter.pushgateway import RUN_METRICS
from gpuwatch.faces.options import add_json
from gpuwatch.faces.report import json_line
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import plain, render, text, visible
from gpuwatch.texts import translate as _

_PARTS = ("_bucket", "_count", "_sum")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    written = actions.add_parser("export", help=_("write dashboards, rules and example configurations"))
    written.add_argument("folder", type=Path, metavar="DIR")
    written.add_argument(
        "--runbooks", metavar="URL", help=_("where docs/runbooks.md is served; panels and alerts link there")
    )
    written.add_argument("--force", action="store_true", help=_("replace files that were changed"))
    checked = actions.add_parser("check", help=_("find metrics that do not exist and rules that do not hold"))
    checked.add_argument("folder", nargs="?", type=Path, metavar="DIR", help=_("default: the shipped ones"))
    add_json(checked)


def run(arguments: argparse.Namespace) -> int:
    """Export or check."""
    if arguments.action == "export":
        return export(arguments.folder, arguments.runbooks, force=arguments.force)
    return check(arguments.folder or shipped_folder("dashboards"), as_json=arguments.json)


def export(folder: Path, runbooks: str | None, *, force: bool) -> int:
    """Write every file, or none where one stands there that a person has changed."""
    if runbooks is not None and not runbooks.startswith(("http://", "https://")):
        raise UsageError(text("{url} is no address; write https://...", url=runbooks))
    shipped = shipped_folder("dashboards")
    files = {
        folder / path.relative_to(shipped): exported(path, runbooks)
        for pattern in (*EXPORTED, "prometheus/tests/*.yml")
        for path in sorted(shipped.glob(pattern))
    }
    changed = [path for path, content in files.items() if os.path.lexists(path) and not holds(path, content)]
    if changed and not force:
        raise UsageError(
            text("{path} is there already and differs; {count} such files.", path=str(changed[0]), count=len(changed)),
            text("Export into another folder, or replace them with --force."),
        )
    for path, content in files.items():
        make_folder(path.parent)
        write_whole(path, content)
        print(visible(str(path)))
    if runbooks is None:
        told = text("The runbook links lead nowhere yet: say with --runbooks where docs/runbooks.md is served.")
        print(render(told), file=sys.stderr)
    return 0


def holds(path: Path, content: bytes) -> bool:
    """Whether this is a file with that content."""
    try:
        return path.is_file() and path.read_bytes() == content
    except OSError:
        return False


def exported(path: Path, runbooks: str | None) -> bytes:
    """The file's content, its links made whole."""
    content = path.read_bytes()
    return content if runbooks is None else content.replace(RUNBOOKS.encode(), runbooks.encode())


def check(folder: Path, *, as_json: bool) -> int:
    """Say what does not hold; exit code 2 where something does not."""
    contents = read_contents(folder)
    known = {row.name for row in METRICS} | {metric.name for metric in RUN_METRICS} | contents.records
    known |= {row.name + part for row in METRICS if row.kind == "histogram" for part in _PARTS}
    unknown = [
        text("{where}: no metric is called {name}.", where=query.where, name=name)
        for query in contents.queries
        for name in sorted(query.metrics() - known)
    ]
    complaint = promtool_complaint(folder)
    if unknown or complaint:
        listed = [render(words) for words in unknown] + ([complaint] if complaint else [])
        raise UsageError(plain("\n".join(listed)), text("docs/metrics.md lists every metric."))
    told = {
        "folder": str(folder),
        "dashboards": contents.dashboards,
        "panels": contents.panels,
        "records": len(contents.records),
        "alerts": contents.alerts,
    }
    if as_json:
        print(json_line(told))
    else:
        words = text(
            "{dashboards} dashboards with {panels} panels, {records} recording rules, {alerts} alerts: every metric exists.",
            **told,
        )
        print(visible(render(words)))
    return 0
