"""One log's bytes -> its incidents: reads every record, or skims and leaves out unread what tells nothing."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from gpuwatch.core.blocks import CHAINED, END_MARKS, ENDS
from gpuwatch.core.failures import Failures
from gpuwatch.core.gathering import Gathering
from gpuwatch.core.matching.matcher import Candidates, Matcher
from gpuwatch.core.matching.scan import Scan
from gpuwatch.core.observations import SourceKind
from gpuwatch.core.records import LONGEST_RECORD_BYTES, Cutter, LogRecord, plain_text
from gpuwatch.core.rules import Rule
from gpuwatch.core.talk import is_talk
from gpuwatch.core.wrapping import NO_BREAK_SPACE, PACKED

_BACK_RECORDS = 32
_BACK_BYTES = 16 * 1024
_REVEAL_AFTER = timedelta(milliseconds=300)
_SETTLE_AFTER = timedelta(seconds=30)
_PLAIN_BYTES = 2048
_NOT_TEXT = (b"\r", b"%|", b"\x1b", NO_BREAK_SPACE[:1], PACKED)
"""What makes a line more than a prefix and its words."""
_ENDS_OR_ESCAPED = re.compile(b"|".join((END_MARKS.pattern, b"\x1b", NO_BREAK_SPACE, re.escape(PACKED))))
"""With escape sequences in it a line may say that a prompt ended without showing it."""
_TELLING = (CHAINED, *ENDS)
"""What has a meaning of its own, whatever the rules say, and for which no line is nominated."""
_NOT_PLAIN = (*_NOT_TEXT, *_TELLING)

_Stretch = tuple[bytes, int, int]
"""Bytes, and where in them a stretch of lines begins and ends."""
_NOTHING: _Stretch = (b"", 0, 0)


class LogReader:
    """Everything about one log: its cutter, and its failures as far as they are told."""

    def __init__(self, source: str, kind: SourceKind, matcher: Matcher, before_lines: int = 0) -> None:
        self.source = source
        self.kind = kind
        self.cutter = Cutter()
        self._failures = Failures(source, matcher, self._earlier, before_lines=before_lines)
        self._recent: deque[LogRecord] = deque(maxlen=_BACK_RECORDS)
        self._quiet_since: datetime | None = None
        self._before: Scan | None = None
        """What was skimmed before, read or left out."""
        self._skimmed: _Stretch | None = None
        """What is skimmed now, up to the line that is read."""

    @property
    def matcher(self) -> Matcher:
        """The rules in force."""
        return self._failures.matcher

    @matcher.setter
    def matcher(self, matcher: Matcher) -> None:
        self._failures.matcher = matcher

    @property
    def epoch(self) -> int:
        """How often the log began anew."""
        return self._failures.epoch

    @property
    def fresh(self) -> bool:
        """Whether what was read last happened since we came."""
        return self._failures.fresh

    @property
    def at_rest(self) -> bool:
        """Whether all that was read is told: no half line, nothing that further lines belong to."""
        return not self.cutter.waiting and self._failures.at_rest

    @property
    def in_suspense(self) -> bool:
        """Whether a moment without a line tells something: a half line becomes one, a failure's end is known."""
        return not self._failures.at_rest or (self.cutter.waiting and not self.cutter.draws_bar)

    def resume(self, line: int, epoch: int) -> None:
        """Read on where an earlier run stopped, after so many lines of what the log is now."""
        self.cutter.restart()
        self.cutter.line = line + 1
        self._failures.epoch = epoch

    def feed(self, data: bytes, at: datetime, *, fresh: bool) -> list[LogRecord]:
        """Read the next bytes; give the records they completed."""
        self._quiet_since, self._failures.fresh = at, fresh
        return self._read_all(self.cutter.feed(data), at)

    def skim(self, data: bytes | Scan, at: datetime, *, fresh: bool) -> int:
        """Read the next bytes and leave out unread what tells nothing: the same incidents as `feed`, no records to show.

        Gives the number of newlines. A line is left out where no block is open, nothing in it can match a rule, begin a
        failure or end a condition, and none is pending that a prompt's end would settle. A scan stands for its lines, which
        these rules were looked for in before.
        """
        self._quiet_since, self._failures.fresh = at, fresh
        half = self.cutter.take_half() if self.matcher.skips else None
        if isinstance(data, Scan):
            if half == b"":
                self._skim(data, at)
                return data.newlines
            data = data.lines
        end = data.rfind(b"\n") + 1
        if half is None or not end:
            self._read_all(self.cutter.feed((half or b"") + data), at)
            return data.count(b"\n")
        lines = half + data[:end] if half or end < len(data) else data
        scan = self.matcher.scan(lines, 0, len(lines))
        self._skim(scan, at)
        if end < len(data):
            self._read_all(self.cutter.feed(data[end:]), at)
        return scan.newlines

    def _skim(self, scan: Scan, at: datetime) -> None:
        if scan.hits or self._failures.pending:
            self._skim_lines(scan, at)
        else:
            self.cutter.skip(scan.newlines)
        if scan.size_bytes < _BACK_BYTES:
            before = self._tail_before() + scan.lines
            scan = Scan(before, 0, len(before), 0, (), escaped=False)
        self._before = scan
        self._skimmed = _NOTHING

    def _skim_lines(self, scan: Scan, at: datetime) -> None:
        data, place, hits, left = scan.data, scan.begin, scan.hits, scan.newlines
        hit = 0
        while place < scan.end:
            if self._failures.is_quiet(self.cutter.line):
                while hit < len(hits) and hits[hit][0] < place:
                    hit += 1
                following = self._next_end(scan, place, hits[hit][0] if hit < len(hits) else scan.end)
                if following >= scan.end:
                    break
                begin = data.rfind(b"\n", place, following) + 1 or place
                if begin > place:
                    skipped = scan.count(data, place, begin)
                    self.cutter.skip(skipped)
                    left -= skipped
                place = begin
            elif taken := self._skim_plain(scan, place, hits[hit][0] if hit < len(hits) else scan.end):
                count, place = taken
                left -= count
                continue
            end = data.find(b"\n", place) + 1
            first = hit
            while hit < len(hits) and hits[hit][0] < end:
                hit += 1
            self._skimmed = (data, scan.begin, place)
            candidates = self.matcher.candidates(hits[first:hit]) if hit > first else None
            line = data[place:end]
            if len(line) > LONGEST_RECORD_BYTES or any(map(line.__contains__, _NOT_TEXT)):
                self._read_line(line, candidates, at)
            else:
                self._read_text(line[:-1], candidates, at)
            left -= 1
            place = end
        self.cutter.skip(left)

    def _skim_plain(self, scan: Scan, place: int, before: int) -> tuple[int, int] | None:
        """Read lines from here on that no rule speaks of, in one go, where nothing is nominated before an offset.

        Gives how many were read and where the next begins; None where the first has to be read by itself.
        """
        data = scan.data
        end = data.rfind(b"\n", place, min(before, place + _PLAIN_BYTES)) + 1
        if not end:
            return None
        for mark in _NOT_PLAIN:
            if (found := data.find(mark, place, end)) >= 0:
                end = data.rfind(b"\n", place, found) + 1
        if end <= place:
            return None
        self._skimmed = (data, scan.begin, place)
        plain = data[place : end - 1].split(b"\n")
        count = self._failures.read_plain(plain, self.cutter.line)
        self.cutter.skip(count)
        return count, place + sum(map(len, plain[:count])) + count

    def _next_end(self, scan: Scan, place: int, before: int) -> int:
        """Where the next line stands that may end what is pending, if that is before this offset; else the offset."""
        if self._failures.pending:
            found = (_ENDS_OR_ESCAPED if scan.escaped else END_MARKS).search(scan.data, place, before)
            return found.start() if found else before
        return before

    def _earlier(self, count: int) -> list[LogRecord]:
        """The last records before the one that is read, those that were left out among them."""
        if not count:
            return []
        if self._skimmed is None:
            return list(self._recent)[-count:]
        before = _tail(*self._skimmed)
        if len(before) < _BACK_BYTES:
            before = (self._tail_before() + before)[-_BACK_BYTES:]
        begin = len(before)
        for _ in range(2 * count + 1):
            begin = before.rfind(b"\n", 0, begin)
            if begin < 0:
                break
        near = [record for record in Cutter().feed(before[begin + 1 :]) if record.text]
        if len(near) < count and begin >= 0:
            near = [record for record in Cutter().feed(before) if record.text]
        return near[-count:]

    def _tail_before(self) -> bytes:
        return b"" if self._before is None else _tail(self._before.data, self._before.begin, self._before.end)

    def tick(self, at: datetime) -> list[LogRecord]:
        """Time passed: a half line that waits becomes a record, what is complete is revealed, old blocks settle."""
        records: list[LogRecord] = []
        quiet = at - self._quiet_since if self._quiet_since else timedelta(0)
        if quiet >= _REVEAL_AFTER:
            if self.cutter.waiting:
                records = self._read_all(self.cutter.flush(), at)
            self._failures.pause()
        if quiet >= _SETTLE_AFTER:
            self._failures.settle()
        return records

    def end(self, at: datetime) -> list[LogRecord]:
        """The log is over."""
        records = self._read_all(self.cutter.flush(), at)
        self._failures.settle()
        return records

    def restart(self, at: datetime) -> list[LogRecord]:
        """The log begins anew: lines are counted from one again."""
        records = self.end(at)
        self.cutter.restart()
        self._recent.clear()
        self._before = self._skimmed = None
        self._failures.epoch += 1
        return records

    def take_matched(self) -> int:
        """How many records a rule spoke of since the last call."""
        matched, self._failures.matched = self._failures.matched, 0
        return matched

    def take_changed(self) -> list[Gathering]:
        """The incidents that changed since the last call and may be shown, in the order they were opened."""
        return self._failures.standing.take_changed()

    def take_counted(self) -> list[tuple[Gathering, int]]:
        """The failures whose label is certain since the last call, and how many of each; every failure comes once."""
        return self._failures.standing.take_counted()

    def _read_line(self, line: bytes, candidates: Candidates | None, at: datetime) -> None:
        """Read one whole line that only these rules may speak of."""
        for record in self.cutter.feed_line(line):
            matches = self.matcher.matching(candidates, record.text) if candidates is not None else ()
            self._take(record, matches, at)

    def _read_text(self, line: bytes, candidates: Candidates | None, at: datetime) -> None:
        """The same for one without its newline that is no more than its words, and perhaps a prefix. Nobody sees its record."""
        text = plain_text(line)
        matches = self.matcher.matching(candidates, text) if candidates is not None else ()
        if matches or candidates is None or candidates.marked or any(map(line.__contains__, _TELLING)):
            self._take(LogRecord(self.cutter.line, text, line), matches, at)
        else:
            self._failures.read_plain((line,), self.cutter.line)
        self.cutter.skip(1)

    def _read_all(self, records: Iterator[LogRecord], at: datetime) -> list[LogRecord]:
        read = list(records)
        matched = self.matcher.matches([record.text for record in read])
        for place, record in enumerate(read):
            self._take(record, matched.get(place, ()), at)
        return read

    def _take(self, record: LogRecord, matches: Sequence[Rule], at: datetime) -> None:
        if matches and is_talk(record.text):
            matches = ()
        self._failures.read(record, matches, at)
        if record.text:
            self._recent.append(record)


def _tail(data: bytes, begin: int, end: int) -> bytes:
    """The last bytes of a stretch."""
    return data[max(end - _BACK_BYTES, begin) : end]
