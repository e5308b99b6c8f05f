"""What a person looks for in the log: plain words, or `re:` and a pattern that may not take long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import regex

from gpuwatch.core.wrapping import clean
from gpuwatch.errors import UsageError
from gpuwatch.texts import text

_PATTERN = "re:"
_PIECE_SECONDS = 0.25
"""For one look through a piece of the log, beside the screen."""
_LINE_SECONDS = 0.02
_SCREEN_SECONDS = 0.02
"""For what is marked on the screen in one line; a pattern that takes longer is marked by whole lines from then on."""
_MOST_STRIKES = 20
_LONGEST_LINE = 16_000


@dataclass(slots=True)
class Search:
    """One search. Lower-case words find capitals too; a capital in them asks for itself."""

    words: str
    pattern: Any = None
    slow: bool = False
    """Whether marking what was found took too long."""
    strikes: int = 0
    """How often the pattern took too long over a line, which then counts as one that does not hold it."""
    _needle: bytes | None = field(default=None)

    def __post_init__(self) -> None:
        if self.pattern is None and self.words.isascii():
            self._needle = self.words.encode()

    @classmethod
    def of(cls, typed: str) -> Search:
        """The search that was typed. A pattern that cannot be read is a UsageError."""
        if not typed.startswith(_PATTERN):
            return cls(typed)
        written = typed.removeprefix(_PATTERN)
        if not written:
            raise UsageError(text("The pattern cannot be read: {error}", error="re:"))
        try:
            flags = regex.MULTILINE | (0 if has_capital(written) else regex.IGNORECASE)
            return cls(typed, regex.compile(written, flags))
        except (regex.error, RecursionError, OverflowError, ValueError) as error:
            raise UsageError(text("The pattern cannot be read: {error}", error=str(error))) from None

    @property
    def given_up(self) -> bool:
        """Whether the pattern took too long too often."""
        return self.strikes >= _MOST_STRIKES

    # -- in pieces of the log, beside the screen -----------------------------------------------------------------------------

    def rows_in(self, lines: bytes) -> list[int]:
        """Which of these whole lines hold it, the first being 0. Escape codes are looked past."""
        lines = clean(lines)
        if self.pattern is not None:
            return list(self._pattern_rows(lines.decode("utf-8", "replace")))
        any_case = not has_capital(self.words)
        if self._needle is not None:
            return list(rows_of(lines.lower() if any_case else lines, self._needle, b"\n"))
        decoded = lines.decode("utf-8", "replace")
        return list(rows_of(decoded.lower() if any_case else decoded, self.words, "\n"))

    def _pattern_rows(self, lines: str) -> Iterator[int]:
        row, place = 0, 0
        while place < len(lines) and not self.given_up:
            try:
                found = self.pattern.search(lines, place, timeout=_PIECE_SECONDS, concurrent=True)
            except TimeoutError:
                yield from self._line_by_line(lines, place, row)
                return
            if found is None:
                return
            begin = lines.rfind("\n", 0, found.start()) + 1
            end = lines.find("\n", found.start())
            end = len(lines) if end < 0 else end
            row += lines.count("\n", place, begin)
            if found.start() >= len(lines):
                return
            if found.end() <= end or self._holds(lines[begin:end]):
                yield row
            row, place = row + 1, end + 1

    def _line_by_line(self, lines: str, place: int, row: int) -> Iterator[int]:
        """A piece over which the pattern took too long: each line for itself."""
        for number, line in enumerate(lines[place:].split("\n"), row):
            if self.given_up:
                return
            if line and self._holds(line):
                yield number

    def _holds(self, line: str) -> bool:
        try:
            return bool(self.pattern.search(line[:_LONGEST_LINE], timeout=_LINE_SECONDS, concurrent=True))
        except TimeoutError:
            self.strikes += 1
            return False

    # -- in what is on the screen --------------------------------------------------------------------------------------------

    def places(self, words: str, most: int = 50) -> list[tuple[int, int]]:
        """Where in a line it stands."""
        if self.pattern is not None:
            return [] if self.slow else self._pattern_places(words, most)
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
        started = time.perf_counter()
        try:
            for match in self.pattern.finditer(words, timeout=_SCREEN_SECONDS):
                if match.end() > match.start():
                    places.append(match.span())
                if len(places) >= most:
                    break
        except TimeoutError:
            self.slow = True
        self.slow = self.slow or time.perf_counter() - started > _SCREEN_SECONDS
        return places


def rows_of(lines: Any, needle: Any, newline: Any) -> Iterator[int]:
    """The lines that hold the needle, bytes in bytes or words in words."""
    row, counted = 0, 0
    place = lines.find(needle) if needle else -1
    while place >= 0:
        row += lines.count(newline, counted, place)
        yield row
        counted = lines.find(newline, place)
        if counted < 0:
            return
        place = lines.find(needle, counted)


def has_capital(words: str) -> bool:
    """Whether a capital is among the words."""
    return words != words.lower()
