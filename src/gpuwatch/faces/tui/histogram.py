"""How much the log said when, and how much of it were warnings and errors: a few lines above the log."""

from __future__ import annotations

from datetime import datetime

from textual.strip import Strip
from textual.widget import Widget

from gpuwatch.faces.tui.paint import Row, Span, row, spread, strip_of
from gpuwatch.faces.tui.pane import palette_of
from gpuwatch.faces.tui.themes import Tone
from gpuwatch.faces.tui.times import Histogram, Stretch
from gpuwatch.texts import render, text
from gpuwatch.texts import translate as _

HEIGHT = 5
_BAR_ROWS = HEIGHT - 2
_EIGHTHS = " ▁▂▃▄▅▆▇█"


class HistogramBar(Widget):
    """The picture."""

    can_focus = False

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._rows: list[Row] = []
        self.display = False

    def show(self, known: Histogram | None) -> None:
        """Draw it."""
        rows = histogram_rows(known, max(self.size.width - 2, 1))
        if rows != self._rows:
            self._rows = rows
            self.refresh()

    @property
    def shown(self) -> str:
        """What stands there, as text."""
        return "\n".join("".join(words for words, _ in line.spans) for line in self._rows)

    def render_line(self, y: int) -> Strip:
        """One row."""
        return strip_of(self._rows[y] if y < len(self._rows) else row(), self.size.width, palette_of(self))


def histogram_rows(known: Histogram | None, width: int) -> list[Row]:
    """Bars, a sign below each that holds warnings or errors, and the ends of the time."""
    if known is None:
        return [row(), row((" ", "text"), (_("The lines span no time yet."), "dim"))]
    most = max(stretch.lines for stretch in known.stretches) or 1
    rows = []
    for level in range(_BAR_ROWS - 1, -1, -1):
        spans: list[Span] = [(" ", "text")]
        for stretch in known.stretches:
            eighths = -(-stretch.lines * 8 * _BAR_ROWS // most) - 8 * level
            spans.append((_EIGHTHS[min(max(eighths, 0), 8)], tone_of(stretch)))
        rows.append(row(*spans))
    signs: list[Span] = [(sign_of(stretch), tone_of(stretch)) for stretch in known.stretches]
    rows.append(row((" ", "text"), *signs))
    failures, errors, warnings = (
        sum(getattr(one, name) for one in known.stretches) for name in ("failures", "errors", "warnings")
    )
    words = text(
        "at most {lines} lines each; ◂ {failures} failures, ✗ {errors} errors, ▲ {warnings} warnings",
        lines=most, failures=failures, errors=errors, warnings=warnings,
    )  # fmt: skip
    told = render(words)
    ends: list[Span] = [(" " + clock_of(known.begin, known), "dim"), ("   " + told, "dim")]
    return [*rows, row(*spread(ends, [(clock_of(known.end, known) + " ", "dim")], width + 1))]


def tone_of(stretch: Stretch) -> Tone:
    """The worst in it."""
    return "error" if stretch.failures or stretch.errors else "warning" if stretch.warnings else "accent"


def sign_of(stretch: Stretch) -> str:
    """The worst in it, without colour."""
    return "◂" if stretch.failures else "✗" if stretch.errors else "▲" if stretch.warnings else " "


def clock_of(seconds: float, known: Histogram) -> str:
    """A time of day."""
    if not known.stamped:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")
    whole = int(seconds) % 86_400
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
