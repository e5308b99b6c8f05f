"""Scores the rules against a labelled corpus that lives beside the repository; run as a script it prints what is wrong.

python -m tests.rules.corpus [PREFIX]      only the cases whose label starts with PREFIX
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.rules import LABELS, SEVERITIES, RuleSet
from gpuwatch.core.workloads import Workloads

CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "dev.jsonl"
AT = datetime(2026, 1, 1, tzinfo=UTC)


@cache
def ready(rules: RuleSet) -> tuple[Matcher, Workloads]:
    """The rules compiled once, and the workloads."""
    return Matcher(rules), load_workloads()


def incidents_of(log: str, rules: RuleSet) -> list[Incident]:
    """What the engine finds in one log."""
    matcher, workloads = ready(rules)
    engine = Engine(rules, workloads, ready=matcher)
    found: dict[str, Incident] = {}
    for event in [*engine.feed(LogChunk(AT, "log", log.encode("utf-8", "surrogateescape"))), *engine.end(AT)]:
        if isinstance(event, IncidentChanged):
            found[event.incident.id] = event.incident
    return list(found.values())


def facts_of(incidents: list[Incident]) -> dict[str, Any]:
    """The union of the incidents' facts, node included."""
    facts: dict[str, Any] = {}
    for incident in incidents:
        node = {"node_id": incident.node.id, "node_type": incident.node.type}
        for name, value in {**incident.facts, **{k: v for k, v in node.items() if v}}.items():
            facts.setdefault(name, value)
    return facts


def judge(case: Mapping[str, Any], rules: RuleSet) -> tuple[bool, bool, str]:
    """(label right, facts right, what was found) for one case of the corpus."""
    incidents = incidents_of(case["log"], rules)
    above_info = [i for i in incidents if SEVERITIES.index(i.severity) > 0]
    accepted = {case["label"], *(tag for tag in case["also"] if tag in LABELS)}
    if case["label"] == "benign":
        label_right = not above_info
    else:
        labels = {i.label for i in above_info}
        label_right = bool(labels & accepted) and labels <= accepted
    facts = facts_of(incidents)
    facts_right = all(facts.get(name) == value for name, value in case["facts"].items())
    shown = f"{[(i.rule.id, i.label, i.count) for i in incidents]} {facts}"
    return label_right, facts_right, shown


def main(prefix: str) -> None:
    rules = load_rules()
    cases = [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]
    cases = [case for case in cases if case["label"].startswith(prefix)]
    labels = facts = 0
    for case in cases:
        label_right, facts_right, shown = judge(case, rules)
        labels += label_right
        facts += facts_right
        if not (label_right and facts_right):
            print(f"{case['id']} {case['label']} also={case['also']}\n  wanted {case['facts']}\n  found  {shown}")
            print("  | " + "\n  | ".join(case["log"][:900].splitlines()[:14]))
    print(f"labels {labels} of {len(cases)}, facts {facts} of {len(cases)}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
