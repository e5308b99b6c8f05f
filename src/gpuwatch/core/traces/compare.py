"""Two traces side by side: what got slower, what got faster, what is new, what is gone.

Times are a step's where both traces have steps, so that a run of three steps can stand beside one of five.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpuwatch.core.traces.summary import Row, Summary


@dataclass(frozen=True, slots=True)
class Change:
    """One name in both traces; None where a trace has it not."""

    name: str
    first_seconds: float | None
    second_seconds: float | None
    first_count: float
    second_count: float

    @property
    def delta_seconds(self) -> float:
        """How much longer it is in the second."""
        return (self.second_seconds or 0.0) - (self.first_seconds or 0.0)

    @property
    def times(self) -> float | None:
        """The second as a multiple of the first; None where there is no first."""
        if not self.first_seconds or self.second_seconds is None:
            return None
        return self.second_seconds / self.first_seconds


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two summaries, compared."""

    by_step: bool
    window: Change
    stages: tuple[Change, ...]
    kernels: tuple[Change, ...]
    operators: tuple[Change, ...]


def compare(first: Summary, second: Summary) -> Comparison:
    """Put two summaries side by side; the largest changes come first, stages in their order."""
    by_step = bool(first.steps and second.steps)
    shares = (1 / first.steps, 1 / second.steps) if by_step else (1.0, 1.0)

    def change(name: str, one: tuple[float, int] | None, two: tuple[float, int] | None) -> Change:
        return Change(
            name,
            None if one is None else one[0] * shares[0],
            None if two is None else two[0] * shares[1],
            0 if one is None else one[1] * shares[0],
            0 if two is None else two[1] * shares[1],
        )

    def rows(one: Iterable[Row], two: Iterable[Row]) -> tuple[Change, ...]:
        left, right = _owns(one), _owns(two)
        changes = [change(name, left.get(name), right.get(name)) for name in {**left, **right}]
        return tuple(sorted(changes, key=lambda each: (-abs(each.delta_seconds), each.name)))

    left = {stage.name: (stage.host_seconds, stage.count) for stage in first.stages}
    right = {stage.name: (stage.host_seconds, stage.count) for stage in second.stages}
    return Comparison(
        by_step=by_step,
        window=change("", (first.window_seconds, 1), (second.window_seconds, 1)),
        stages=tuple(change(name, left.get(name), right.get(name)) for name in {**left, **right}),
        kernels=rows(first.kernels, second.kernels),
        operators=rows(first.operators, second.operators),
    )


def _owns(rows: Iterable[Row]) -> dict[str, tuple[float, int]]:
    owns: dict[str, tuple[float, int]] = {}
    for row in rows:
        seconds, count = owns.get(row.name, (0.0, 0))
        owns[row.name] = seconds + row.own_seconds, count + row.count
    return owns
