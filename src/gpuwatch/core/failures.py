"""What is one failure: which records open an incident, which belong to it, which begin the next.

The trigger line, the traceback's last line, "Got an OOM" and the memory table are one; the next `!!! Exception` or the next
lone line that says the same is the next one. Failures that follow each other with the same rule, node and words, nothing
settling them, are one incident with a count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gpuwatch.core.blocks import Block, LineKind, Phase, kind_of
from gpuwatch.core.gathering import Gathering, decoded, differ, is_next_failure, same_label
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.passing import pass_over
from gpuwatch.core.records import LogRecord, plain_text
from gpuwatch.core.rules import Rule
from gpuwatch.core.standing import Standing

_BLOCK_GAP_LINES = 50
"""A block with nothing of its own for so many lines is over."""
_TRACEBACK_NEARNESS_LINES = 12
"""How near a traceback must follow a message that no head line announced, to be that failure's."""
_HEAD_NEARNESS_LINES = 60
_TOLD_BEFORE_LINES = 1000
"""How far back a rule that tells its failures apart may find the one that a line belongs to."""
_UNSHAPED = (LineKind.OTHER, LineKind.CHAIN)
"""What a line is that neither begins nor ends a block."""


@dataclass(slots=True)
class Failures:
    """One log's failures while its records are read."""

    source: str
    matcher: Matcher
    earlier: Callable[[int], list[LogRecord]]
    """Gives the last records before the one that is read."""
    standing: Standing = field(default_factory=Standing)
    before_lines: int = 0
    """How many lines before an incident are kept with it."""
    matched: int = 0
    """Records that a rule spoke of, since whoever counts them took them."""
    epoch: int = 0
    """How often the log began anew."""
    fresh: bool = True
    """Whether what is read now happened since we came."""
    _line: int = 0
    """The line that is read."""
    _block: Block | None = None
    _members: list[Gathering] = field(default_factory=list)
    _prompt_line: int = 0
    """The line of the last prompt that came in."""
    _prompt_failed: bool = False
    _interrupted: bool = False
    _boot: int = 0
    """How often the log said that the server starts."""

    @property
    def at_rest(self) -> bool:
        """Whether what was read is told and counted, and no further line would belong to it."""
        open_ones = self.standing.last is not None and self.standing.last.state == "open"
        return self._block is None and not self._members and not open_ones

    def is_quiet(self, line: int) -> bool:
        """Whether this line tells something only if a rule or a mark nominates it."""
        if self._block is None:
            return True
        return self._block.is_quiet(line) and not any(member.lookahead for member in self._members)

    @property
    def pending(self) -> bool:
        """Whether a failure, an incident or a flag waits for a prompt to begin or end, or for the server to."""
        return self._block is not None or bool(self.standing.live) or self._prompt_failed or self._interrupted

    def pause(self) -> None:
        """No line came for a while: what is known now is what there is to know."""
        self.standing.reveal(self._members)
        for gathering in self._members:
            self.standing.count(gathering)

    def settle(self) -> None:
        """A prompt, the server or the log is over."""
        self._close_block()
        self.standing.settle()

    def read(self, record: LogRecord, matches: Sequence[Rule], at: datetime) -> None:
        """Take the next record and the rules that speak of it."""
        self._line = record.line
        if not record.text:
            return
        kind = kind_of(record.text)
        self._follow(record, kind, told=bool(matches))
        self.matched += bool(matches)
        for gathering in self._members:
            if gathering.lookahead:
                if not matches:
                    gathering.lookahead -= 1
                    self._gather(gathering, record)
                self._gather_wrapped(gathering, record)
        for rule in matches:
            self._place(rule, record, at)
        if self.standing.awaited:
            for gathering in [g for g in self.standing.awaited.values() if g.last_line != self._line]:
                if self.matcher.clears(gathering.rule.id, record.text):
                    self.standing.clear(gathering)

    def read_plain(self, lines: Sequence[bytes], first_line: int) -> int:
        """Take whole lines that no rule speaks of and that have no meaning of their own, until one is quiet: how many those are.

        The same as `read` for each, in less time.
        """
        taken = 0
        while taken < len(lines) and (block := self._block) is not None and not self.is_quiet(first_line + taken):
            line = first_line + taken
            if many := pass_over(block, self._members, lines[taken:], line):
                taken += many
                self._line = line + many - 1
            else:
                self._read_plain(block, lines[taken], line)
                taken += 1
        return taken

    def _read_plain(self, block: Block, raw: bytes, line: int) -> None:
        self._line = line
        text = plain_text(raw)
        if not text:
            return
        if line - block.last_line > _BLOCK_GAP_LINES:
            self._close_block()
            return
        if not block.is_quiet(line):
            block.read(text, LineKind.OTHER, line)
            for gathering in self._members:
                gathering.quote(text)
        for gathering in self._members:
            if gathering.lookahead:
                record = LogRecord(line, text, raw)
                gathering.lookahead -= 1
                self._gather(gathering, record)
                self._gather_wrapped(gathering, record)

    def _follow(self, record: LogRecord, kind: LineKind, *, told: bool) -> None:
        """Let the record begin, continue or end a block. `told`: a rule speaks of it."""
        if self._block is not None and self._line - self._block.last_line > _BLOCK_GAP_LINES:
            self._close_block()
        if kind is not LineKind.OTHER:
            self._take_shape(kind, record.text)
        if self._block is None:
            return
        if told or kind not in _UNSHAPED or not self._block.is_quiet(self._line):
            self._block.read(record.text, kind, self._line)
            for gathering in self._members:
                gathering.quote(record.text)

    def _take_shape(self, kind: LineKind, text: bytes) -> None:
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
            self.settle()
            if kind is LineKind.STARTED:
                self._boot += 1
                self.standing.clear_after(("success", "restart"))
        elif kind is LineKind.REPORT and block is not None and block.is_reported_by(text, self._line):
            pass
        elif kind in {LineKind.HEAD, LineKind.REPORT}:
            self._close_block()
            self._block = Block(self._line, head=True)
        elif kind is LineKind.TRACEBACK:
            nearness = _HEAD_NEARNESS_LINES if block and block.head else _TRACEBACK_NEARNESS_LINES
            if block is None or not block.begins_traceback(self._line, nearness):
                self._close_block()
                self._block = Block(self._line)

    def _done(self) -> None:
        well = not self._prompt_failed and not self._interrupted
        self.settle()
        self._prompt_failed = self._interrupted = False
        if well:
            self.standing.clear_after(("success",))

    def _place(self, rule: Rule, record: LogRecord, at: datetime) -> None:
        """Give a match to the failure it belongs to, or open a new one."""
        block = self._block
        if block is not None:
            facts = dict(self.matcher.facts(rule, record.text))
            same = same_label(self._members, rule, facts)
            if same is not None and not is_next_failure(block, same, rule, facts):
                self._merge(same, rule, record, at)
                return
            if same is None:
                beaten = next(
                    (g for g in self._members if rule.beats(g.rule) and not differ(rule, facts, g.facts)), None
                )
                if beaten is not None:
                    self._merge(beaten, rule, record, at)
                    return
                beating = (g for g in self._members if g.rule.beats(rule) or rule.echo)
                elder = next((g for g in beating if not differ(g.rule, facts, g.facts)), None)
                if elder is not None:
                    block.last_line = self._line
                    if rule.echo and elder.lookahead:
                        self._gather(elder, record)
                    return
            else:
                self._close_block()
        if rule.same_when is not None and (told := self._told_before(rule, record)) is not None:
            if self._block is not None:
                told.enter(self._block)
                self._members.append(told)
            self._merge(told, rule, record, at)
            return
        if self._block is None:
            self._block = Block(self._line)
            self._block.read(record.text, LineKind.OTHER, self._line)
            self._block.read_above(record.text, self.earlier)
        self._open(self._block, rule, record, at)

    def _told_before(self, rule: Rule, record: LogRecord) -> Gathering | None:
        """An incident that still gathers and that the rule's own facts say is this one, though its block is over."""
        # Where no fact tells failures apart, a new prompt does.
        oldest_line = max(self._line - _TOLD_BEFORE_LINES, 0 if rule.same_when else self._prompt_line)
        return self.standing.told_before(rule, dict(self.matcher.facts(rule, record.text)), oldest_line)

    def _open(self, block: Block, rule: Rule, record: LogRecord, at: datetime) -> None:
        fresh = self.fresh
        if rule.severity in {"error", "critical"}:
            self._prompt_failed = True
        last = self.standing.last
        if (
            last is not None
            and last.state == "open"
            and (last.rule.id, last.text, last.fresh) == (rule.id, record.text, fresh)
        ):
            gathering = last
            gathering.repeat(at)
        else:
            gathering = Gathering(
                self._identify(rule, record),
                rule,
                record.line,
                record.text,
                at,
                at,
                fresh,
                self._boot,
                shown=not rule.fallback,
            )
            gathering.quote(record.text)
            gathering.before = tuple(decoded(earlier.text) for earlier in self.earlier(self.before_lines))
            if rule.recovered:
                gathering.state = "recovered"
            self.standing.keep(gathering)
        gathering.enter(block)
        block.last_line = gathering.last_line = self._line
        self._members.append(gathering)
        for earlier in self.earlier(rule.back):
            self._gather(gathering, earlier)
        gathering.lookahead = rule.ahead
        gathering.keep_tail(record)
        self._gather(gathering, record)
        self.standing.touch(gathering)

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
            self.standing.await_end(gathering)
            for earlier in self.earlier(rule.back):
                self._gather(gathering, earlier)
        gathering.last_at = at
        gathering.lookahead = max(gathering.lookahead, rule.ahead)
        gathering.last_line = self._line
        gathering.keep_tail(record)
        if gathering.block:
            gathering.block.last_line = self._line
        self._gather(gathering, record, rule)
        self.standing.touch(gathering)

    def _gather(self, gathering: Gathering, record: LogRecord, rule: Rule | None = None) -> None:
        """Take the facts that a record holds."""
        if gathering.take(self.matcher.facts(rule or gathering.rule, record.text)):
            self.standing.touch(gathering)
        if gathering.contradicts:
            self._split(gathering, record)

    def _gather_wrapped(self, gathering: Gathering, record: LogRecord) -> None:
        """Take the facts that a window's edge cut in two: wrapped between words, or within one."""
        for joined in gathering.joined_with(record):
            found = self.matcher.facts(gathering.rule, joined, across=len(gathering.tail))
            if gathering.take(fact for fact in found if fact[0] not in gathering.gathered):
                self.standing.touch(gathering)
        gathering.keep_tail(record)

    def _split(self, gathering: Gathering, record: LogRecord) -> None:
        """What was taken for a repeat says other numbers: it is a failure of its own."""
        facts, block = gathering.take_back_repeat(), gathering.block
        self.standing.settle_one(gathering)
        own = Gathering(
            self._identify(gathering.rule, record), gathering.rule, record.line, gathering.text, gathering.last_at,
            gathering.last_at, gathering.fresh, self._boot, facts=facts, block=block, lookahead=gathering.lookahead,
        )  # fmt: skip
        own.quote(gathering.text)
        own.quote(record.text)
        self.standing.keep(own)
        self._members[:] = [own if member is gathering else member for member in self._members]
        self.standing.touch(own)

    def _close_block(self) -> None:
        """The failure's lines are over; what is known of it by now is what its log tells."""
        self.standing.reveal(self._members)
        for gathering in self._members:
            gathering.again = None
            gathering.lookahead = 0
            self.standing.count(gathering)
            self.standing.touch(gathering)
        self._members.clear()
        self._block = None

    def _identify(self, rule: Rule, record: LogRecord) -> str:
        """An id that is the same whenever the same log is read again. A file's name may hold bytes that are no UTF-8."""
        told = (
            f"{self.source}\0{self.epoch}\0{record.line}\0{rule.id}\0".encode("utf-8", "backslashreplace") + record.text
        )
        return hashlib.blake2s(told, digest_size=5).hexdigest()
