"""The line below the pages' names that stays until it is dismissed: a first hint, what could not be read anew."""

from __future__ import annotations

from textual.geometry import Size

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import Reload
from gpuwatch.faces.tui.paint import Span, cut, row
from gpuwatch.faces.tui.pane import OneLine
from gpuwatch.faces.tui.wording import said
from gpuwatch.texts import Text, text

FIRST_HINT = text("? lists every key, e goes to the next failure, q quits; Esc hides this.")
_FROM_ROWS = 10
"""A lower terminal has no row to spare."""


class NoticeLine(OneLine):
    """The line."""

    def __init__(self, words: Text | None, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._words = words
        self._sign: Span = (" · ", "info")
        self.display = False

    def tell(self, words: Text | None, *, good: bool = False) -> None:
        """Say from now on what is wrong, or what went well, or nothing."""
        self._words, self._sign = words, (" ✓ ", "good") if good else (" ▲ ", "warning")

    def draw(self, size: Size) -> None:
        """Draw it for a terminal of that size."""
        self.display = self._words is not None and size.height >= _FROM_ROWS
        if self._words is not None:
            self.show(row(self._sign, (cut(said(self._words), max(size.width - 4, 8)), "text"), back="quiet"))


def rules_are_new(before: Snapshot, now: Snapshot) -> bool:
    """Whether other rules are in force than before."""
    told = now.rules_reload not in (None, before.rules_reload)
    return told and now.rules is not before.rules and now.rules is not None


def reload_trouble(rules: Reload | None, mutes: Reload | None) -> Text | None:
    """What stands in the person's files and is not in force; None where all is."""
    if rules is not None and rules.refused is not None:
        return text("The rules stay as they were: {reason}", reason=rules.refused)
    if mutes is not None and mutes.refused is not None:
        return text("The mutes stay as they were: {reason}", reason=mutes.refused)
    return None
