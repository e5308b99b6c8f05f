"""A curve through measured runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.core.memory.curve import Run, fit_curve

MIB = 1 << 20


def runs(*sizes: int, fixed: int = 900 * MIB, slope: int = 3000) -> list[Run]:
    return [Run(side * side, fixed + slope * side * side) for side in sizes]


def test_a_straight_line_is_found() -> None:
    curve = fit_curve(runs(256, 512, 768, 1024))
    assert curve is not None
    assert (curve.fixed_bytes, curve.per_pixel_bytes) == (pytest.approx(900 * MIB), pytest.approx(3000))
    assert (curve.error_ratio, curve.runs, curve.most_pixels) == (pytest.approx(0), 4, 1024**2)
    band = curve.peak_bytes(900 * 900)
    assert band.mid == pytest.approx(900 * MIB + 3000 * 810_000)
    assert band.low < band.mid < band.high
    assert band.high == pytest.approx(band.mid * 1.02)


def test_two_runs_beside_something_else_do_not_turn_it() -> None:
    wild = [Run(640**2, 9 << 30), Run(900**2, 9 << 30)]
    curve = fit_curve([*runs(256, 320, 384, 448, 512, 576, 704, 768, 832), *wild])
    assert curve is not None
    assert curve.per_pixel_bytes == pytest.approx(3000, rel=0.02)
    assert curve.worst_ratio > 1
    assert curve.peak_bytes(512**2).high > 4 << 30  # and the band says so


def test_it_says_nothing_from_too_little_and_nothing_beyond_itself() -> None:
    assert fit_curve(runs(256, 512)) is None
    assert fit_curve([*runs(256), *runs(256), *runs(256)]) is None
    assert fit_curve([]) is None
    assert fit_curve([Run(100, 300), Run(200, 200), Run(300, 100)]) is None
    assert fit_curve([Run(0, 5), Run(-3, 5), Run(9, 0)]) is None
    curve = fit_curve(runs(256, 512, 1024))
    assert curve is not None
    outside = curve.peak_bytes(round(1.2 * 1024**2))
    assert outside.high / outside.mid == pytest.approx(1.04)
    for pixels in (0, -1, 2 * 1024**2):
        with pytest.raises(ValueError, match="knows nothing"):
            curve.peak_bytes(pixels)


def test_the_most_that_fits_fits() -> None:
    curve = fit_curve(runs(256, 512, 1024))
    assert curve is not None
    for room in (2 << 30, 3 << 30):
        pixels = curve.largest_pixels(room)
        assert pixels is not None
        assert curve.peak_bytes(pixels).high <= room
    assert curve.largest_pixels(MIB) is None
    assert curve.largest_pixels(1 << 50) == int(1.5 * 1024**2)


@given(st.lists(st.tuples(st.integers(1, 10**8), st.integers(1, 10**11)), max_size=12))
def test_whatever_was_measured_the_curve_is_finite_or_none(pairs: list[tuple[int, int]]) -> None:
    curve = fit_curve([Run(*pair) for pair in pairs])
    if curve is not None:
        band = curve.peak_bytes(curve.most_pixels)
        assert 0 <= band.low <= band.mid <= band.high < float("inf")
