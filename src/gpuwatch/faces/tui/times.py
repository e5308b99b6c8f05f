"""Where in the log a time is, and how many lines, warnings and errors each stretch of it had.

Where lines carry a time of day, that one counts; where they do not, the time at which they came. Lines are taken to be in
order of time; past midnight the newest day comes first. These look through the spool and belong on a thread.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from gpuwatch.adapters.spool import Gone
from gpuwatch.errors import UsageError
from gpuwatch.faces.tui.entry import tagged_lines
from gpuwatch.faces.tui.logbook import Logbook
from gpuwatch.texts import text

_CLOCK = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d))?")
_AGO = re.compile(r"-(\d{1,6})\s?([smh]?)")
_STAMP = re.compile(rb"(?m)^[^\n]{0,48}?(\d\d):(\d\d):(\d\d)(?![\d:])")
_DAY_SECONDS = 86_400
_FINE_BLOCKS = 64
_SAMPLE_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of the log."""

    lines: int = 0
    warnings: int = 0
    errors: int = 0
    failures: int = 0
    """Lines that an incident is told on."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """The log in stretches that take the same time each."""

    begin: float
    """Seconds: of the day, or since 1970 where `stamped` is False."""
    end: float
    stamped: bool
    stretches: tuple[Stretch, ...]


def seconds_of(found: re.Match[bytes]) -> int:
    """A time of day as seconds."""
    return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3])


def row_for(book: Logbook, typed: str) -> int:
    """The row that was asked for: a line's number, a time of day, or so long ago. A UsageError where it is none of them."""
    typed = typed.strip()
    if typed.isascii() and typed.isdigit():
        return row_of_line(book, int(typed[:18]))
    if (ago := _AGO.fullmatch(typed)) is not None:
        seconds = int(ago[1]) * {"": 60, "s": 1, "m": 60, "h": 3600}[ago[2]]
        return row_came_at(book, time.time() - seconds)
    if (clock := _CLOCK.fullmatch(typed)) is not None and int(clock[1]) < 24 and int(clock[2]) < 60:
        seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + min(int(clock[3] or 0), 59)
        row = row_stamped_at(book, seconds) if book.stamped else None
        return row if row is not None else row_came_at(book, latest(seconds))
    raise UsageError(text("Type a line's number, a time such as 10:42 or 10:42:05, or -5m for five minutes ago."))


def row_of_line(book: Logbook, line: int) -> int:
    """The row of a log's line; where there are several logs, the row of that number."""
    place = book.place_of_line(book.sources[0], line) if len(book.sources) == 1 else None
    wanted = place if place is not None else line - 1
    return min(max(wanted, book.first), max(book.end - 1, book.first))


def row_came_at(book: Logbook, at: float) -> int:
    """The row that came at that time, or next."""
    moments = book.moments()
    place = bisect_left(moments, (at, 0))
    row = moments[place][1] if place < len(moments) else book.end - 1
    return min(max(row, book.first), max(book.end - 1, book.first))


def latest(seconds: int) -> float:
    """The last moment that a clock showed this time of day."""
    now = datetime.now().astimezone()
    at = now.replace(hour=seconds // 3600, minute=seconds % 3600 // 60, second=seconds % 60, microsecond=0).timestamp()
    return at if at <= now.timestamp() else at - _DAY_SECONDS


def row_stamped_at(book: Logbook, seconds: int) -> int | None:
    """The first row whose own time is this or later, of the newest day that has one before it; None where none has a time."""
    begins = [begin for begin, *_rest in book.spool.tallies()]
    after = book.end
    seen = False
    for row in reversed(begins):
        sample = first_stamp(book, max(row, book.first))
        if sample is None:
            continue
        seen = True
        if sample <= seconds:
            return next(stamped_from(book, max(row, book.first), after, seconds), min(after, book.end - 1))
        after = row
    return book.first if seen else None


def first_stamp(book: Logbook, row: int) -> int | None:
    """The first time of day that is told from this row on, in a few kilobytes."""
    try:
        found = _STAMP.search(book.spool.read(book.spool.line_start(row), _SAMPLE_BYTES))
    except Gone:
        return None
    return seconds_of(found) if found is not None and valid(found) else None


def valid(found: re.Match[bytes]) -> bool:
    """Whether it is a time of day."""
    return int(found[1]) < 24 and int(found[2]) < 60 and int(found[3]) < 60


def stamped_from(book: Logbook, row: int, end: int, seconds: int) -> Iterator[int]:
    """Rows from this one to the end whose time is not before."""
    try:
        start, stop = book.spool.line_start(row), book.spool.line_start(end)
        lines = book.spool.read(start, stop - start)
    except Gone:
        return
    for found in _STAMP.finditer(lines):
        if valid(found) and seconds_of(found) >= seconds:
            yield row + lines.count(b"\n", 0, found.start(1))


def histogram(book: Logbook, columns: int) -> Histogram | None:
    """The log in so many stretches; None where it tells no span of time."""
    points = list(stamped_points(book)) if book.stamped else []
    stamped = len(points) > 1
    if not stamped:
        points = list(came_points(book))
    if len(points) < 2 or columns < 1:
        return None
    begin, end = points[0].at, max(point.at for point in points)
    if end <= begin:
        return None
    marks = sorted(book.marks)
    made = [[0, 0, 0, 0] for _ in range(columns)]
    for point in points:
        cell = made[min(max(int((point.at - begin) / (end - begin) * columns), 0), columns - 1)]
        cell[0] += point.lines
        cell[1] += point.warnings
        cell[2] += point.errors
        cell[3] += bisect_left(marks, point.row + point.lines) - bisect_left(marks, point.row)
    return Histogram(begin, end, stamped, tuple(Stretch(*cell) for cell in made))


@dataclass(frozen=True, slots=True)
class Point:
    """A moment, and the lines from it to the next."""

    at: float
    """Seconds, as a histogram's begin."""
    row: int
    """The first of the lines."""
    lines: int
    warnings: int
    errors: int


def stamped_points(book: Logbook) -> Iterator[Point]:
    """Times that lines tell, and what comes up to the next; a day more each time the clock goes back."""
    spool = book.spool
    fine = spool.blocks <= _FINE_BLOCKS
    before, day = -1.0, 0
    for begin, count, errors, warnings in spool.tallies():
        first = max(begin, book.first)
        try:
            start = spool.line_start(first)
            size = spool.line_start(min(begin + count, book.end)) - start if fine else _SAMPLE_BYTES
            lines = spool.read(start, size)
        except Gone:
            continue
        found = [match for match in _STAMP.finditer(lines) if valid(match)]
        if not fine:
            found = found[:1]
        row, counted = first, 0
        for place, match in enumerate(found):
            at = seconds_of(match) + day * _DAY_SECONDS
            if at < before - _DAY_SECONDS / 2:
                day += 1
                at += _DAY_SECONDS
            before = max(before, at)
            if not fine:
                yield Point(at, first, count, warnings, errors)
                continue
            row += lines.count(b"\n", counted, match.start())
            counted = match.start()
            end = found[place + 1].start() if place + 1 < len(found) else len(lines)
            told = tagged_lines(lines[counted:end])
            yield Point(at, row, max(lines.count(b"\n", counted, end), 1), told[1], told[0])


def came_points(book: Logbook) -> Iterator[Point]:
    """Times at which lines came. Levels are known by block only, and shared out where several seconds fell into one."""
    moments = book.moments()
    first = book.first
    kept = [(at, max(row, first)) for at, row in moments]
    blocks = list(book.spool.tallies())
    begins = [begin for begin, *_rest in blocks]
    left = {begin: (errors, warnings) for begin, _count, errors, warnings in blocks}
    for place, (at, row) in enumerate(kept):
        end = kept[place + 1][1] if place + 1 < len(kept) else book.end
        told = [
            left.pop(begin, (0, 0))
            for begin in begins[max(bisect_right(begins, row) - 1, 0) : bisect_left(begins, end)]
        ]
        yield Point(at, row, end - row, sum(warnings for _e, warnings in told), sum(errors for errors, _w in told))
