"""Which panes stand where for a terminal's size. The answer always has a place; the machine and the log give way first."""

from __future__ import annotations

from dataclasses import dataclass

PANES = ("incidents", "detail", "machine", "log")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """An arrangement's name, a class of app.tcss, and the panes that are in view."""

    name: str
    panes: frozenset[str]


def arrange(width: int, height: int, focused: str, *, zoomed: bool, calm: bool) -> Arrangement:
    """Choose. `focused` is the pane that the person looks at; it is always in view. `calm`: there is no incident to list."""
    if zoomed or height < 11 or width < 40:
        return Arrangement("-one", frozenset({focused}))
    if width < 100:
        return stacked(height, focused, calm=calm)
    if height < 18:
        return Arrangement("-columns", frozenset({"incidents", "detail", "machine"} if focused != "log" else {"log"}))
    return Arrangement("-wide" if width >= 170 and height >= 30 else "-columns", frozenset(PANES))


def stacked(height: int, focused: str, *, calm: bool) -> Arrangement:
    """One above the other: the list, then the answer or what was asked for instead, then the log."""
    main = "machine" if focused == "machine" else "detail"
    if height < 18:
        return Arrangement("-stack", frozenset({"incidents", "log" if focused == "log" else main}))
    if height >= 42:
        return Arrangement("-stack -all", frozenset(PANES))
    panes = {main, "log"}
    if not calm:
        panes.add("incidents")
    return Arrangement("-stack", frozenset(panes))
