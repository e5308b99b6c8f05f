"""Curves in braille: two values a cell across, four steps a cell high. What is not known leaves a gap."""

from __future__ import annotations

from collections.abc import Sequence

from gpuwatch.faces.tui.paint import Row, Span, crop, row, width_of
from gpuwatch.faces.tui.themes import Tone

Mark = tuple[float, str, Tone]
"""A height from 0 to 1, its name and its tone."""
_DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
"""The dots of a cell from the bottom up, left and right."""


def curve(ratios: Sequence[float | None], width: int, height: int) -> list[str]:
    """The last values as an area below a curve, the newest at the right; one string for each line, the top one first."""
    last = ratios[-2 * width :]
    kept: list[float | None] = [*[None] * (2 * width - len(last)), *last]
    lines = []
    for level in range(height - 1, -1, -1):
        cells = []
        for place in range(width):
            dots = 0
            for side in (0, 1):
                value = kept[2 * place + side]
                if value is None:
                    continue
                steps = max(round(min(max(value, 0.0), 1.0) * height * 4), 1) - level * 4
                dots |= sum(_DOTS[side][: min(max(steps, 0), 4)])
            cells.append(chr(0x2800 + dots) if dots else " ")
        lines.append("".join(cells))
    return lines


def chart_rows(
    ratios: Sequence[float | None],
    width: int,
    height: int,
    tone: Tone,
    *,
    labels: tuple[str, str],
    mark: Mark | None = None,
) -> list[Row]:
    """A curve beside its scale. `mark`: a height, its name and tone, as a line across the curve."""
    side = max(len(label) for label in labels) + 2
    room = max(width - side - 2, 4)
    marked = None
    if mark is not None:
        marked = min(max(round((1 - mark[0]) * height - 0.5), 0), height - 1)
    rows = []
    for place, line in enumerate(curve(ratios, room, height)):
        label = labels[0] if place == 0 else labels[1] if place == height - 1 else ""
        spans: list[Span] = [(f" {label:>{side - 2}} ", "dim"), ("│", "faint")]
        if place == marked and mark is not None:
            name = f" {mark[1]} "
            before = line[: max(room - width_of([(name, "text")]) - 2, 0)].replace(" ", "╌")
            spans.append((crop(before + name + "╌╌", room), mark[2]))
        else:
            spans.append((line, tone))
        rows.append(row(*spans))
    return rows
