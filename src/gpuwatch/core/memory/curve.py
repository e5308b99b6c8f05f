"""A curve through what was measured: peak memory against pixels, for any node, with how far off it is.

Theil and Sen's fit: medians over pairs, so that a few runs beside something else do not turn it. Memory grows with the pixels
or, where attention is not tiled, with their square; the one that foretells a size from the others is taken. It says nothing of
what lies far outside the sizes it was made from, and nothing from fewer than three of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from gpuwatch.core.memory.band import Band

FEWEST_SIZES = 3
MOST_RUNS = 200
"""The newest runs that are looked at."""
MOST_SIZES = 32
"""The newest sizes: pairs grow with their square, and each is left out once."""
BEYOND_RATIO = 1.5
"""How far above the largest size measured the curve still answers, with a wider band."""
BELOW_RATIO = 4
"""How far below the smallest."""
LEAST_ERROR_RATIO = 0.02
POWERS = (1, 2)


@dataclass(frozen=True, slots=True)
class Run:
    """One measured job."""

    pixels: int
    """Height times width times batch or frames: what memory is taken to grow with."""
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Peak bytes: fixed + per_pixel * pixels ** power."""

    fixed_bytes: float
    per_pixel_bytes: float
    error_ratio: float
    """The ninth decile of |measured - curve| / curve, over the runs or over sizes that were left out, whichever is larger."""
    worst_ratio: float
    """The largest (measured - curve) / curve: how much it has been too low by."""
    runs: int
    least_pixels: int
    most_pixels: int
    power: int = 1

    @property
    def within_ratio(self) -> float:
        """The error that a band inside the measured sizes has."""
        return max(self.error_ratio, LEAST_ERROR_RATIO)

    def answers(self, pixels: int) -> bool:
        """Whether the curve can say anything of that size."""
        return self.least_pixels <= pixels * BELOW_RATIO and 0 < pixels <= self.most_pixels * BEYOND_RATIO

    def peak_bytes(self, pixels: int) -> Band:
        """The peak at a size: within the error where it was measured, twice that below and just above.

        Raises ValueError beyond what the curve can answer for.
        """
        if not self.answers(pixels):
            raise ValueError(f"the curve knows nothing of {pixels} pixels")
        mid = self.fixed_bytes + self.per_pixel_bytes * pixels**self.power
        inside = self.least_pixels <= pixels <= self.most_pixels
        error = self.within_ratio * (1 if inside else 2)
        return Band(max(mid * (1 - error), 0.0), max(mid, 0.0), max(mid * (1 + error), 0.0))

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
    """The curve through runs, the newest last; None from fewer than three sizes, or where memory does not grow with pixels."""
    kept = [run for run in runs if run.pixels > 0 and run.peak_bytes > 0][-MOST_RUNS:]
    newest = set(list(dict.fromkeys(run.pixels for run in reversed(kept)))[:MOST_SIZES])
    if len(newest) < FEWEST_SIZES:
        return None
    kept = [run for run in kept if run.pixels in newest]
    peaks = {size: _median(run.peak_bytes for run in kept if run.pixels == size) for size in sorted(newest)}
    lines = [line for power in POWERS if (line := _line(peaks, power)) is not None]
    if not lines:
        return None
    foretold = {line.power: _foretold(peaks, line.power) for line in lines}
    # A straight line, unless the square is clearly better.
    line = min(lines, key=lambda each: foretold[each.power] * each.power)
    off = [run.peak_bytes / line.at(run.pixels) - 1 for run in kept]
    error = max(_ninth_decile([abs(o) for o in off]), foretold[line.power])
    return Curve(
        line.fixed_bytes, line.slope, error, max(off), len(kept), min(newest), max(newest), line.power
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Line:
    fixed_bytes: float
    slope: float
    power: int

    def at(self, pixels: int) -> float:
        return float(self.fixed_bytes + self.slope * pixels**self.power)


def _line(peaks: Mapping[int, float], power: int) -> _Line | None:
    """The line through sizes; None where memory shrinks with them, or would be below nothing at one."""
    slope = _median((peaks[b] - peaks[a]) / (b**power - a**power) for a, b in combinations(peaks, 2))
    line = _Line(_median(peak - slope * size**power for size, peak in peaks.items()), slope, power)
    return line if slope >= 0 and all(line.at(size) > 0 for size in peaks) else None


def _foretold(peaks: Mapping[int, float], power: int) -> float:
    """How far off each size is, told from the others alone: the ninth decile. Those at the ends count half: told from the
    others they lie outside, and outside the band is twice as wide."""
    off = []
    ends = (min(peaks), max(peaks))
    for left_out, peak in peaks.items():
        line = _line({size: other for size, other in peaks.items() if size != left_out}, power)
        told = line.at(left_out) if line is not None else 0.0
        off.append((abs(peak / told - 1) if told > 0 else 1.0) / (2 if left_out in ends else 1))
    return _ninth_decile(off)


def _median(values: Iterable[float]) -> float:
    """Python's own brings decimals and random numbers along, which every start would pay for."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _ninth_decile(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, -(-9 * len(values) // 10) - 1)]
