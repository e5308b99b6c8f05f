"""The map beside the log: one cell for every so many lines, the worst of them in it."""

from __future__ import annotations

from gpuwatch.core.rules import SEVERITIES
from gpuwatch.faces.tui.hunt import Sheet
from gpuwatch.faces.tui.logbook import Logbook
from gpuwatch.faces.tui.paint import Span
from gpuwatch.faces.tui.wording import SEVERITY_SIGN


def map_cells(book: Logbook, sheet: Sheet, height: int, first_place: int, in_view: int) -> list[Span]:
    """A cell for each line of the screen: an incident's colour, else where lines say that they are errors, else the view."""
    total = sheet.count
    if total <= height:
        return [(" ", "faint")] * height
    worst: dict[int, int] = {}
    for row, incident in book.marks.items():
        cell = min(sheet.rank(row) * height // total, height - 1)
        worst[cell] = max(worst.get(cell, 0), SEVERITIES.index(incident.severity))
    fine = type(sheet) is Sheet and book.spool.blocks >= height
    cells: list[Span] = []
    for y in range(height):
        first, end = y * total // height, max((y + 1) * total // height, y * total // height + 1)
        here = end > first_place and first < first_place + in_view
        if y in worst:
            cells.append(("◂", SEVERITY_SIGN[SEVERITIES[worst[y]]][1]))
        elif fine and any(tagged := book.spool.levels(sheet.row(first), sheet.row(end))):
            cells.append(("▐" if here else "┤", "error" if tagged[0] else "warning"))
        else:
            cells.append(("▐", "dim") if here else ("│", "faint"))
    return cells
