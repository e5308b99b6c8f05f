"""Who held a trace's memory at its peak: the operator and the stage in which each block was taken."""

from __future__ import annotations

from dataclasses import dataclass

from gpuwatch.core.traces.memory import MemoryPeak
from gpuwatch.core.traces.spans import around
from gpuwatch.core.traces.trace import OPERATOR, STAGE, STEP, Trace


@dataclass(frozen=True, slots=True)
class HeldBy:
    """Blocks taken by one operator in one stage."""

    operator: str | None
    stage: str | None
    size_bytes: int
    count: int


def held_by(trace: Trace, peak: MemoryPeak) -> list[HeldBy]:
    """The holders at a device's peak, the largest first.

    The operator is the outermost one: `aten::conv2d` rather than `aten::empty` within it. The stage is the innermost.
    """
    names = trace.names
    sums: dict[tuple[str | None, str | None], tuple[int, int]] = {}
    for number in {holder.lane for holder in peak.holders}:
        mine = sorted((each for each in peak.holders if each.lane == number), key=lambda each: each.time)
        found = around(trace.host[number], [each.time for each in mine]) if number >= 0 else [[] for _ in mine]
        for holder, open_names in zip(mine, found, strict=True):
            operator = next((names.names[each] for each in open_names if names.kinds[each] == OPERATOR), None)
            stage = next(
                (
                    names.names[each]
                    for each in reversed(open_names)
                    if names.kinds[each] == STAGE and names.names[each] != STEP
                ),
                None,
            )
            size, count = sums.get((operator, stage), (0, 0))
            sums[operator, stage] = size + holder.size_bytes, count + 1
    held = [HeldBy(operator, stage, size, count) for (operator, stage), (size, count) in sums.items()]
    return sorted(held, key=lambda each: (-each.size_bytes, each.operator or "", each.stage or ""))
