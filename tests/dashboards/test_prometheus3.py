"""What Prometheus 3 changed and the files could trip over: read from its migration guide, checked without it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.exporter import METRICS
from gpuwatch.faces.exporter.page import OPEN_TYPE, PLAIN_TYPE, Page
from tests.dashboards.test_files import BOARDS, FOLDER, RULES

OLD_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
EXPERIMENTAL = (
    "holt_winters", "double_exponential_smoothing", "mad_over_time", "sort_by_label", "sort_by_label_desc", "limitk",
    "limit_ratio", "info",
)  # fmt: skip


def rules() -> list[dict[str, Any]]:
    return [
        rule for path in RULES for group in yaml.safe_load(path.read_text("utf-8"))["groups"] for rule in group["rules"]
    ]


def queries() -> list[str]:
    asked = [rule["expr"] for rule in rules()]
    for path in BOARDS:
        board = json.loads(path.read_text("utf-8"))
        asked += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
        asked += [each["expr"] for each in board["annotations"]["list"]]
    return asked


def config(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text("utf-8"))


def test_there_is_something_to_look_at() -> None:
    assert len(queries()) > 80


@pytest.mark.parametrize("function", EXPERIMENTAL)
def test_no_function_is_used_that_was_renamed_or_is_experimental(function: str) -> None:
    assert [expr for expr in queries() if re.search(rf"\b{function}\s*\(", expr)] == []


def test_bounds_are_named_as_the_page_writes_them_and_as_3_does() -> None:
    page = Page(Snapshot, load_rules(), workloads=("ddcolor",)).text().decode()
    written = set(re.findall(r'^(\w+)_bucket\{.*le="([^"]+)"', page, re.MULTILINE))
    assert {bound for _name, bound in written if bound != "+Inf" and str(float(bound)) != bound} == set()
    named = {
        (metric, bound)
        for expr in queries()
        for metric, bound in re.findall(r'\b(\w+)_bucket\{[^}]*\ble="([^"]+)"', expr)
    }  # fmt: skip
    assert named
    assert named - written == set()
    assert sum(expr.count('le="') for expr in queries()) >= len(named)


def test_no_range_is_so_short_that_its_left_end_matters() -> None:
    interval = config("prometheus/prometheus.example.yml")["global"]["scrape_interval"]
    scrape = int(interval[:-1]) * UNITS[interval[-1]]
    for expr in queries():
        for count, unit in re.findall(r"\[(\d+)([smhdw])\]", expr):
            assert int(count) * UNITS[unit] >= 4 * scrape, expr
        assert not re.search(r"\[[^\]]*:[^\]]*\]", expr), f"a subquery: {expr}"


def test_names_are_of_the_old_set_and_quoted_ones_are_not_needed() -> None:
    for row in METRICS:
        assert all(OLD_NAME.fullmatch(name) for name in (row.name, *row.labels))
    assert all(OLD_NAME.fullmatch(rule["record"]) for rule in rules() if "record" in rule)
    assert [expr for expr in queries() if re.search(r'\{\s*"', expr)] == []


def test_the_page_says_what_it_is() -> None:
    assert PLAIN_TYPE.startswith("text/plain; version=0.0.4")
    assert OPEN_TYPE.startswith("application/openmetrics-text; version=1.0.0")


def test_the_example_configurations_have_nothing_that_was_taken_away() -> None:
    prometheus = config("prometheus/prometheus.example.yml")
    assert "api_version" not in json.dumps(prometheus["alerting"])
    assert "$" not in json.dumps(prometheus["global"])
    targets = [
        target for job in prometheus["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    ]  # fmt: skip
    assert targets
    assert all(re.fullmatch(r".+:\d+", target) for target in targets)
    alertmanager = config("alertmanager/alertmanager.example.yml")
    told = json.dumps(alertmanager)
    assert '"match"' not in told
    assert '"match_re"' not in told
    matchers = [
        matcher
        for rule in alertmanager["inhibit_rules"]
        for side in ("source_matchers", "target_matchers")
        for matcher in rule[side]
    ]
    matchers += [matcher for route in alertmanager["route"]["routes"] for matcher in route["matchers"]]
    assert all(re.fullmatch(r'[a-z_]+(=|!=|=~|!~)"[^"\n]*"', matcher) for matcher in matchers), (
        "read alike by every parser"
    )
