"""The dashboards and Prometheus rules as files: what they ask for, and where a mistake stands.

Only what a reader of the files needs: no query is parsed, the names of metrics are looked for in it. What Prometheus says of
its rules is promtool's to tell, where it is installed.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuwatch.adapters.located import Located, Problem, read_documents
from gpuwatch.errors import UsageError
from gpuwatch.texts import plain, text

DASHBOARDS, RULES = "grafana/*.json", "prometheus/*.rules.yml"
EXPORTED = (DASHBOARDS, "prometheus/*.yml", "alertmanager/*.yml")
RUNBOOKS = "https://gpuwatch.example/runbooks.md"
"""What stands in the shipped files where a person's own address of the runbooks belongs."""
_MOST_BYTES = 8 << 20
_SECONDS = 60
_METRIC = re.compile(r"\bgpuwatch[_:][a-z0-9_:]+")


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and where it stands."""

    where: str
    expr: str
    panel: bool = False

    def metrics(self) -> set[str]:
        """The names of ours in it."""
        return set(_METRIC.findall(self.expr))


@dataclass(frozen=True, slots=True)
class Contents:
    """What a folder holds."""

    dashboards: int
    panels: int
    alerts: int
    records: frozenset[str]
    queries: tuple[Query, ...]


def read_contents(folder: Path) -> Contents:
    """Read every dashboard and rule file of the folder. Raises UsageError with every mistake in them."""
    queries: list[Query] = []
    problems: list[Problem] = []
    records: set[str] = set()
    panels = alerts = 0
    dashboards, rules = sorted(folder.glob(DASHBOARDS)), sorted(folder.glob(RULES))
    if not dashboards and not rules:
        raise UsageError(
            text(
                "{folder} holds neither {dashboards} nor {rules}.",
                folder=str(folder),
                dashboards=DASHBOARDS,
                rules=RULES,
            ),
            text("`gpuwatch dashboards export DIR` writes such a folder."),
        )
    for path in dashboards:
        try:
            found = list(panel_queries(path))
        except Problem as problem:
            problems.append(problem)
            continue
        panels += len({query.where for query in found if query.panel})
        queries += found
    for path in rules:
        try:
            for entry, query in rule_queries(path):
                queries.append(query)
                records |= {entry["record"].string()} if "record" in entry else set()
                alerts += "alert" in entry
        except Problem as problem:
            problems.append(problem)
    if problems:
        raise UsageError(plain("\n".join(str(problem.as_text()) for problem in problems)))
    return Contents(len(dashboards), panels, alerts, frozenset(records), tuple(queries))


def panel_queries(path: Path) -> Iterator[Query]:
    """Every query of a dashboard, with the title of its panel."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Problem(str(path), text("is no ordinary file."))
        if status.st_size > _MOST_BYTES:
            raise Problem(str(path), text("is too large for a dashboard."))
        board = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Problem(str(path), text("is not JSON: {reason}.", reason=reason)) from error
    panels = _list(board, "panels")
    if not panels:
        raise Problem(str(path), text("is no dashboard: it has no panels."))
    for panel in [*panels, *(inner for outer in panels for inner in _list(outer, "panels"))]:
        for target in _list(panel, "targets"):
            if isinstance(target, dict) and isinstance(target.get("expr"), str):
                yield Query(f"{path}: {panel.get('title') or '?'}", target["expr"], panel=True)
    annotations = board.get("annotations") if isinstance(board, dict) else None
    for annotation in _list(annotations, "list"):
        if isinstance(annotation, dict) and isinstance(annotation.get("expr"), str):
            yield Query(f"{path}: {annotation.get('name') or '?'}", annotation["expr"])


def rule_queries(path: Path) -> Iterator[tuple[dict[str, Located], Query]]:
    """Every rule of a file with its query."""
    for document in read_documents(path):
        groups = document.mapping().get("groups")
        for group in groups.items() if groups is not None else []:
            rules = group.mapping().get("rules")
            for rule in rules.items() if rules is not None else []:
                entry = rule.mapping()
                if "expr" not in entry or not entry.keys() & {"alert", "record"}:
                    raise rule.problem(text("a rule needs an expr, and an alert or a record."))
                yield entry, Query(entry["expr"].where, entry["expr"].string())


def promtool_complaint(folder: Path) -> str | None:
    """What promtool says against the rules and their unit tests; None where nothing, or where it is not installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return None
    rules, tests = sorted(folder.glob(RULES)), sorted(folder.glob("prometheus/tests/*.yml"))
    for words, files in ((("check", "rules", "--lint=all", "--lint-fatal"), rules), (("test", "rules"), tests)):
        if not files:
            continue
        command: list[str | Path] = [promtool, *words, *files]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            return (done.stdout + done.stderr).strip()
    return None


def _list(value: Any, name: str) -> list[Any]:
    inner = value.get(name) if isinstance(value, dict) else None
    return inner if isinstance(inner, list) else []
