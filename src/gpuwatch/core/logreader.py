"""One log's records -> its incidents: opens them, gathers their facts, folds repeats, settles, recovers and clears them.

This file decides what is one failure. The trigger line, the traceback's last line, "Got an OOM" and the memory table are one;
the next `!!! Exception` or the next lone line that says the same is the next one. Failures that follow each other with the
same rule, node and words, nothing settling them, are one incident with a count.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gpuwatch.core.blocks import END_MARKS, Block, LineKind, Phase, kind_of
from gpuwatch.core.gathering import Gathering, agree, decoded, differ
from gpuwatch.core.matching.matcher import Candidates, Matcher
from gpuwatch.core.matching.scan import Scan
from gpuwatch.core.observations import SourceKind
from gpuwatch.core.records import Cutter, LogRecord
from gpuwatch.core.rules import Rule

_BLOCK_GAP_LINES = 50
"""A block with nothing of its own for so many lines is over."""
_TRACEBACK_NEARNESS_LINES = 12
"""How near a traceback must follow a message that no head line announced, to be that failure's."""
_HEAD_NEARNESS_LINES = 60
_TOLD_BEFORE_LINES = 1000
"""How far back a rule that tells its failures apart may find the one that a line belongs to."""
_REPORT_HEAD_LINES = 3
_BACK_RECORDS = 32
_BACK_BYTES = 16 * 1024
_EXCERPT_LINES = 80
_UNSHAPED = (LineKind.OTHER, LineKind.CHAIN)
"""What a line is that neither begins nor ends a block."""
_MOST_LIVE = 1000
_REVEAL_AFTER = timedelta(milliseconds=300)
_SETTLE_AFTER = timedelta(seconds=30)


@dataclass(slots=True)
class LogReader:
    """Everything about one log: its cutter, the block it is in, its incidents that may still change."""

    source: str
    kind: SourceKind
    matcher: Matcher
    cutter: Cutter = field(default_factory=Cutter)
    matched: int = 0
    """Records that a rule spoke of, since whoever counts them took them."""
    _line: int = 0
    """The line that is read."""
    _block: Block | None = None
    _members: list[Gathering] = field(default_factory=list)
    _live: dict[str, Gathering] = field(default_factory=dict)
    """Incidents that more lines or a prompt's end may change, oldest first; at most _MOST_LIVE."""
    _lasting: dict[str, Gathering] = field(default_factory=dict)
    """Settled ones that only a restart or a line of their own ends, oldest first; at most _MOST_LIVE."""
    _awaited: dict[str, Gathering] = field(default_factory=dict)
    """Those of both whose end a line will tell."""
    _changed: dict[str, Gathering] = field(default_factory=dict)
    _counted: list[tuple[Gathering, int]] = field(default_factory=list)
    _last: Gathering | None = None
    _recent: deque[LogRecord] = field(default_factory=lambda: deque(maxlen=_BACK_RECORDS))
    _prompt_line: int = 0
    """The line of the last prompt that came in."""
    _prompt_failed: bool = False
    _interrupted: bool = False
    _quiet_since: datetime | None = None
    _before: bytes = b""
    """The last lines of what was skimmed before, read or left out."""
    _skimmed: tuple[bytes, int] | None = None
    """The lines that are skimmed now, and where in them the one that is read begins."""
    _fresh: bool = True
    _epoch: int = 0

    # -- what comes in ---------------------------------------------------------------------------------------------------

    def feed(self, data: bytes, at: datetime, *, fresh: bool) -> list[LogRecord]:
        """Read the next bytes; give the records they completed."""
        self._quiet_since, self._fresh = at, fresh
        return self._read_all(self.cutter.feed(data), at)

    def skim(self, data: bytes, at: datetime, *, fresh: bool, scan: Scan | None = None) -> int:
        """Read the next bytes and leave out unread what tells nothing: the same incidents as `feed`, no records to show.

        Gives the number of newlines. A line is left out where no block is open, nothing in it can match a rule, begin a
        failure or end a condition, and none is pending that a prompt's end would settle. `scan` is what the matcher
        found in `data`, where that was asked before; it is of use where `data` are whole lines and follow whole lines.
        """
        self._quiet_since, self._fresh = at, fresh
        half = self.cutter.take_half() if self.matcher.skips else None
        end = data.rfind(b"\n") + 1
        if half is None or not end:
            self._read_all(self.cutter.feed((half or b"") + data), at)
            return data.count(b"\n")
        if scan is None or half or end < len(data):
            scan = self.matcher.scan(half + data[:end])
        self._skim(scan, at)
        self._before = (self._before + scan.lines[-_BACK_BYTES:])[-_BACK_BYTES:]
        self._skimmed = (b"", 0)
        if end < len(data):
            self._read_all(self.cutter.feed(data[end:]), at)
        return scan.newlines

    def _skim(self, scan: Scan, at: datetime) -> None:
        lines, hits, size = scan.lines, scan.hits, len(scan.lines)
        place, hit, left = 0, 0, scan.newlines
        while place < size:
            if self._is_quiet and not (scan.escaped and self._pending):
                while hit < len(hits) and hits[hit][0] < place:
                    hit += 1
                following = self._next_end(lines, place, hits[hit][0] if hit < len(hits) else size)
                if following >= size:
                    break
                begin = lines.rfind(b"\n", place, following) + 1 or place
                if begin > place:
                    skipped = lines.count(b"\n", place, begin)
                    self.cutter.skip(skipped)
                    left -= skipped
                place = begin
            end = lines.find(b"\n", place) + 1
            first = hit
            while hit < len(hits) and hits[hit][0] < end:
                hit += 1
            self._skimmed = (lines, place)
            candidates = self.matcher.candidates(hits[first:hit]) if hit > first else {}
            self._read_line(lines[place:end], candidates, at)
            left -= 1
            place = end
        self.cutter.skip(left)

    @property
    def _is_quiet(self) -> bool:
        """Whether the next line tells something only if a rule or a mark nominates it."""
        if self._block is None:
            return True
        return self._block.is_quiet(self.cutter.line) and not any(member.lookahead for member in self._members)

    @property
    def _pending(self) -> bool:
        """Whether a failure, an incident or a flag waits for a prompt to begin or end, or for the server to."""
        return self._block is not None or bool(self._live) or self._prompt_failed or self._interrupted

    def _next_end(self, lines: bytes, place: int, before: int) -> int:
        """Where the next line stands that ends what is pending, if that is before this offset; else the offset."""
        if self._pending:
            found = END_MARKS.search(lines, place, before)
            return found.start() if found else before
        return before

    def _earlier(self, count: int) -> list[LogRecord]:
        """The last records before the one that is read, those that were left out among them."""
        if not count:
            return []
        if self._skimmed is None:
            return list(self._recent)[-count:]
        lines, end = self._skimmed
        before = (self._before + lines[max(end - _BACK_BYTES, 0) : end])[-_BACK_BYTES:]
        return [record for record in Cutter().feed(before) if record.text][-count:]

    def tick(self, at: datetime) -> list[LogRecord]:
        """Time passed: a half line that waits becomes a record, what is complete is revealed, old blocks settle."""
        records: list[LogRecord] = []
        quiet = at - self._quiet_since if self._quiet_since else timedelta(0)
        if quiet >= _REVEAL_AFTER:
            if self.cutter.waiting:
                records = self._read_all(self.cutter.flush(), at)
            self._reveal(self._members)
            for gathering in self._members:
                self._count(gathering)
        if quiet >= _SETTLE_AFTER:
            self._settle()
        return records

    def end(self, at: datetime) -> list[LogRecord]:
        """The log is over."""
        records = self._read_all(self.cutter.flush(), at)
        self._settle()
        return records

    def restart(self, at: datetime) -> list[LogRecord]:
        """The log begins anew: lines are counted from one again."""
        records = self.end(at)
        self.cutter.restart()
        self._recent.clear()
        self._before, self._skimmed = b"", None
        self._epoch += 1
        return records

    def take_changed(self) -> list[Gathering]:
        """The incidents that changed since the last call and may be shown, in the order they were opened."""
        ready = [gathering for gathering in self._changed.values() if gathering.shown]
        for gathering in ready:
            del self._changed[gathering.id]
        return ready

    def take_counted(self) -> list[tuple[Gathering, int]]:
        """The failures whose label is certain since the last call, and how many of each; every failure comes once."""
        counted, self._counted = self._counted, []
        return counted

    def touch(self, gathering: Gathering) -> None:
        """Mark an incident as changed."""
        self._changed[gathering.id] = gathering

    # -- one record ------------------------------------------------------------------------------------------------------

    def _read_line(self, line: bytes, candidates: Candidates, at: datetime) -> None:
        """Read one whole line that only these rules may speak of."""
        for record in self.cutter.feed(line):
            matches = self.matcher.matching(candidates, record.text) if candidates else ()
            self._read(record, matches, at)

    def _read_all(self, records: Iterator[LogRecord], at: datetime) -> list[LogRecord]:
        read = list(records)
        matched = self.matcher.matches([record.text for record in read])
        for place, record in enumerate(read):
            self._read(record, matched.get(place, ()), at)
        return read

    def _read(self, record: LogRecord, matches: Sequence[Rule], at: datetime) -> None:
        self._line = record.line
        if not record.text:
            return
        kind = kind_of(record.text)
        self._follow(record, kind, told=bool(matches))
        self.matched += bool(matches)
        for gathering in self._members:
            if gathering.lookahead and not matches:
                gathering.lookahead -= 1
                self._gather(gathering, record)
        for rule in matches:
            self._place(rule, record, at)
        if self._awaited:
            for gathering in [g for g in self._awaited.values() if g.last_line != self._line]:
                if self.matcher.clears(gathering.rule.id, record.text):
                    self._clear(gathering)
        self._recent.append(record)

    def _follow(self, record: LogRecord, kind: LineKind, *, told: bool) -> None:
        """Let the record begin, continue or end a block. `told`: a rule speaks of it."""
        if self._block is not None and self._line - self._block.last_line > _BLOCK_GAP_LINES:
            self._close_block()
        if kind is not LineKind.OTHER:
            self._take_shape(kind)
        if self._block is None:
            return
        if told or kind not in _UNSHAPED or not self._block.is_quiet(self._line):
            self._block.read(record.text, kind, self._line)
            for gathering in self._members:
                if len(gathering.excerpt) < _EXCERPT_LINES:
                    gathering.excerpt.append(decoded(record.text))

    def _take_shape(self, kind: LineKind) -> None:
        """What a line that has a meaning of its own does to the block that is open."""
        block = self._block
        if kind is LineKind.PROMPT:
            self._prompt_line = self._line
        if kind is LineKind.DONE:
            self._done()
        elif (
            kind is LineKind.PROMPT
            and block is not None
            and not block.head
            and block.phase in {Phase.MESSAGE, Phase.AFTER}
        ):
            self._close_block()
        elif kind is LineKind.INTERRUPTED:
            self._interrupted = True
        elif kind in {LineKind.STARTED, LineKind.STOPPED}:
            self._settle()
            if kind is LineKind.STARTED:
                self._clear_after(("success", "restart"))
        elif kind is LineKind.REPORT and block is not None and self._line - block.first_line <= _REPORT_HEAD_LINES:
            pass  # a report's second heading
        elif kind in {LineKind.HEAD, LineKind.REPORT}:
            self._close_block()
            self._block = Block(self._line, head=True)
        elif kind is LineKind.TRACEBACK:
            nearness = _HEAD_NEARNESS_LINES if block and block.head else _TRACEBACK_NEARNESS_LINES
            if block is None or not block.begins_traceback(self._line, nearness):
                self._close_block()
                self._block = Block(self._line)

    def _place(self, rule: Rule, record: LogRecord, at: datetime) -> None:
        """Give a match to the failure it belongs to, or open a new one."""
        block = self._block
        if block is not None:
            facts = dict(self.matcher.facts(rule, record.text))
            same = self._same_label(rule, facts)
            if same is not None and not self._is_next_failure(block, same, rule, facts):
                self._merge(same, rule, record, at)
                return
            if same is None:
                beaten = next(
                    (g for g in self._members if rule.beats(g.rule) and not differ(rule, facts, g.facts)), None
                )
                if beaten is not None:
                    self._merge(beaten, rule, record, at)
                    return
                if any((g.rule.beats(rule) or rule.echo) and not differ(g.rule, facts, g.facts) for g in self._members):
                    block.last_line = self._line
                    return
            else:
                self._close_block()
        if (told := self._told_before(rule, record)) is not None:
            if self._block is not None:
                told.block = self._block
                self._members.append(told)
            self._merge(told, rule, record, at)
            return
        if self._block is None:
            self._block = Block(self._line)
            self._block.read(record.text, LineKind.OTHER, self._line)
        self._open(self._block, rule, record, at)

    def _told_before(self, rule: Rule, record: LogRecord) -> Gathering | None:
        """An incident that still gathers and that the rule's own facts say is this one, though its block is over."""
        if rule.same_when is None:
            return None
        facts = dict(self.matcher.facts(rule, record.text))
        # Where no fact tells failures apart, a new prompt does.
        oldest = max(self._line - _TOLD_BEFORE_LINES, 0 if rule.same_when else self._prompt_line)
        near = (g for g in self._live.values() if g.last_line >= oldest)
        return next(
            (g for g in near if g.state != "settled" and g.rule.label == rule.label and agree(rule, facts, g.facts)),
            None,
        )

    def _same_label(self, rule: Rule, facts: Mapping[str, Any]) -> Gathering | None:
        """The block's incident of the rule's label; of several, the one whose telling facts agree."""
        same = [g for g in self._members if g.rule.id == rule.id or g.rule.label == rule.label]
        return next((g for g in same if not differ(rule, facts, g.facts)), same[0] if same else None)

    def _is_next_failure(self, block: Block, same: Gathering, rule: Rule, facts: Mapping[str, Any]) -> bool:
        if rule.same_when is not None:
            return differ(rule, facts, same.facts)
        if rule.echo or block.phase in {Phase.TRACEBACK, Phase.FINAL}:
            return False
        known = same.again if same.again is not None else same.facts
        if any(name in known and known[name] != value for name, value in facts.items() if name.endswith("_bytes")):
            return True
        if block.phase is Phase.MESSAGE:
            return not block.head and same.rule.id == rule.id
        same.echoes += 1
        return same.echoes > 1

    def _open(self, block: Block, rule: Rule, record: LogRecord, at: datetime) -> None:
        fresh = self._fresh
        if rule.severity in {"error", "critical"}:
            self._prompt_failed = True
        last = self._last
        if (
            last is not None
            and last.state == "open"
            and (last.rule.id, last.text, last.fresh) == (rule.id, record.text, fresh)
        ):
            gathering = last
            gathering.count += 1
            gathering.uncounted += 1
            gathering.again = {}
            gathering.echoes = 0
            gathering.last_at = at
        else:
            gathering = Gathering(
                self._identify(rule, record), rule, record.line, record.text, at, at, fresh, shown=not rule.fallback
            )
            gathering.excerpt.append(decoded(record.text))
            if rule.recovered:
                gathering.state = "recovered"
            self._keep(gathering)
        gathering.block = block
        block.last_line = gathering.last_line = self._line
        self._members.append(gathering)
        for earlier in self._earlier(rule.back):
            self._gather(gathering, earlier)
        gathering.lookahead = rule.ahead
        self._gather(gathering, record)
        self.touch(gathering)

    def _merge(self, gathering: Gathering, rule: Rule, record: LogRecord, at: datetime) -> None:
        """One more line of a failure that is open."""
        if rule.beats(gathering.rule):
            gathering.rule = rule
            gathering.shown = True
            gathering.text = record.text if gathering.line == record.line else gathering.text
            if rule.recovered:
                gathering.state = "recovered"
            elif gathering.state == "recovered":
                gathering.state = "open"
            self._await(gathering)
            for earlier in self._earlier(rule.back):
                self._gather(gathering, earlier)
        gathering.last_at = at
        gathering.lookahead = max(gathering.lookahead, rule.ahead)
        gathering.last_line = self._line
        if gathering.block:
            gathering.block.last_line = self._line
        self._gather(gathering, record, rule)
        self.touch(gathering)

    def _gather(self, gathering: Gathering, record: LogRecord, rule: Rule | None = None) -> None:
        """Take the facts that a record holds; the first word on each counts, lists are united."""
        facts = gathering.facts if gathering.again is None else gathering.again
        for name, value in self.matcher.facts(rule or gathering.rule, record.text):
            if isinstance(value, list):
                known = facts.setdefault(name, [])
                if name == "xids":
                    known.extend(number for number in value if number not in known)
                elif not known:
                    known.extend(value)
                self.touch(gathering)
            elif name not in facts:
                facts[name] = value
                self.touch(gathering)
        if gathering.again and any(
            gathering.facts.get(name, value) != value for name, value in gathering.again.items()
        ):
            self._split(gathering, record)

    def _split(self, gathering: Gathering, record: LogRecord) -> None:
        """What was taken for a repeat says other numbers: it is a failure of its own."""
        facts, block = gathering.again or {}, gathering.block
        gathering.count -= 1
        gathering.uncounted -= 1
        gathering.again = None
        self._settle_one(gathering)
        own = Gathering(
            self._identify(gathering.rule, record), gathering.rule, record.line, gathering.text, gathering.last_at,
            gathering.last_at, gathering.fresh, facts=facts, block=block, lookahead=gathering.lookahead,
            excerpt=[decoded(gathering.text), decoded(record.text)],
        )  # fmt: skip
        self._keep(own)
        self._members[:] = [own if member is gathering else member for member in self._members]
        self.touch(own)

    def _identify(self, rule: Rule, record: LogRecord) -> str:
        """An id that is the same whenever the same log is read again."""
        told = f"{self.source}\0{self._epoch}\0{record.line}\0{rule.id}\0".encode() + record.text
        return hashlib.blake2s(told, digest_size=5).hexdigest()

    # -- ends ------------------------------------------------------------------------------------------------------------

    def _close_block(self) -> None:
        """The failure's lines are over; what is known of it by now is what its log tells."""
        self._reveal(self._members)
        for gathering in self._members:
            gathering.again = None
            gathering.lookahead = 0
            self._count(gathering)
            self.touch(gathering)
        self._members.clear()
        self._block = None

    def _count(self, gathering: Gathering) -> None:
        if gathering.uncounted:
            self._counted.append((gathering, gathering.uncounted))
            gathering.uncounted = 0

    def _reveal(self, members: Iterable[Gathering]) -> None:
        for gathering in members:
            if not gathering.shown:
                gathering.shown = True
                self.touch(gathering)

    def _done(self) -> None:
        well = not self._prompt_failed and not self._interrupted
        self._settle()
        self._prompt_failed = self._interrupted = False
        if well:
            self._clear_after(("success",))

    def _settle(self) -> None:
        self._close_block()
        for gathering in list(self._live.values()):
            if gathering.state == "open":
                self._settle_one(gathering)
            elif gathering.state == "recovered":
                self._forget(gathering)
                self.touch(gathering)
        self._last = None

    def _settle_one(self, gathering: Gathering) -> None:
        gathering.state = "settled"
        self.touch(gathering)
        if gathering.rule.clear_after != "success":
            self._live.pop(gathering.id, None)
            if gathering.rule.clear_after == "restart" or gathering.rule.clear_match is not None:
                self._lasting[gathering.id] = gathering
                if len(self._lasting) > _MOST_LIVE:
                    self._forget(next(iter(self._lasting.values())))

    def _keep(self, gathering: Gathering) -> None:
        """Have an incident among those that may change; where they are too many, the oldest is settled and let go."""
        self._live[gathering.id] = self._last = gathering
        self._await(gathering)
        if len(self._live) > _MOST_LIVE:
            oldest = next(iter(self._live.values()))
            if oldest.state == "open":
                self._settle_one(oldest)
            if oldest.id in self._live:
                self._forget(oldest)

    def _await(self, gathering: Gathering) -> None:
        if gathering.rule.clear_match is not None and gathering.state != "recovered":
            self._awaited[gathering.id] = gathering
        else:
            self._awaited.pop(gathering.id, None)

    def _forget(self, gathering: Gathering) -> None:
        for kept in (self._live, self._lasting, self._awaited):
            kept.pop(gathering.id, None)

    def _clear_after(self, events: tuple[str, ...]) -> None:
        for gathering in [*self._live.values(), *self._lasting.values()]:
            if gathering.rule.clear_after in events and gathering.state == "settled":
                self._clear(gathering)

    def _clear(self, gathering: Gathering) -> None:
        gathering.state = "cleared"
        self._forget(gathering)
        self.touch(gathering)
