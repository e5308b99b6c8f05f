"""The arithmetic of asking for less: a value, the share of memory that may stay, and what the input takes -> a smaller value.

Each gives the new value and the share that it comes to. Memory is supposed to go in proportion to pictures, frames and pixels;
where attention grows faster, more goes than was asked.
"""

from __future__ import annotations

from math import sqrt

from gpuwatch.core.balance import Balance
from gpuwatch.core.workflow.nodes import Bounds

LEAST_SHARE = 0.25
"""Not less at one go: what is asked for beyond that is no longer the same picture."""
MOST_SHARE = 0.9
UNKNOWN_SHARE = 0.5
"""Where the failure gave no sizes."""
MARGIN = 0.95
_SQUEEZE = 3.0
"""How much a distorted picture weighs against a smaller one."""


def share_of(balance: Balance, less_bytes: int = 0) -> float | None:
    """The share of the failed request that would have been had; None where the message did not tell.

    What failed was one request; it is cut to what was free, so that all that was held before may stay. `less_bytes` is what
    the card to come has less than the one that failed.
    """
    if not balance.tried_bytes or balance.free_bytes is None:
        return None
    had = balance.free_bytes + (balance.slack_bytes or 0) - less_bytes
    return min(max(MARGIN * had / balance.tried_bytes, LEAST_SHARE), MOST_SHARE)


def fewer(count: float, share: float, bounds: Bounds, least: float = 1) -> tuple[float, float]:
    """Fewer pictures or frames."""
    found = max(bounds.below(count * share), bounds.below(max(least, bounds.low)))
    found = min(found, count)
    return found, found / count if count else 1.0


def smaller_sides(
    width: float, height: float, share: float, widths: Bounds, heights: Bounds
) -> tuple[float, float, float]:
    """A smaller picture of the same shape, as nearly as the steps allow, and no larger than the share."""
    best: tuple[float, float, float] | None = None
    area = width * height * share
    start = widths.below(width * sqrt(share))
    step = max(widths.step, 1)
    for number in range(-4, 12):
        wide = start - number * step
        if wide < widths.low or wide > width:
            continue
        for high in {heights.below(wide * height / width), heights.below(wide * height / width + heights.step)}:
            if high > height or wide * high > area or not heights.takes(high) or not widths.takes(wide):
                continue
            shape = max(wide * height / (high * width), high * width / (wide * height)) - 1
            cost = _SQUEEZE * shape + (1 - wide * high / area)
            if best is None or cost < best[0]:
                best = cost, wide, high
    if best is None:
        return width, height, 1.0
    return best[1], best[2], best[1] * best[2] / (width * height)


def smaller_factor(factor: float, share: float, bounds: Bounds) -> tuple[float, float]:
    """A smaller factor on both sides, or a smaller side of a square."""
    found = min(bounds.below(factor * sqrt(share)), factor)
    return found, (found / factor) ** 2 if factor else 1.0


def smaller_area(area: float, share: float, bounds: Bounds) -> tuple[float, float]:
    """Fewer pixels."""
    found = min(bounds.below(area * share), area)
    return found, found / area if area else 1.0
