"""A curve through what was measured: peak memory against pixels, for any node, with how far off it is.

The fit is Theil and Sen's: medians over pairs, so that a few runs beside something else do not turn it. It says nothing of
what lies outside the sizes it was made from, and nothing from fewer than three of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from gpuwatch.core.memory.band import Band

FEWEST_SIZES = 3
MOST_RUNS = 200
"""The newest runs that are looked at: pairs grow with their square."""
BEYOND_RATIO = 1.5
"""How far above the largest size measured the curve still answers, with a wider band."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured job."""

    pixels: int
    """Height times width times batch or frames: what memory is taken to grow with."""
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Peak bytes: fixed + per_pixel * pixels."""

    fixed_bytes: float
    per_pixel_bytes: float
    error_ratio: float
    """The ninth decile of |measured - curve| / curve over the runs."""
    worst_ratio: float
    """The largest (measured - curve) / curve: how much it has been too low by."""
    runs: int
    least_pixels: int
    most_pixels: int

    def peak_bytes(self, pixels: int) -> Band:
        """The peak at a size: within the error where it was measured, twice that below and just above.

        Raises ValueError beyond what the curve can answer for.
        """
        if pixels < 1 or pixels > self.most_pixels * BEYOND_RATIO:
            raise ValueError(f"the curve knows nothing of {pixels} pixels")
        mid = self.fixed_bytes + self.per_pixel_bytes * pixels
        inside = self.least_pixels <= pixels <= self.most_pixels
        error = max(self.error_ratio, 0.02) * (1 if inside else 2)
        return Band(mid * (1 - min(error, 1.0)), mid, mid * (1 + error))

    def largest_pixels(self, room_bytes: float) -> int | None:
        """The most pixels whose high end fits into the room; None where not even the least measured size does."""
        if self.peak_bytes(self.least_pixels).high > room_bytes:
            return None
        low, high = self.least_pixels, int(self.most_pixels * BEYOND_RATIO)
        while low < high:
            middle = (low + high + 1) // 2
            if self.peak_bytes(middle).high <= room_bytes:
                low = middle
            else:
                high = middle - 1
        return low


def fit_curve(runs: Iterable[Run]) -> Curve | None:
    """The curve through runs; None from fewer than three sizes, or where memory does not grow with pixels."""
    kept = [run for run in runs if run.pixels > 0 and run.peak_bytes > 0][-MOST_RUNS:]
    if len({run.pixels for run in kept}) < FEWEST_SIZES:
        return None
    slope = median(
        (b.peak_bytes - a.peak_bytes) / (b.pixels - a.pixels) for a, b in combinations(kept, 2) if a.pixels != b.pixels
    )
    fixed = median(run.peak_bytes - slope * run.pixels for run in kept)
    if slope < 0 or any(fixed + slope * run.pixels <= 0 for run in kept):
        return None
    off = [(run.peak_bytes - fixed - slope * run.pixels) / (fixed + slope * run.pixels) for run in kept]
    sizes = [run.pixels for run in kept]
    return Curve(fixed, slope, _ninth_decile([abs(o) for o in off]), max(off), len(kept), min(sizes), max(sizes))


def _ninth_decile(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, -(-9 * len(values) // 10) - 1)]
