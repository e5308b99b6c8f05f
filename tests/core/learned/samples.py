"""Jobs and runs for the tests of what is learned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gpuwatch.core.learned.jobs import Ran
from gpuwatch.core.learned.reading import ran_of
from gpuwatch.core.learned.runs import Bound, Learned, RunMeasured
from gpuwatch.core.workflow.graph import read_workflow
from tests.standin.prompts import painting

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
GIB = 1 << 30


def ran(prompt: dict[str, Any]) -> Ran:
    found = ran_of(read_workflow(prompt))
    assert found is not None
    return found


def run(
    side: int,
    bound: Bound = "exactly",
    *,
    at: int = 0,
    peak: float | None = None,
    total: int = 8 * GIB,
    alone: bool = True,
) -> RunMeasured:
    """A painted square; 1 GiB and 3000 bytes a pixel, where nothing else is said."""
    peak = GIB + 3000 * side * side if peak is None else peak
    when = AT + timedelta(minutes=at)
    return RunMeasured(when, "box", ran(painting(side, side)), bound, round(peak), total, alone)


def learned(*sides: int) -> Learned:
    return Learned.of(run(side, at=number) for number, side in enumerate(sides))
