"""The log as the screen keeps it: the lines of every source in the order they came, and where the incidents are.

The bytes go into a spool on disk as they are read and are cut into what a person sees only when they come into view: ten
million lines cost as little memory as ten. A row is a line up to its newline; what was printed over a progress bar stands
behind it, and a line that is nothing but bars is its last frame. Rows are numbered from the first that ever came, so that a
mark or a search keeps its line while others go.
"""

from __future__ import annotations

import re
import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gpuwatch.adapters.spool import Gone, Spool
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import LogChunk, LogRestarted, LogResumed, SourceDown
from gpuwatch.core.records import unprefixed
from gpuwatch.faces.tui.entry import LONGEST_LINE_BYTES, Entry, squeezed, tagged_lines

MOST_MARKS = 2_000
_READ_BYTES = 16 * 1024
_TAIL_BYTES = 4 * 1024
_MOST_RUNS = 100_000
_MOST_MOMENTS = 50_000
_LOOKED_AT_FOR_STAMPS = 30
_SQUEEZE_BYTES = 4 * 1024
_MOST_PLACES = 8
_FRAME = re.compile(rb"[^|\r\n]{0,200}?(?<!\d)\d{1,3}%\|[^|\r\n]{0,400}\|\s*[\d.,?]+\s?\w?i?B?/[^\r\n]{0,200}")


@dataclass(slots=True)
class _Source:
    """One log: what of its last line has come, and where its lines are among the rows."""

    name: str
    half: bytearray = field(default_factory=bytearray)
    dropping: bool = False
    """The half line is longer than is kept of one."""
    line: int = 1
    """The number that its next line has in its own log."""
    bar: str = ""
    bar_at: float = 0.0
    rows: array[int] = field(default_factory=lambda: array("q"))
    """Where runs of its lines begin among the rows, and the number of the first line of each."""
    lines: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("q"))

    def places_of(self, line: int) -> Iterator[int]:
        """The rows of a line, the newest first: a log that began anew has it twice."""
        for place in range(len(self.rows) - 1, -1, -1):
            if self.lines[place] <= line < self.lines[place] + self.lengths[place]:
                yield self.rows[place] + line - self.lines[place]


class Logbook:
    """The rows. `take` is called on the pipeline's thread, everything else on the screen's."""

    def __init__(self, spool: Spool | None = None, now: Callable[[], float] = time.time) -> None:
        self.spool = spool if spool is not None else Spool(count_levels=tagged_lines)
        self.stamped = False
        """Whether a line had a time."""
        self.marks: dict[int, Incident] = {}
        """Incident by the row that tells it."""
        self.longest = 0
        """Cells of the longest row that was drawn."""
        self._now = now
        self._lock = threading.RLock()
        self._sources: dict[str, _Source] = {}
        self._run_rows, self._run_sources = array("q"), array("H")
        self._names: list[str] = []
        self._last: str | None = None
        self._moments, self._moment_rows = array("d"), array("q")
        self._places: dict[str, int] = {}
        self._unplaced: dict[str, Incident] = {}

    # -- what comes in ---------------------------------------------------------------------------------------------------

    def take(self, observations: Sequence[object]) -> None:
        """Keep what logs say; on the pipeline's thread."""
        for observation in observations:
            if isinstance(observation, LogChunk):
                self._take_chunk(self._source(observation.source), observation.data)
            elif isinstance(observation, LogRestarted):
                source = self._source(observation.source)
                self._end_line(source)
                source.line = 1
            elif isinstance(observation, LogResumed):
                source = self._source(observation.source)
                self._end_line(source)
                source.line = observation.line + 1
            elif isinstance(observation, SourceDown) and observation.source in self._sources:
                self._end_line(self._sources[observation.source])

    def _source(self, name: str) -> _Source:
        if name not in self._sources:
            with self._lock:
                self._sources[name] = _Source(name)
                self._names.append(name)
        return self._sources[name]

    def _take_chunk(self, source: _Source, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        if end:
            lines = data[:end]
            if source.half:
                lines = bytes(source.half) + lines
            self._append(source, lines)
            source.half.clear()
            source.dropping = False
        self._keep_half(source, data[end:])
        if (place := data.rfind(b"%|")) >= 0:
            begin = max(data.rfind(b"\n", 0, place), data.rfind(b"\r", 0, place)) + 1
            if (frame := _FRAME.match(data, max(begin, place - 200))) is not None:
                source.bar, source.bar_at = frame[0].decode("utf-8", "replace"), self._now()

    def _keep_half(self, source: _Source, rest: bytes) -> None:
        room = LONGEST_LINE_BYTES - len(source.half)
        if len(rest) > room and b"\r" not in rest:
            source.dropping = True
            rest = rest[: max(room, 0)]
        source.half += rest
        if len(source.half) > _SQUEEZE_BYTES and b"\r" in rest:
            source.half[:] = squeezed(bytes(source.half))
            del source.half[LONGEST_LINE_BYTES:]

    def _end_line(self, source: _Source) -> None:
        """The log ended or begins anew: its half line is a line."""
        if source.half.strip():
            self._append(source, bytes(source.half) + b"\n")
        source.half.clear()
        source.dropping = False

    def _append(self, source: _Source, lines: bytes) -> None:
        if not self.stamped:
            first = lines[: 64 * _LOOKED_AT_FOR_STAMPS].split(b"\n", _LOOKED_AT_FOR_STAMPS)
            self.stamped = any(unprefixed(line[:400])[2] is not None for line in first[:-1])
        row = self.spool.rows
        self.spool.append(lines)
        count = self.spool.rows - row
        with self._lock:
            known = len(source.rows) and source.lines[-1] + source.lengths[-1] == source.line
            if known and source.rows[-1] + source.lengths[-1] == row:
                source.lengths[-1] += count
            else:
                source.rows.append(row)
                source.lines.append(source.line)
                source.lengths.append(count)
            source.line += count
            if self._last != source.name:
                self._last = source.name
                self._run_rows.append(row)
                self._run_sources.append(self._names.index(source.name))
            if len(self._run_rows) > _MOST_RUNS:
                self._forget_runs()
            now = self._now()
            if not self._moments or now - self._moments[-1] >= 1 or now < self._moments[-1]:
                self._moments.append(now)
                self._moment_rows.append(row)
                if len(self._moments) > _MOST_MOMENTS:
                    del self._moments[1::2]
                    del self._moment_rows[1::2]

    def _forget_runs(self) -> None:
        """Forget where the older half of the lines came from: many logs that take turns at every line."""
        half = len(self._run_rows) // 2
        del self._run_rows[:half]
        del self._run_sources[:half]
        for source in self._sources.values():
            gone = bisect_right(source.rows, self._run_rows[0]) - 1
            if gone > 0:
                for column in (source.rows, source.lines, source.lengths):
                    del column[:gone]

    # -- the rows --------------------------------------------------------------------------------------------------------

    @property
    def first(self) -> int:
        """The oldest row that is kept."""
        return self.spool.first_row

    @property
    def end(self) -> int:
        """The row that comes next."""
        return self.spool.rows

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def sources(self) -> list[str]:
        """The names of the logs."""
        return self._names

    def half(self) -> Entry | None:
        """What has come of the last line that is not complete, where that is words and no bar."""
        with self._lock:
            for source in self._sources.values():
                if source.half.strip():
                    entry = Entry.of(self.end, source.name, bytes(source.half), long=source.dropping)
                    if entry.text.strip() and not entry.is_bar:
                        return entry
        return None

    def bars(self) -> list[tuple[str, str, float]]:
        """The last progress bar of each log: the log, the frame, when it was drawn."""
        return [(source.name, source.bar, source.bar_at) for source in self._sources.values() if source.bar]

    def at(self, row: int) -> Entry | None:
        """A row; None where there is none, or no longer."""
        try:
            raw, length = self.spool.line(row, _READ_BYTES)
            if length > len(raw) and b"\r" in raw:  # what was printed last is what a terminal would show
                start = self.spool.line_start(row)
                raw = raw[:-_TAIL_BYTES] + self.spool.read(start + length - _TAIL_BYTES, _TAIL_BYTES)
        except Gone:
            return None
        return Entry.of(row, self.source_of(row), raw, long=length > len(raw) or length >= LONGEST_LINE_BYTES)

    def source_of(self, row: int) -> str:
        """Which log a row is from; empty where that was forgotten."""
        with self._lock:
            place = bisect_right(self._run_rows, row) - 1
            return self._names[self._run_sources[place]] if place >= 0 else ""

    def place_of_line(self, source: str, line: int) -> int | None:
        """The row of a log's line."""
        with self._lock:
            known = self._sources.get(source)
            return next(known.places_of(line), None) if known is not None else None

    # -- incidents -------------------------------------------------------------------------------------------------------

    def mark(self, incident: Incident) -> None:
        """Remember where an incident is told; it comes again as it changes."""
        place = self._places.get(incident.id)
        if place is None:
            place = self._find(incident)
        if place is None:
            self._unplaced[incident.id] = incident
            if len(self._unplaced) > MOST_MARKS:
                del self._unplaced[next(iter(self._unplaced))]
            return
        self._places[incident.id] = place
        self.marks[place] = incident
        if len(self.marks) > MOST_MARKS:
            oldest = min(self.marks)
            self._places.pop(self.marks.pop(oldest).id, None)

    def settle(self) -> None:
        """Mark what was told on a line that is complete only now; forget marks of lines that are gone."""
        waiting, self._unplaced = self._unplaced, {}
        for incident in waiting.values():
            self.mark(incident)
        first = self.first
        for row in [row for row in self.marks if row < first]:
            self._places.pop(self.marks.pop(row).id, None)

    def place_of(self, incident_id: str) -> int | None:
        """The row of an incident, while it is kept."""
        return self._places.get(incident_id)

    def _find(self, incident: Incident) -> int | None:
        with self._lock:
            source = self._sources.get(incident.source)
            places = list(source.places_of(incident.line)) if source is not None else []
        kept = [place for place in places if self.first <= place < self.end]
        return next((place for place in kept[:_MOST_PLACES] if self._tells(place, incident)), kept[0] if kept else None)

    def _tells(self, row: int, incident: Incident) -> bool:
        entry = self.at(row)
        return entry is not None and incident.text[:80].strip() in entry.text.decode("utf-8", "replace")

    # -- time ------------------------------------------------------------------------------------------------------------

    def moments(self) -> list[tuple[float, int]]:
        """When which row came, about a second apart."""
        with self._lock:
            return list(zip(self._moments, self._moment_rows, strict=True))
