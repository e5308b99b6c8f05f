"""Which failures are listed as one, and which of them the keys choose."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged
from gpuwatch.core.incidents import Incident, Node
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.choice import Choice
from tests.faces.tui_story import AT, FAILURES, RULES


def told() -> dict[str, Incident]:
    """A failure of the memory and one of a kernel, by their rules."""
    events = Engine(RULES).feed(LogChunk(AT, "log", FAILURES))
    return {event.incident.rule.id: event.incident for event in events if isinstance(event, IncidentChanged)}


def failure(number: int, rule: str) -> Incident:
    node = Node(type="DDColor_Colorize", inputs={"model_input_size": 1024 + number})
    at = AT + timedelta(seconds=number)
    return replace(told()[rule], id=f"{rule}{number}", node=node, line=number, state="settled", last_at=at)


MEMORY = [failure(number, "memory") for number in range(1, 6)]
OTHER = failure(6, "kernel")
LATER = [failure(number, "memory") for number in range(7, 10)]
SNAPSHOT = Snapshot(AT, incidents={each.id: each for each in (*MEMORY, OTHER, *LATER)})


def test_failures_that_are_alike_are_one_row_and_hide_no_other() -> None:
    choice = Choice()
    assert [(row.incident.id, row.count) for row in choice.listed(SNAPSHOT)] == [
        ("memory9", 3), ("kernel6", 1), ("memory5", 5),
    ]  # fmt: skip
    assert choice.incident(SNAPSHOT) == LATER[-1]
    choice.take(SNAPSHOT, "memory3")
    rows = choice.listed(SNAPSHOT)
    assert [row.incident.id for row in rows] == ["memory9", "kernel6", "memory3"], (
        "the one that is read stands for them"
    )
    assert rows[-1].last_at == MEMORY[-1].last_at
    choice.move(SNAPSHOT, -1)
    assert choice.chosen == "kernel6"


def test_each_of_them_is_gone_to_in_time() -> None:
    choice = Choice(chosen="kernel6")
    assert choice.step(SNAPSHOT, -1, from_end=False) == MEMORY[-1]
    assert choice.step(SNAPSHOT, -1, from_end=False) == MEMORY[-2]


def test_they_are_acknowledged_together() -> None:
    choice = Choice()
    choice.acknowledge(SNAPSHOT, "memory5")
    assert choice.seen == {each.id for each in MEMORY}
    choice.acknowledge(SNAPSHOT, "memory5")
    assert choice.seen == set()


def test_what_a_fix_was_tried_for_is_a_row_of_its_own() -> None:
    held = replace(MEMORY[2], fix_outcome="held")
    parted = replace(SNAPSHOT, incidents={**SNAPSHOT.incidents, held.id: held})
    assert [row.count for row in Choice().listed(parted)] == [3, 1, 2, 1, 2]
    over = replace(MEMORY[4], state="cleared")
    parted = replace(SNAPSHOT, incidents={**SNAPSHOT.incidents, over.id: over})
    assert [row.count for row in Choice().listed(parted)] == [3, 1, 1, 4]
