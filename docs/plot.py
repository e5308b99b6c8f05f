"""A dashboard's panels as one SVG: lines over time, numbers, tables. Drawn from what Prometheus answered, and from nothing else.

Small on purpose: what a reader of the page needs to see what a panel shows. It is not Grafana and does not look like it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

COLUMNS, COLUMN_PX, ROW_PX, GAP_PX = 24, 50, 34, 8
HEAD_PX, FOOT_PX = 62, 22
COLOURS = ("#2a78b8", "#d9730d", "#3c9a5f", "#8a5bb3", "#c2416b", "#7a6a2f", "#2f9aa0", "#6b7280")
LIMITS = {"green": "#2f8f4e", "orange": "#c9720a", "red": "#c6352f"}
FONT = "'DejaVu Sans', Verdana, 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', sans-serif"
MOST_SERIES, MOST_ROWS = 8, 9
_LETTER_PX = 6.3

Point = tuple[float, float]
"""Seconds before the end (negative) and the value."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line, number or row: what it is called and its values, the oldest first."""

    name: str
    points: tuple[Point, ...]

    @property
    def last(self) -> float:
        """The newest value."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel as Grafana's JSON has it, with what Prometheus answered."""

    title: str
    kind: Literal["stat", "table", "timeseries"]
    place: Mapping[str, int]
    """Column, row, width and height in Grafana's grid: x, y, w, h."""
    unit: str
    series: tuple[Series, ...]
    steps: tuple[tuple[float | None, str], ...] = ()
    """Colours from a value on."""
    least: float | None = None
    most: float | None = None
    stacked: bool = False


def panel_of(told: Mapping[str, Any], series: Iterable[Series]) -> Panel:
    """A panel of a dashboard's JSON with its series."""
    defaults = told["fieldConfig"]["defaults"]
    steps = defaults.get("thresholds", {}).get("steps", ())
    custom = defaults.get("custom", {})
    return Panel(
        told["title"],
        told["type"],
        told["gridPos"],
        defaults["unit"],
        tuple(series),
        tuple((step["value"], step["color"]) for step in steps),
        defaults.get("min"),
        defaults.get("max"),
        custom.get("stacking", {}).get("mode") == "normal",
    )


def drawn(title: str, captions: Sequence[str], panels: Sequence[Panel], seconds: float) -> str:
    """The dashboard; `seconds` is how far the time axes reach back."""
    rows = max(panel.place["y"] + panel.place["h"] for panel in panels)
    width, height = COLUMNS * COLUMN_PX + GAP_PX, HEAD_PX + rows * ROW_PX + FOOT_PX
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="{FONT}" font-size="11">',
        "<style>.p{fill:#fff;stroke:#d5d9de}.t{font-weight:bold;fill:#1f2933}.q{fill:#66717d}.g{stroke:#e6e9ec}"
        "path{fill:none;stroke-width:1.4}</style>",
        f'<rect width="{width}" height="{height}" fill="#f3f4f6"/>',
        words(GAP_PX + 4, 24, title, "t", size=16),
    ]
    lines += [words(GAP_PX + 4, 40 + 14 * number, each, "q") for number, each in enumerate(captions)]
    for panel in panels:
        x, y = GAP_PX + panel.place["x"] * COLUMN_PX, HEAD_PX + panel.place["y"] * ROW_PX
        wide, high = panel.place["w"] * COLUMN_PX - GAP_PX, panel.place["h"] * ROW_PX - GAP_PX
        lines.append(f'<g transform="translate({x} {y})"><rect class="p" width="{wide}" height="{high}" rx="3"/>')
        lines.append(words(10, 18, fitted(panel.title, wide - 20), "t"))
        lines += INSIDES[panel.kind](panel, wide, high, seconds)
        lines.append("</g>")
    return "\n".join([*lines, "</svg>"]) + "\n"


def words(
    x: float, y: float, said: str, style: str, *, size: int | None = None, anchor: str = "", fill: str = ""
) -> str:
    """A piece of text."""
    more = f' font-size="{size}"' if size else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    more += f' style="fill:{fill}"' if fill else ""
    return f'<text class="{style}" x="{x:g}" y="{y:g}"{more}>{escape(said)}</text>'


def fitted(said: str, px: float) -> str:
    """As much of it as fits into so many pixels."""
    most = max(3, int(px / _LETTER_PX))
    return said if len(said) <= most else said[: most - 1] + "…"


# -- kinds of panels -------------------------------------------------------------------------------------------------------


def inside_stat(panel: Panel, wide: float, high: float, _seconds: float) -> list[str]:
    """The newest value of each series, large."""
    told = []
    shown = panel.series[:4]
    for number, series in enumerate(shown):
        x = wide * (number + 0.5) / len(shown)
        colour = coloured(series.last, panel.steps)
        said = written(series.last, panel.unit)
        told.append(words(x, high * 0.58, said, "t", size=26, anchor="middle", fill=colour))
        told.append(words(x, high * 0.58 + 22, fitted(series.name, wide / len(shown) - 8), "q", anchor="middle"))
    return told or [nothing(wide, high)]


def inside_table(panel: Panel, wide: float, high: float, _seconds: float) -> list[str]:
    """A row a series: its name and its newest value."""
    told = []
    rows = sorted(panel.series, key=lambda series: series.name)
    for number, series in enumerate(rows[:MOST_ROWS]):
        y = 42 + 22 * number
        told.append(f'<line class="g" x1="10" x2="{wide - 10:g}" y1="{y + 7}" y2="{y + 7}"/>')
        told.append(words(10, y, fitted(series.name, wide - 110), "q"))
        colour = coloured(series.last, panel.steps)
        told.append(words(wide - 10, y, written(series.last, panel.unit), "t", anchor="end", fill=colour))
    if len(rows) > MOST_ROWS:
        told.append(words(10, high - 8, f"+ {len(rows) - MOST_ROWS}", "q"))
    return told or [nothing(wide, high)]


def inside_lines(panel: Panel, wide: float, high: float, seconds: float) -> list[str]:
    """Lines over time, axes with units, a legend with the newest values."""
    shown = sorted(panel.series, key=lambda series: (-max(value for _at, value in series.points), series.name))[
        :MOST_SERIES
    ]
    if not shown:
        return [nothing(wide, high)]
    across = 2 if all(len(series.name) + 12 < (wide / 2 - 40) / _LETTER_PX for series in shown) else 1
    legend_rows = min(math.ceil(len(shown) / across), MOST_SERIES // 2)
    named = shown[: legend_rows * across]
    left, right, top, bottom = 66.0, wide - 12, 30.0, high - 24 - 14 * legend_rows
    lines = summed(shown) if panel.stacked else shown
    values = [value for series in lines for _at, value in series.points]
    marks = ticks(min(values), max(values), panel.unit, panel.least, panel.most)
    low, span = marks[0], (marks[-1] - marks[0]) or 1.0

    def y_of(value: float) -> float:
        return bottom - (value - low) / span * (bottom - top)

    def x_of(at: float) -> float:
        return right + at / seconds * (right - left)

    told = []
    for mark in marks:
        y = y_of(mark)
        told.append(f'<line class="g" x1="{left:g}" x2="{right:g}" y1="{y:.0f}" y2="{y:.0f}"/>')
        told.append(words(left - 6, y + 4, written(mark, panel.unit), "q", anchor="end"))
    for part in range(4):
        at = -seconds * (3 - part) / 3
        said = "now" if part == 3 else f"−{-at / 60:.0f} min"
        told.append(
            words(x_of(at), bottom + 15, said, "q", anchor="end" if part == 3 else "start" if part == 0 else "middle")
        )
    for value, colour in panel.steps:
        if value is not None and low < value <= marks[-1]:
            style = f'stroke="{LIMITS[colour]}" stroke-dasharray="5 4"'
            told.append(f'<line {style} x1="{left:g}" x2="{right:g}" y1="{y_of(value):.0f}" y2="{y_of(value):.0f}"/>')
    for number, series in enumerate(lines):
        told.append(f'<path stroke="{COLOURS[number]}" d="{path_of(series.points, x_of, y_of, seconds)}"/>')
    for number, series in enumerate(named):
        x, y = 14 + (number % across) * (wide - 20) / across, bottom + 32 + 14 * (number // across)
        told.append(f'<rect x="{x:g}" y="{y - 8:g}" width="12" height="4" fill="{COLOURS[number]}"/>')
        said = f"  {written(series.last, panel.unit)}" if series.points[-1][0] > -seconds / 20 else ""
        told.append(words(x + 17, y, fitted(series.name, wide / across - 40 - len(said) * _LETTER_PX) + said, "q"))
    if len(panel.series) > len(named):
        told.append(words(wide - 10, 18, f"+ {len(panel.series) - len(named)}", "q", anchor="end"))
    return told


def nothing(wide: float, high: float) -> str:
    """What stands where no sample came."""
    return words(wide / 2, high / 2, "–", "q", anchor="middle")


INSIDES = {"stat": inside_stat, "table": inside_table, "timeseries": inside_lines}


# -- numbers ---------------------------------------------------------------------------------------------------------------


def summed(series: Sequence[Series]) -> list[Series]:
    """Each on top of those before it; a time at which one has no value counts as none of it."""
    base: dict[float, float] = {}
    stacked = []
    for each in series:
        points = tuple((at, base.get(at, 0.0) + value) for at, value in each.points)
        base.update(points)
        stacked.append(Series(each.name, points))
    return stacked


def path_of(points: Sequence[Point], x_of: Any, y_of: Any, seconds: float) -> str:
    """The line through the points, broken where samples are missing, without those that change nothing."""
    step = min((b[0] - a[0] for a, b in itertools.pairwise(points)), default=seconds)
    told: list[str] = []
    before: tuple[int, int] | None = None
    for number, (at, value) in enumerate(points):
        place = (round(x_of(at)), round(y_of(value)))
        begins = number == 0 or at - points[number - 1][0] > step * 1.5
        after = points[number + 1] if number + 1 < len(points) else None
        level = not begins and before is not None and before[1] == place[1]
        if level and after is not None and after[0] - at <= step * 1.5 and round(y_of(after[1])) == place[1]:
            continue
        told.append(f"{'M' if begins else 'L'}{place[0]} {place[1]}")
        before = place
    if len(told) == 1:
        told.append("h2")
    return "".join(told)


def ticks(low: float, high: float, unit: str, least: float | None, most: float | None) -> list[float]:
    """Four to six round values that hold all of them."""
    low = min(low, least) if least is not None else low
    high = max(high, most) if most is not None else high
    if high <= low:
        low, high = (low * 0.9, low * 1.1) if low > 0 else (low, low + 1.0)
    scale = 1.0
    if unit == "bytes":
        scale = 1024.0 ** max(0, min(4, int(math.log(max(abs(high), 1.0), 1024))))
    elif unit == "s" and high >= 120:
        scale = 60.0 if high < 7200 else 3600.0
    rough = (high - low) / 4 / scale
    power = 10.0 ** math.floor(math.log10(rough))
    step = scale * power * next(each for each in (1, 2, 2.5, 5, 10) if each * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def coloured(value: float, steps: Iterable[tuple[float | None, str]]) -> str:
    """The colour of the highest step that the value reaches."""
    reached = [colour for start, colour in steps if start is None or value >= start]
    return LIMITS[reached[-1]] if reached else LIMITS["green"]


def written(value: float, unit: str) -> str:
    """A value with its unit, as a panel's axis has it."""
    match unit:
        case "bytes":
            return scaled(value, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB"))
        case "Bps":
            return scaled(value, 1000.0, ("B/s", "kB/s", "MB/s", "GB/s"))
        case "hertz":
            return scaled(value, 1000.0, ("Hz", "kHz", "MHz", "GHz"))
        case "joule":
            return scaled(value, 1000.0, ("J", "kJ", "MJ", "GJ"))
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "celsius":
            return f"{value:.3g} °C"
        case "watt":
            return f"{value:.3g} W"
        case "ops":
            return f"{value:.2g}/s"
        case "s":
            return lasting(value)
        case _:
            return f"{value:.3g}" if abs(value) < 1000 else scaled(value, 1000.0, ("", "k", "M", "G")).rstrip()


def scaled(value: float, factor: float, names: Sequence[str]) -> str:
    """Three digits and a prefix."""
    number = 0
    while abs(value) >= factor * 0.9995 and number < len(names) - 1:
        value /= factor
        number += 1
    return f"{value:.3g} {names[number]}"


def lasting(seconds: float) -> str:
    """A time: seconds, minutes or hours."""
    if abs(seconds) < 1 and seconds:
        return f"{seconds * 1000:.3g} ms"
    if abs(seconds) < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if abs(seconds) < 7200 else f"{seconds / 3600:.3g} h"
