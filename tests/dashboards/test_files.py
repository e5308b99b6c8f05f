"""The shipped dashboards and rules: made anew they are the same, they ask for what exists, and promtool has nothing to say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuwatch.adapters.dashboard_files import RUNBOOKS
from gpuwatch.core.rules import LABELS
from gpuwatch.core.tallies import XIDS
from gpuwatch.faces import cli
from gpuwatch.faces.exporter import METRICS
from tests.dashboards.real import tool
from tests.package.test_docs import anchors

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dashboards"
BOARDS = sorted((FOLDER / "grafana").glob("*.json"))
RULES = sorted((FOLDER / "prometheus").glob("*.rules.yml"))
TESTS = sorted((FOLDER / "prometheus" / "tests").glob("*.yml"))
PARTS = ("_bucket", "_count", "_sum")
SERIES = {row.name for row in METRICS} | {
    row.name + part for row in METRICS if row.kind == "histogram" for part in PARTS
}


def rules() -> list[dict[str, Any]]:
    return [
        rule for path in RULES for group in yaml.safe_load(path.read_text("utf-8"))["groups"] for rule in group["rules"]
    ]


ALERTS = [rule for rule in rules() if "alert" in rule]
RECORDS = {rule["record"] for rule in rules() if "record" in rule}
PANELS = [
    pytest.param(panel, id=f"{path.stem}-{panel['title']}")
    for path in BOARDS
    for panel in json.loads(path.read_text("utf-8"))["panels"]
]


def test_there_are_five_dashboards() -> None:
    assert [path.stem.removeprefix("gpuwatch-") for path in BOARDS] == ["fleet", "gpu", "jobs", "model-memory", "now"]


def test_made_anew_they_are_the_same() -> None:
    pytest.importorskip("grafana_foundation_sdk")
    code = "import sys, json; sys.path.insert(0, sys.argv[1]); import generate; print(json.dumps(generate.boards()))"
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(FOLDER)], capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout) == {path.name: path.read_text("utf-8") for path in BOARDS}, (
        "run `python dashboards/generate.py`"
    )


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_a_unit_a_meaning_a_runbook_and_no_datasource_of_its_own(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    (link,) = panel["links"]
    base, _, anchor = link["url"].partition("#")
    assert base == RUNBOOKS
    assert not anchor or anchor in anchors(ROOT / "docs" / "runbooks.md")
    for target in panel["targets"]:
        assert target["legendFormat"]
        names = set(re.findall(r"\bgpuwatch[_:][a-z0-9_:]+", target["expr"]))
        assert names - SERIES - RECORDS == set()
        assert names or "ALERTS" in target["expr"]


def test_the_alerts_and_records_ask_for_what_exists() -> None:
    asked = {name for rule in rules() for name in re.findall(r"\bgpuwatch[_:][a-z0-9_:]+", rule["expr"])}
    assert asked - SERIES - RECORDS == set()


def test_labels_and_codes_in_alerts_are_of_the_closed_sets() -> None:
    for rule in rules():
        for pattern in re.findall(r'label=~?"([^"]+)"', rule["expr"]):
            assert any(re.fullmatch(pattern, label) for label in LABELS), rule
        for pattern in re.findall(r'code=~"([^"]+)"', rule["expr"]):
            assert set(pattern.split("|")) <= set(XIDS), rule


def test_every_code_has_its_alert() -> None:
    told = {
        code
        for rule in ALERTS
        for pattern in re.findall(r'code=~"([^"]+)"', rule["expr"])
        for code in pattern.split("|")
    }
    assert told == set(XIDS) - {"other"}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_speaks_both_languages_and_has_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    told = rule["annotations"]
    assert told["summary"]
    assert told["description"]
    assert all(re.search(r"[\u4e00-\u9fff]", told[name]) for name in ("summary_zh", "description_zh"))
    base, _, anchor = told["runbook_url"].partition("#")
    assert (base, anchor) == (RUNBOOKS, rule["alert"].lower())
    assert anchor in anchors(ROOT / "docs" / "runbooks.md")


def test_every_runbook_is_in_both_languages() -> None:
    page = (ROOT / "docs" / "runbooks.md").read_text("utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    runbooks = {section.partition("\n")[0]: section for section in sections if section.startswith("Gpuwatch")}
    assert runbooks.keys() == {rule["alert"] for rule in ALERTS}
    for name, section in runbooks.items():
        assert "**Look at**" in section, name
        assert "**Do" in section, name
        assert "**看**" in section, name
        assert "**做**" in section, name


def test_every_alert_is_tested_to_fire_and_to_keep_quiet() -> None:
    fired: set[str] = set()
    quiet: set[str] = set()
    for path in TESTS:
        for case in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for each in case.get("alert_rule_test", []):
                (fired if each["exp_alerts"] else quiet).add(each["alertname"])
    names = {rule["alert"] for rule in ALERTS}
    assert fired == names
    assert quiet >= names - {"GpuwatchFailure"}


@pytest.mark.parametrize(
    "words",
    [
        ["check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES)],
        ["test", "rules", *map(str, TESTS)],
        ["check", "config", str(FOLDER / "prometheus" / "prometheus.example.yml")],
    ],
    ids=["lint", "tests", "config"],
)
def test_promtool_has_nothing_to_say(words: list[str]) -> None:
    done = subprocess.run([tool("promtool"), *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_amtool_has_nothing_to_say() -> None:
    path = FOLDER / "alertmanager" / "alertmanager.example.yml"
    done = subprocess.run(
        [tool("amtool"), "check-config", str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# -- the verb --------------------------------------------------------------------------------------------------------------


def test_what_is_exported_can_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dashboards", "export", str(tmp_path / "new"), "--runbooks", "https://wiki.example/r"]) == 0
    written = capsys.readouterr().out.splitlines()
    assert len(written) == 11
    assert not [path for path in written if RUNBOOKS in Path(path).read_text("utf-8")]
    assert cli.main(["dashboards", "check", str(tmp_path / "new"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dashboards"], told["panels"], told["alerts"]) == (5, len(PANELS), len(ALERTS))


def test_a_changed_file_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dashboards", "export", str(tmp_path)]) == 0
    assert cli.main(["dashboards", "export", str(tmp_path)]) == 0
    mine = tmp_path / "grafana" / "gpuwatch-now.json"
    mine.write_text("{}")
    (tmp_path / "grafana" / "gpuwatch-gpu.json").unlink()
    assert cli.main(["dashboards", "export", str(tmp_path)]) == 2
    assert "gpuwatch-now.json" in capsys.readouterr().err
    assert mine.read_text() == "{}"
    assert not (tmp_path / "grafana" / "gpuwatch-gpu.json").exists()
    assert cli.main(["dashboards", "export", str(tmp_path), "--force"]) == 0
    assert mine.read_text() != "{}"


@pytest.mark.parametrize("stands_there", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_neither_read_nor_written_over(
    tmp_path: Path, stands_there: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "grafana" / "gpuwatch-now.json"
    place.parent.mkdir()
    stands_there(place)
    assert cli.main(["dashboards", "export", str(tmp_path)]) == 2
    assert "gpuwatch-now.json is there already and differs" in capsys.readouterr().err
    assert cli.main(["dashboards", "check", str(tmp_path)]) == 2
    assert "gpuwatch-now.json: is no ordinary file" in capsys.readouterr().err
    assert not place.is_file()


def board(expr: Any) -> str:
    return json.dumps({"panels": [{"title": "Mine", "targets": [{"expr": expr}]}]})


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "grafana/a.json",
            board("rate(gpuwatch_no_such_total[5m])"),
            "Mine: no metric is called gpuwatch_no_such_total",
        ),
        ("grafana/a.json", board("gpuwatch_queue_wait_seconds_p95"), "gpuwatch_queue_wait_seconds_p95"),
        ("grafana/a.json", "{", "a.json: is not JSON"),
        ("grafana/a.json", "[]", "a.json: is no dashboard"),
        ("grafana/a.json", '{"panels": 3}', "a.json: is no dashboard"),
        ("grafana/a.json", "[" * 100_000, "a.json: is not JSON"),
        ("prometheus/a.rules.yml", "groups: [{name: a, rules: [{alert: A}]}]", "a.rules.yml:1: a rule needs an expr"),
        ("prometheus/a.rules.yml", "groups: [", "a.rules.yml:1"),
        ("prometheus/a.rules.yml", "groups: [{name: a, rules: [{record: a, expr: gpuwatch_nope}]}]", "gpuwatch_nope"),
        ("other/a.json", board("up"), "holds neither"),
    ],
)
def test_what_does_not_hold_is_named_with_its_place(
    tmp_path: Path, name: str, content: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(content)
    assert cli.main(["dashboards", "check", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err


def test_a_rule_that_prometheus_refuses_is_told_in_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool("promtool")
    (tmp_path / "prometheus").mkdir()
    (tmp_path / "prometheus" / "a.rules.yml").write_text("groups: [{name: a, rules: [{alert: A, expr: 'rate(up)'}]}]")
    assert cli.main(["dashboards", "check", str(tmp_path)]) == 2
    assert "range vector" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["export"], ["export", "x", "--runbooks", "wiki"], ["draw"], []])
def test_wrong_use_is_two(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["dashboards", *words]) == 2
    assert capsys.readouterr().err.startswith("gpuwatch: ")
    assert list(tmp_path.iterdir()) == []
