"""Both formats are what they claim, and the page written by hand is the library's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.tallies import Histogram
from gpuwatch.faces.exporter import METRICS, Row, View
from tests.dashboards.real import tool
from tests.faces.exporter.pages import (
    AT,
    RULES,
    WORKLOADS,
    everything,
    page_of,
    read,
)
from tests.faces.web import SECONDS

# -- the formats -----------------------------------------------------------------------------------------------------------


class Families(Collector):
    """The same rows through the library: what is written by hand must be the same page."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        for row in METRICS:
            family = {
                "gauge": GaugeMetricFamily, "counter": CounterMetricFamily, "histogram": HistogramMetricFamily,
            }[row.kind](row.name, row.help, labels=row.labels)  # fmt: skip
            for each in row.samples(self._view):
                if isinstance(each.value, Histogram):
                    counts = each.value.counts or (0,) * (len(each.value.bounds) + 1)
                    bounds = [*map(floatToGoString, each.value.bounds), "+Inf"]
                    family.add_metric(each.labels, list(zip(bounds, accumulate(counts), strict=True)), each.value.total)
                else:
                    family.add_metric(each.labels, each.value)
            yield family


def families(parse: Callable[[str], Any], page: bytes) -> dict[str, Any]:
    return {
        family.name: (
            family.type,
            family.documentation,
            {(s.name, tuple(sorted(s.labels.items()))): s.value for s in family.samples},
        )
        for family in parse(page.decode())
    }


@pytest.mark.parametrize("snapshot", [Snapshot(), everything()], ids=["nothing", "everything"])
def test_the_page_is_the_one_that_the_library_would_write(snapshot: Snapshot) -> None:
    registry = CollectorRegistry()
    registry.register(Families(View(snapshot, RULES, WORKLOADS, AT)))
    ours = families(parse_plain, page_of(snapshot).text())
    theirs = families(parse_plain, generate_latest(registry))
    assert ours.pop("gpuwatch_scrape_failed_metrics")[2] == {("gpuwatch_scrape_failed_metrics", ()): 0}
    theirs.pop("gpuwatch_scrape_failed_metrics")
    assert ours == theirs


def test_openmetrics_tells_the_same_and_the_incident_besides() -> None:
    snapshot = everything()
    plain_page, open_page = (page_of(snapshot).text(openmetrics=each) for each in (False, True))
    assert open_page.endswith(b"# EOF\n")
    told = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_open(open_page.decode())
        for sample in family.samples
    }
    assert told == read(plain_page)
    exemplars = [
        sample.exemplar.labels["incident"]
        for family in parse_open(open_page.decode())
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert set(exemplars) <= set(snapshot.incidents)
    assert len(exemplars) == 2
    assert b"incident=" not in plain_page


@pytest.mark.parametrize("snapshot", [Snapshot(), everything()], ids=["nothing", "everything"])
def test_prometheus_own_tool_has_nothing_to_say(snapshot: Snapshot) -> None:
    command = [tool("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=page_of(snapshot).text(), capture_output=True, timeout=SECONDS, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_two_pages_of_one_snapshot_are_one() -> None:
    page = page_of(everything())
    assert page.text() == page.text()


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_names_follow_the_conventions(row: Row) -> None:
    assert row.name.startswith("gpuwatch_")
    assert row.name.endswith("_total") == (row.kind == "counter")
    assert row.help.endswith(".")
    assert not set('\\\n"') & set(row.help)
    ends_in_unit = row.name.removesuffix("_total").endswith(
        ("_bytes", "_seconds", "_ratio", "_celsius", "_watts", "_joules", "_hertz", "_info", "_per_second")
    )
    assert ends_in_unit or row.unit
