"""The log as the screen keeps it: the last records of every source in the order they came, and where the incidents are.

Bounded; the oldest go first. Each entry has a number that never changes, so that a mark or a search keeps its line while
others go.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gpuwatch.core.incidents import Incident
from gpuwatch.core.records import Level, LogRecord
from gpuwatch.texts import visible

MOST_ENTRIES = 20_000
LONGEST_SHOWN = 4_000
"""Characters of a record that are shown."""
_COLOURS = re.compile(rb"\x1b\[[0-9;:]*m")
_CLOCK = re.compile(rb"\d\d:\d\d:\d\d")
_LOOK_AHEAD = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and which log it is from."""

    number: int
    source: str
    record: LogRecord

    @property
    def level(self) -> Level | None:
        """The record's level."""
        return self.record.level

    def clock(self) -> str:
        """The time of day it was printed with; empty where it has none."""
        found = _CLOCK.search(self.record.stamp) if self.record.stamp else None
        return found[0].decode() if found else ""

    def words(self, *, raw: bool = False) -> str:
        """What the screen shows of it.

        Colour codes are dropped. Stamps and level tags have their own columns. Where a record holds other escape codes, or
        where `raw` asks for it, it is shown as it was printed, every code as a visible sign.
        """
        record = self.record
        shown = _COLOURS.sub(b"", record.raw)
        if not raw and (b"\x1b" not in shown or b"%|" in shown):
            shown = record.text
        words = visible(shown[: 4 * LONGEST_SHOWN].decode("utf-8", "replace"))
        if len(words) > LONGEST_SHOWN or record.long or len(shown) > 4 * LONGEST_SHOWN:
            words = words[:LONGEST_SHOWN] + " …"
        return words


@dataclass(slots=True)
class Logbook:
    """The entries."""

    most: int = MOST_ENTRIES
    entries: deque[Entry] = field(default_factory=deque)
    next: int = 0
    """The number of the entry that comes next."""
    longest: int = 0
    """Bytes of the longest record that came; no row is longer in cells."""
    stamped: bool = False
    """Whether any record had a time."""
    sources: list[str] = field(default_factory=list)
    marks: dict[int, Incident] = field(default_factory=dict)
    """Incident by the number of its first entry."""
    _places: dict[str, int] = field(default_factory=dict)
    _lines: dict[tuple[str, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def first(self) -> int:
        """The number of the oldest entry."""
        return self.next - len(self.entries)

    def extend(self, source: str, records: Sequence[LogRecord]) -> int:
        """Add records; give how many old ones went."""
        if source not in self.sources:
            self.sources.append(source)
        for record in records:
            self.entries.append(Entry(self.next, source, record))
            before = self._lines.get((source, record.line))
            if before is None or before < self.next - _LOOK_AHEAD:
                self._lines[(source, record.line)] = self.next
            self.longest = max(self.longest, min(len(record.raw), LONGEST_SHOWN) + 2)
            self.stamped = self.stamped or record.stamp is not None
            self.next += 1
        gone = max(len(self.entries) - self.most, 0)
        for _ in range(gone):
            entry = self.entries.popleft()
            if self._lines.get((entry.source, entry.record.line)) == entry.number:
                del self._lines[(entry.source, entry.record.line)]
            if (marked := self.marks.pop(entry.number, None)) is not None:
                self._places.pop(marked.id, None)
        return gone

    def mark(self, incident: Incident) -> None:
        """Remember where an incident begins; it comes again as it changes."""
        place = self._places.get(incident.id)
        if place is None:
            place = self._find(incident)
        if place is not None:
            self._places[incident.id] = place
            self.marks[place] = incident

    def place_of(self, incident_id: str) -> int | None:
        """The number of an incident's first entry, while it is kept."""
        return self._places.get(incident_id)

    def row_of(self, number: int) -> int:
        """Where an entry stands now."""
        return number - self.first

    def at(self, row: int) -> Entry | None:
        """The entry in a row."""
        return self.entries[row] if 0 <= row < len(self.entries) else None

    def since(self, number: int, *, raw: bool) -> Iterator[tuple[int, str]]:
        """Numbers and words of the entries from this one on."""
        skip = max(number - self.first, 0)
        entries: Iterable[Entry] = self.entries
        if skip:
            entries = (self.entries[place] for place in range(skip, len(self.entries)))
        for entry in entries:
            yield entry.number, entry.words(raw=raw)

    def _find(self, incident: Incident) -> int | None:
        """The entry that tells it: of the line's records (a \\r cuts a line into several) the one that says its text."""
        start = self._lines.get((incident.source, incident.line))
        if start is None:
            return None
        for number in range(start, min(start + _LOOK_AHEAD, self.next)):
            entry = self.at(self.row_of(number))
            if entry is None or (entry.source == incident.source and entry.record.line != incident.line):
                break
            shown = entry.record.text.decode("utf-8", "replace")
            if entry.source == incident.source and shown and incident.text.startswith(shown[:200]):
                return number
        return start if self.at(self.row_of(start)) is not None else None
