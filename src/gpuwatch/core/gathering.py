"""An incident while it is put together: what its lines have told so far."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gpuwatch.core.blocks import Block, Phase, node_in_title
from gpuwatch.core.incidents import Incident, IncidentState, Node
from gpuwatch.core.records import LogRecord
from gpuwatch.core.rules import Label, Rule

_LONGEST_TEXT = 2000
_EXCERPT_LINES = 80
_WRAPPED_BYTES = 400
_WRAPPED_AFTER = re.compile(rb"[\w;,(:]\Z")
_WRAPPED_BEFORE = re.compile(rb"\s{0,64}(?:[a-z0-9(]|[KMGT]?i?B\b|PyTorch\b)")
"""What stands around a line end that a window put into a message, and around few others."""


@dataclass(slots=True)
class Gathering:
    """An incident while it is put together."""

    id: str
    rule: Rule
    line: int
    text: bytes
    first_at: datetime
    last_at: datetime
    fresh: bool
    boot: int
    """How often the log had said by then that the server starts."""
    state: IncidentState = "open"
    count: int = 1
    uncounted: int = 1
    facts: dict[str, Any] = field(default_factory=dict)
    again: dict[str, Any] | None = None
    """The facts of the latest repeat, while it is gathered; they must not contradict the first's."""
    node: Node = field(default_factory=Node)
    block: Block | None = None
    last_line: int = 0
    lookahead: int = 0
    tail_line: int = 0
    """The line that `tail` ends."""
    tail: bytes = b""
    """The end of the last line that facts were looked for in: the next may be its rest, where a window wrapped it."""
    echoes: int = 0
    excerpt: list[bytes] = field(default_factory=list)
    before: tuple[str, ...] = ()
    job_id: str | None = None
    shown: bool = True
    """False while a failure that only "something failed" tells may still turn out to be a known one."""

    @property
    def label(self) -> Label:
        """The rule's label, or the one that its facts refine it to."""
        refined = self.rule.refine.get("fragmentation")
        return refined if refined is not None and is_fragmented(self.facts) else self.rule.label

    @property
    def gathered(self) -> dict[str, Any]:
        """The facts of the failure that is read: of a repeat its own."""
        return self.facts if self.again is None else self.again

    @property
    def contradicts(self) -> bool:
        """Whether a repeat says other numbers than the first."""
        return bool(self.again) and any(
            self.facts.get(name, value) != value for name, value in (self.again or {}).items()
        )

    def take(self, found: Iterable[tuple[str, Any]]) -> bool:
        """Take facts that a line told; whether any is new. The first word on each counts, lists of Xids are united."""
        facts, new = self.gathered, False
        for name, value in found:
            if name == "xids":
                known = facts.setdefault(name, [])
                more = [number for number in value if number not in known]
                known += more
                new |= bool(more)
            elif name not in facts:
                facts[name] = value
                new = True
        return new

    def repeat(self, at: datetime) -> None:
        """The same failure again: it counts, and its facts are gathered beside the first one's."""
        self.count += 1
        self.uncounted += 1
        self.again = {}
        self.echoes = 0
        self.last_at = at

    def take_back_repeat(self) -> dict[str, Any]:
        """What was taken for a repeat is none; gives the facts that were gathered for it."""
        facts, self.again = self.again or {}, None
        self.count -= 1
        self.uncounted -= 1
        return facts

    def keep_tail(self, record: LogRecord) -> None:
        """Remember the end of a line, for the next to be read together with."""
        self.tail_line, self.tail = record.line, record.text[-_WRAPPED_BYTES:].rstrip()

    def joined_with(self, record: LogRecord) -> Iterator[bytes]:
        """The end of the last line and this one's begin, where a window's edge may have parted them: between words, or in one."""
        if (
            self.tail_line == record.line - 1
            and _WRAPPED_AFTER.match(self.tail[-1:])
            and _WRAPPED_BEFORE.match(record.text)
        ):
            for between in (b" ", b""):
                yield self.tail + between + record.text[:_WRAPPED_BYTES].lstrip()

    def quote(self, text: bytes) -> None:
        """Keep a line that belongs to it, where they are not too many."""
        if len(self.excerpt) < _EXCERPT_LINES:
            self.excerpt.append(text[:_LONGEST_TEXT])

    def quote_all(self, texts: Sequence[bytes]) -> None:
        """The same for several lines."""
        room = _EXCERPT_LINES - len(self.excerpt)
        self.excerpt += [text[:_LONGEST_TEXT] for text in texts[: max(room, 0)]]

    def enter(self, block: Block) -> None:
        """Belong to another stretch of the log. Which node failed stays as the one before told it."""
        self.node, self.block = self._attributed(), block

    def _attributed(self) -> Node:
        """Which node failed, as far as the lines of the block have told."""
        node, block = self.node, self.block
        if block is None:
            return node
        told = block.node_type or block.node_above
        return Node(node.id or block.node_id, node.type or told, node.pack or block.pack, node.inputs)

    def value(self, source: str) -> Incident:
        """The incident as it stands, without a diagnosis."""
        node = self._attributed()
        frames = self.block.frames if self.block else ()
        return Incident(
            id=self.id,
            source=source,
            rule=self.rule,
            label=self.label,
            state=self.state,
            line=self.line,
            text=decoded(self.text),
            first_at=self.first_at,
            last_at=self.last_at,
            count=self.count,
            facts=dict(self.facts),
            node=Node(
                node.id or self.facts.get("node_id"),
                node.type or self.facts.get("node_type") or node_in_title(self.text),
                node.pack,
                node.inputs,
            ),
            frames=frames,
            excerpt=tuple(map(decoded, self.excerpt)),
            before=self.before,
            job_id=self.job_id,
            fresh=self.fresh,
            boot=self.boot,
        )


def is_fragmented(facts: dict[str, Any]) -> bool:
    """Whether PyTorch held enough idle memory for the request: slack >= request and slack >= min(1 GiB, a tenth of the pool)."""
    tried, allocated, reserved = (facts.get(f"{name}_bytes") for name in ("tried", "allocated", "reserved"))
    slack = facts.get("reserved_unallocated_bytes")
    if slack is None and reserved is not None and allocated is not None:
        slack = reserved - allocated
    if tried is None or slack is None:
        return False
    pool = reserved if reserved is not None else (allocated or 0) + slack
    return bool(slack >= tried and slack >= min(1 << 30, pool / 10))


def decoded(text: bytes) -> str:
    """A record for a person: UTF-8, what is not shown as the replacement character, bounded."""
    return text[:_LONGEST_TEXT].decode("utf-8", "replace")


def differ(rule: Rule, facts: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether a line's facts say that it speaks of another failure: another GPU, say. False where the rule tells none apart."""
    return any(name in facts and known.get(name, facts[name]) != facts[name] for name in rule.same_when or ())


def agree(rule: Rule, facts: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether the facts that tell the rule's failures apart are all there and equal."""
    return all(name in facts and known.get(name) == facts[name] for name in rule.same_when or ())


def same_label(members: Sequence[Gathering], rule: Rule, facts: Mapping[str, Any]) -> Gathering | None:
    """The incident of the rule's label; of several, the one whose telling facts agree."""
    same = [member for member in members if member.rule.id == rule.id or member.rule.label == rule.label]
    return next((member for member in same if not differ(rule, facts, member.facts)), same[0] if same else None)


def is_next_failure(block: Block, same: Gathering, rule: Rule, facts: Mapping[str, Any]) -> bool:
    """Whether a line that says what an open incident of its block says tells of another failure."""
    if same.state == "recovered" and not rule.recovered:
        return True
    if rule.same_when is not None:
        return differ(rule, facts, same.facts)
    if rule.echo or block.phase in {Phase.TRACEBACK, Phase.FINAL}:
        return False
    known = same.gathered
    if any(name in known and known[name] != value for name, value in facts.items() if name.endswith("_bytes")):
        return True
    if block.phase is Phase.MESSAGE:
        return not block.head and same.rule.id == rule.id
    same.echoes += 1
    return same.echoes > 1
