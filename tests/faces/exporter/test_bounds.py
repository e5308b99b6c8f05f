"""However hostile or many the names from outside are, the page stays whole and its series bounded."""

from __future__ import annotations

import random
import re
import string
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from gpuwatch.core.observations import (
    GpuSample,
    JobEnded,
    Observation,
    QueueState,
    ServerSeen,
    SourceUp,
    Tick,
)
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import Vitals
from tests.faces.exporter.pages import (
    AT,
    after,
    full_sample,
    labels_of,
    page_of,
    series,
)

# -- hostile values --------------------------------------------------------------------------------------------------------

HOSTILE = ['u"\n\\', 'x"} 1\nevil 2', "\ud800half", "显存" * 400, "\x1b[31mred", "\u202eright", "", " ", "{}#,="]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_cannot_break_the_page(value: str) -> None:
    snapshot = after(
        GpuSample(AT, value, 0, value, value, used_bytes=1),
        QueueState(AT, value, 1, 1),
        ServerSeen(AT, value, value, (), value),
        JobEnded(AT, value, value, "success", duration_seconds=1.0, workload=value, node_seconds={value: 1.0}),
    )
    for openmetrics in (False, True):
        page = page_of(snapshot).text(openmetrics=openmetrics).decode()
        parse = parse_open if openmetrics else parse_plain
        names = {sample.name for family in parse(page) for sample in family.samples}
        assert not any(name.startswith("evil") for name in names)
        assert all(len(words) < 600 for words in re.findall(r'"((?:[^"\\]|\\.)*)"', page))


def test_ten_thousand_names_are_bounded_series() -> None:
    dice = random.Random(8)  # noqa: S311 - a test's dice
    snapshot = Snapshot()
    for number in range(10_000):
        name = "".join(dice.choices(string.printable, k=12))
        snapshot = snapshot.after(
            JobEnded(AT, name, name, "success", duration_seconds=1.0, workload=name, node_seconds={name: 1.0})
        )
        if number % 100 == 0:
            snapshot = snapshot.after(QueueState(AT, name, 1, 1)).after(ServerSeen(AT, name, name))
    told = series(snapshot)
    assert len(told) < 10_000
    assert len(labels_of(told, "gpuwatch_queue_jobs")) <= 64
    counted = [value for (name, _), value in told.items() if name == "gpuwatch_node_duration_seconds_count"]
    assert sum(counted) == 10_000


def test_the_documented_budget_is_the_one_that_is_kept() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text("utf-8")
    documented = [
        int(count) for count in re.findall(r"^\| (?:gpuwatch without|each) .* \| (\d+) \|$", page, re.MULTILINE)
    ]

    def count(*observations: Observation) -> int:
        snapshot = Snapshot().after(Tick(AT))
        for each in observations:
            snapshot = snapshot.after(each)
        return len(series(snapshot))

    def server(name: str) -> tuple[Observation, ...]:
        ended = JobEnded(AT, name, "1", "success", duration_seconds=1.0, waited_seconds=1.0)
        return (
            SourceUp(AT, name, "comfyui"),
            QueueState(AT, name, 1, 1),
            ServerSeen(AT, name, "0", (), "x", 2, 1),
            ended,
        )

    bare = replace(full_sample(), processes=())
    one, two = (*server("a"), bare), (replace(bare, uuid="GPU-2"), *server("b"))
    node = JobEnded(AT, "a", "2", "success", duration_seconds=1.0, node_seconds={"KSampler": 1.0})
    assert (
        documented
        == [
            count() + 6,  # process_*
            count(*one, two[0]) - count(*one),
            count(*one, replace(bare, processes=full_sample().processes[:1])) - count(*one),
            count(*one, *two[1:]) - count(*one),
            count(*one, node) - count(*one),
            len(series(replace(Snapshot(), vitals=Vitals(rule_seconds={"a": 1.0})))) - len(series(Snapshot())),
        ]
    )
