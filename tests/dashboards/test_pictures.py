"""The drawer draws what it is given, and each dashboard has its picture."""

from __future__ import annotations

import importlib
import json
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.dashboards.test_files import BOARDS, ROOT

SVG = "{http://www.w3.org/2000/svg}"
PLACE = {"x": 0, "y": 0, "w": 12, "h": 8}


@pytest.fixture(scope="module")
def plot() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield importlib.import_module("plot")
    finally:
        sys.path.remove(str(ROOT / "docs"))


def made(plot: ModuleType, kind: str, *series: Any, **more: Any) -> ET.Element:
    panel = plot.Panel(**{"title": "Panel", "kind": kind, "place": PLACE, "unit": "bytes", "series": series} | more)
    return parsed(plot.drawn("Board", ("a caption",), [panel], 600.0))


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - made by us


def told(svg: ET.Element) -> list[str]:
    return [each.text or "" for each in svg.iter(f"{SVG}text")]


def paths(svg: ET.Element) -> list[str]:
    return [each.attrib["d"] for each in svg.iter(f"{SVG}path")]


def line(plot: ModuleType, name: str, *values: float) -> Any:
    return plot.Series(name, tuple((-600.0 + 600.0 * n / max(len(values) - 1, 1), v) for n, v in enumerate(values)))


def test_a_number_stands_in_its_unit_and_colour(plot: ModuleType) -> None:
    steps = ((None, "green"), (1.0, "red"))
    svg = made(plot, "stat", line(plot, "box", 0.0, 3.0), unit="short", steps=steps)
    assert {"Board", "a caption", "Panel", "box", "3"} <= set(told(svg))
    (big,) = (each for each in svg.iter(f"{SVG}text") if each.text == "3")
    assert plot.LIMITS["red"] in big.attrib["style"]


def test_a_table_has_a_row_a_series_and_says_how_many_do_not_fit(plot: ModuleType) -> None:
    svg = made(plot, "table", *(line(plot, f"row {n:02}", n * 2.0**30) for n in range(12)))
    words = told(svg)
    assert [word for word in words if word.startswith("row")] == [f"row {n:02}" for n in range(plot.MOST_ROWS)]
    assert {"0 B", "8 GiB", f"+ {12 - plot.MOST_ROWS}"} <= set(words)


def test_lines_go_up_where_values_do_and_the_legend_has_the_newest(plot: ModuleType) -> None:
    svg = made(plot, "timeseries", line(plot, "up", 0, 1 << 30, 2 << 30), line(plot, "flat", 1 << 30, 1 << 30), least=0)
    up, flat = paths(svg)
    heights = [int(height) for height in re.findall(r"[ML]\d+ (\d+)", up)]
    assert heights == sorted(heights, reverse=True)
    assert len({*re.findall(r"[ML]\d+ (\d+)", flat)}) == 1
    words = told(svg)
    assert {"0 B", "2 GiB", "now", "−10 min"} <= set(words)
    assert [word for word in words if word.startswith(("up", "flat"))] == ["up  2 GiB", "flat  1 GiB"]


def test_a_gap_in_the_samples_is_a_gap_in_the_line(plot: ModuleType) -> None:
    points = ((-600.0, 1.0), (-590.0, 2.0), (-580.0, 1.0), (-100.0, 2.0), (-90.0, 1.0))
    (drawn,) = paths(made(plot, "timeseries", plot.Series("x", points), unit="short"))
    assert drawn.count("M") == 2
    assert "2" not in told(made(plot, "timeseries", plot.Series("x", points[:3]), unit="short"))[-1]


def test_stacked_lines_stand_on_each_other(plot: ModuleType) -> None:
    series = (line(plot, "a", 1, 1), line(plot, "b", 2, 2))
    assert [each.last for each in plot.summed(series)] == [1, 3]
    svg = made(plot, "timeseries", *series, unit="short", stacked=True, least=0)
    assert "3" in told(svg)


def test_limits_are_drawn_where_they_are_in_sight(plot: ModuleType) -> None:
    steps = ((None, "green"), (80.0, "orange"), (500.0, "red"))
    svg = made(plot, "timeseries", line(plot, "hot", 60, 90), unit="celsius", steps=steps, least=0)
    dashed = [each.attrib["stroke"] for each in svg.iter(f"{SVG}line") if "stroke-dasharray" in each.attrib]
    assert dashed == [plot.LIMITS["orange"]]


def test_names_from_elsewhere_are_words_and_nothing_more(plot: ModuleType) -> None:
    hostile = '<script>alert("x")</script> & ' + "n" * 500
    for kind in ("stat", "table", "timeseries"):
        svg = made(plot, kind, line(plot, hostile, 1, 2), title=hostile)
        assert not list(svg.iter(f"{SVG}script"))
        assert max(map(len, told(svg))) < 120


def test_nothing_is_drawn_of_nothing(plot: ModuleType) -> None:
    for kind in ("stat", "table", "timeseries"):
        assert "–" in told(made(plot, kind))


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0, "bytes", "0 B"), (1536, "bytes", "1.5 KiB"), (2**60, "bytes", "1.05e+06 TiB"), (0.5, "percentunit", "50 %"),
        (0.25, "s", "250 ms"), (90, "s", "90 s"), (600, "s", "10 min"), (36000, "s", "10 h"), (1.98e9, "hertz", "1.98 GHz"),
        (663_000, "joule", "663 kJ"), (61.26, "celsius", "61.3 °C"), (350, "watt", "350 W"), (0.22, "ops", "0.22/s"),
        (164_000, "short", "164 k"), (-3, "short", "-3"), (1, "bool", "1"), (2e7, "Bps", "20 MB/s"),
    ],
)  # fmt: skip
def test_values_have_their_panels_unit(plot: ModuleType, value: float, unit: str, said: str) -> None:
    assert plot.written(value, unit) == said


@pytest.mark.parametrize(
    ("low", "high", "unit"),
    [(0, 1, "short"), (3, 3, "short"), (0, 0, "s"), (0, 1000, "s"), (-5, 7, "short"), (0, 48 << 30, "bytes")],
)
def test_marks_hold_all_values_and_are_not_many(plot: ModuleType, low: float, high: float, unit: str) -> None:
    marks = plot.ticks(low, high, unit, None, None)
    assert marks[0] <= low <= high <= marks[-1]
    assert 2 <= len(marks) <= 7
    assert len({plot.written(mark, unit) for mark in marks}) == len(marks)


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_each_dashboard_has_a_picture_with_every_panel_and_values_in_it(path: Path) -> None:
    board = json.loads(path.read_text("utf-8"))
    picture = ROOT / "docs" / "dashboards" / f"{path.stem}.svg"
    assert picture.stat().st_size < 60_000
    svg = parsed(picture.read_text("utf-8"))
    words = told(svg)
    titles = [panel["title"] for panel in board["panels"]]
    assert [word for word in words if word in set(titles)] == titles, "run `python docs/generate.py dashboards`"
    assert "–" not in words, "a panel is empty"
    assert any("not Grafana" in word for word in words)
    assert any("并非 Grafana" in word for word in words)
    for page in ("dashboards.md", "dashboards.zh-CN.md"):
        assert f"](dashboards/{picture.name})" in (ROOT / "docs" / page).read_text("utf-8")


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_no_panel_stands_outside_the_grid_or_on_another(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text("utf-8"))["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_a_panel_is_read_from_grafanas_json(plot: ModuleType) -> None:
    board = json.loads(next(path for path in BOARDS if path.stem == "gpuwatch-gpu").read_text("utf-8"))
    hot = next(panel for panel in board["panels"] if panel["title"] == "Temperature")
    panel = plot.panel_of(hot, [line(plot, "x", 1)])
    assert (panel.kind, panel.unit, panel.least) == ("timeseries", "celsius", 0)
    assert panel.steps == ((None, "green"), (80.0, "orange"), (87.0, "red"))
    assert replace(panel, series=()).series == ()


def test_the_story_is_told_in_lines_that_promtool_takes() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        pictures, story = importlib.import_module("pictures"), importlib.import_module("story")
    finally:
        sys.path.remove(str(ROOT / "docs"))
    began = datetime(2026, 11, 21, tzinfo=UTC)
    first = []
    for line_ in pictures.samples_of(story.Machine("box-a", 2, 1.0), began):
        if line_.endswith(f" {began.timestamp() + story.STEP_SECONDS:.0f}\n"):
            break
        first.append(line_)
    assert all(
        re.fullmatch(r'gpuwatch_\w+\{.*instance="box-a:9877",job="gpuwatch"\} \S+ \d+\n', line_) for line_ in first
    )
    names = {line_.partition("{")[0] for line_ in first}
    assert {"gpuwatch_gpu_memory_used_bytes", "gpuwatch_queue_jobs", "gpuwatch_job_duration_seconds_bucket"} <= names
    assert pictures.named("{{uuid}} used {{nothing}}", {"uuid": "GPU-1"}) == "GPU-1 used"
    assert pictures.with_variables('x{a=~"$instance"}[$__rate_interval]') == 'x{a=~".*"}[2m]'
