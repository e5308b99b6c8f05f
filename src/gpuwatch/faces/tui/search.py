"""What a person looks for in the log: plain words, or `re:` and a pattern that may not take long."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import regex

from gpuwatch.errors import UsageError
from gpuwatch.texts import text

_PATTERN = "re:"
_SECONDS = 0.5
"""For one look through the whole book."""
_LINE_SECONDS = 0.05


@dataclass(slots=True)
class Search:
    """One search. Lower-case words find capitals too; a capital in them asks for itself."""

    words: str
    pattern: Any = None
    found: list[int] = field(default_factory=list)
    """The numbers of the entries that hold it, ascending."""
    cut_short: bool = False
    """True where a pattern took too long and not everything was looked at."""

    @classmethod
    def of(cls, typed: str) -> Search:
        """The search that was typed. A pattern that cannot be read is a UsageError."""
        if not typed.startswith(_PATTERN):
            return cls(typed)
        written = typed.removeprefix(_PATTERN)
        try:
            return cls(typed, regex.compile(written, 0 if has_capital(written) else regex.IGNORECASE))
        except regex.error as error:
            raise UsageError(text("The pattern cannot be read: {error}", error=str(error))) from None

    def look(self, entries: Iterable[tuple[int, str]]) -> None:
        """Look through entries that were not looked at yet, in order."""
        deadline = time.monotonic() + _SECONDS
        for number, words in entries:
            if self.pattern is not None and time.monotonic() > deadline:
                self.cut_short = True
                return
            if self.places(words, most=1):
                self.found.append(number)

    def forget_before(self, number: int) -> None:
        """Entries before this one are gone."""
        if self.found and self.found[0] < number:
            self.found = [place for place in self.found if place >= number]

    def places(self, words: str, most: int = 50) -> list[tuple[int, int]]:
        """Where in a line it stands."""
        if self.pattern is not None:
            return self._pattern_places(words, most)
        if not self.words:
            return []
        look_in = words if has_capital(self.words) else words.lower()
        if len(look_in) != len(words):  # a few letters grow when they are made small
            look_in = words
        places: list[tuple[int, int]] = []
        start = look_in.find(self.words)
        while start >= 0 and len(places) < most:
            places.append((start, start + len(self.words)))
            start = look_in.find(self.words, start + len(self.words))
        return places

    def _pattern_places(self, words: str, most: int) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        try:
            for match in self.pattern.finditer(words, timeout=_LINE_SECONDS):
                if match.end() > match.start():
                    places.append(match.span())
                if len(places) >= most:
                    break
        except TimeoutError:
            self.cut_short = True
        return places


def has_capital(words: str) -> bool:
    """Whether a capital is among the words."""
    return words != words.lower()
