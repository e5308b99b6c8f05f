"""What a person would list in each recorded log of a real server: one incident a failure, and nothing in the quiet runs.

`<recording>.expected.json` beside this file holds, for each incident, what must not change unnoticed. After a change that is
meant, `python -m tests.golden.test_recordings` writes them anew; read the difference before it is committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.rulebook import load_rules
from tests.rules.corpus import incidents_of

HERE = Path(__file__).parent
LOGS = sorted((HERE.parent / "data" / "recordings").glob("*.log"))
RULES = load_rules()


def told(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "line": incident.line,
            "rule": incident.rule.id,
            "label": incident.label,
            "severity": incident.severity,
            "state": incident.state,
            "count": incident.count,
            "node": incident.node.type or incident.node.pack,
            "facts": dict(incident.facts),
            "fixes": [
                [
                    fix.action,
                    fix.params.get("from"),
                    fix.params.get("to"),
                    fix.predicted.fits if fix.predicted else None,
                ]
                for fix in (incident.diagnosis.fixes if incident.diagnosis else ())
            ],
        }
        for incident in incidents_of(path.read_bytes().decode("utf-8", "surrogateescape"), RULES)
    ]


def expected_path(path: Path) -> Path:
    return HERE / f"{path.stem}.expected.json"


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_the_recording_tells_what_a_person_would_list(path: Path) -> None:
    assert told(path) == json.loads(expected_path(path).read_text("utf-8"))


@pytest.mark.parametrize(
    "path", [p for p in LOGS if "interrupted" in p.name or "sd15" in p.name], ids=lambda path: path.stem
)
def test_quiet_runs_are_quiet(path: Path) -> None:
    assert told(path) == []


if __name__ == "__main__":
    for log in LOGS:
        expected_path(log).write_text(json.dumps(told(log), indent=1, ensure_ascii=False) + "\n", "utf-8")
