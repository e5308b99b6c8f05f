"""Failures that mean something together -> an incident of its own: "illegal access, then everything fails".

Fed with what the engine counted, in the order of time; the time is the failures' own. It never looks at what it made itself,
at muted failures, or at those from before we came: their times are not known. Memory is bounded by the rules' counts.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from gpuwatch.core.incidents import Incident, Node
from gpuwatch.core.rules import Correlate, Rule

_BURST = timedelta(seconds=0.5)
"""What one source tells within it is one event with an echo, or a log that is read at once; the times in it are not known."""
_MOST_GROUPS = 256
"""How many sources or nodes a rule keeps apart; the one that was quiet longest is forgotten first."""
_MOST_KNOWN = 1000
_MOST_MEMBERS = 20
"""How many of the failures are named in the incident."""


@dataclass(frozen=True, slots=True)
class Member:
    """One failure, as a rule that correlates sees it."""

    at: datetime
    number: int
    """Counts the failures, so that those of one moment have an order."""
    incident: Incident
    head: Member | None = None
    """The failure that made this one count, where the rule wants one."""


@dataclass(slots=True)
class Group:
    """What one rule knows of one source or node: the newest failures, no more than it needs, and what it found."""

    wants: Correlate
    lines: tuple[deque[Member], ...]
    """For `all_of` one for each set, for `any_of` a single one."""
    head: Member | None = None
    found: Incident | None = None
    """The incident, while the condition lasts."""
    heard: dict[str, datetime] = field(default_factory=dict)
    """When each source was heard last."""

    def echoes(self, incident: Incident) -> bool:
        """Whether the failure is too near the one before it to be another."""
        before = self.heard.pop(incident.source, None)
        self.heard[incident.source] = incident.last_at
        if len(self.heard) > _MOST_GROUPS:
            del self.heard[next(iter(self.heard))]
        return before is not None and abs(incident.last_at - before) < _BURST

    def take(self, member: Member) -> None:
        """A failure happened."""
        if not self.wants.all_of:
            if speaks_of(self.wants.any_of, member.incident) and (self.head is not None or not self.wants.after):
                self.lines[0].append(replace(member, head=self.head))
            if speaks_of(self.wants.after, member.incident):
                self.head = member
            return
        fitting = [
            line for names, line in zip(self.wants.all_of, self.lines, strict=True) if speaks_of(names, member.incident)
        ]
        if fitting:
            next((line for line in fitting if not line), fitting[0]).append(member)

    def drop(self, incident_id: str) -> None:
        """An incident is over: its failures no longer count, nor what they made count."""
        for line in self.lines:
            kept = [
                m
                for m in line
                if m.incident.id != incident_id and (m.head is None or m.head.incident.id != incident_id)
            ]
            if len(kept) < len(line):
                line.clear()
                line.extend(kept)
        if self.head is not None and self.head.incident.id == incident_id:
            self.head = None

    def together(self) -> list[Member]:
        """The failures that fulfil the condition, oldest first; none where it is not fulfilled."""
        needed = 1 if self.wants.all_of else self.wants.count
        if any(len(line) < needed for line in self.lines):
            return []
        members = {m.number: m for line in self.lines for m in line}
        first = min(members.values(), key=lambda m: m.number)
        if first.head is not None:
            members[first.head.number] = first.head
        times = [m.at for m in members.values()]
        if max(times) - min(times) > timedelta(seconds=self.wants.within_seconds):
            return []
        return [members[number] for number in sorted(members)]

    def idle(self, at: datetime) -> bool:
        """Whether nothing here can matter any more."""
        newest = [line[-1].at for line in self.lines if line]
        if self.head is not None:
            newest.append(self.head.at)
        return not newest or at - max(newest) > timedelta(seconds=self.wants.within_seconds)


@dataclass(slots=True)
class Correlator:
    """All rules that correlate, and what they wait for."""

    rules: tuple[Rule, ...] = ()
    _groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    _known: dict[str, Incident] = field(default_factory=dict)
    """The newest incidents as they stood last, to say more of a failure than that it was counted."""
    _numbers: int = 0

    def replace_rules(self, rules: tuple[Rule, ...]) -> None:
        """Go on with other rules. What a rule that has not changed waits for is kept; what was found stays found."""
        before = {rule.id: rule.correlate for rule in self.rules}
        kept = {rule.id for rule in rules if rule.correlate == before.get(rule.id)}
        self._groups = {key: group for key, group in self._groups.items() if key[0] in kept or group.found is not None}
        self.rules = rules

    def changed(self, incident: Incident) -> Iterator[Incident]:
        """An incident was opened or changed; gives those of ours that change with it."""
        if not self.rules:
            return
        self._known.pop(incident.id, None)
        self._known[incident.id] = incident
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        if incident.active:
            return
        for group in self._groups.values():
            if group.wants.standing:
                group.drop(incident.id)
                if group.found is not None and not group.together():
                    yield from self._end(group, incident.last_at)

    def counted(self, incident_id: str, at: datetime) -> Iterator[tuple[Incident, bool]]:
        """A failure of an incident was counted; gives what that makes, and whether it is new."""
        incident = self._known.get(incident_id)
        if incident is None or not incident.fresh or incident.muted:
            return
        for rule in self.rules:
            wants = rule.correlate
            if wants is None or not speaks_of(wants.names, incident) or (wants.standing and not incident.active):
                continue
            group = self._group(rule, wants, incident)
            if group is None:
                continue
            if group.found is not None and group.idle(at):
                yield from ((ended, False) for ended in self._end(group, at))
            if group.idle(at):
                self._empty(group)
            if not wants.all_of and group.echoes(incident):
                continue
            self._numbers += 1
            group.take(Member(incident.last_at, self._numbers, incident))
            if members := group.together():
                new = group.found is None
                group.found = finding(rule, members, group.found)
                yield group.found, new

    def tick(self, at: datetime) -> Iterator[Incident]:
        """Time passed; gives those of ours that are over: nothing more came for as long as the rule looks back."""
        for key, group in list(self._groups.items()):
            if group.idle(at):
                yield from self._end(group, at)
                del self._groups[key]

    def _group(self, rule: Rule, wants: Correlate, incident: Incident) -> Group | None:
        shared = {"source": incident.source, "node": incident.node.type or incident.node.id or ""}
        common = shared[wants.same] if wants.same is not None else "*"
        if not common:
            return None
        key = (rule.id, common)
        group = self._groups.pop(key, None)
        if group is None:
            lengths = [1] * len(wants.all_of) or [wants.count]
            group = Group(wants, tuple(deque(maxlen=length) for length in lengths))
            if len(self._groups) >= _MOST_GROUPS * len(self.rules):
                del self._groups[next(iter(self._groups))]
        self._groups[key] = group
        return group

    def _end(self, group: Group, at: datetime) -> Iterator[Incident]:
        if group.found is not None:
            yield replace(group.found, state="cleared", last_at=at)
            self._empty(group)

    def _empty(self, group: Group) -> None:
        group.found = group.head = None
        for line in group.lines:
            line.clear()


def speaks_of(names: frozenset[str], incident: Incident) -> bool:
    """Whether the incident's label or rule is among the names."""
    return incident.label in names or incident.rule.id in names


def finding(rule: Rule, members: Sequence[Member], before: Incident | None) -> Incident:
    """The incident that the members make; the same one where it was found before."""
    last = members[-1].incident
    told = list(dict.fromkeys(m.incident.id for m in members))
    if before is not None:
        told = list(dict.fromkeys((*before.members, *told)))
    lines = {m.incident.id: f"{m.incident.source}:{m.incident.line}: {m.incident.text}" for m in members}
    nodes = [m.incident.node for m in members if m.incident.node.type is not None or m.incident.node.id is not None]
    same_node = all((node.id, node.type) == (nodes[0].id, nodes[0].type) for node in nodes)
    first_at = before.first_at if before is not None else members[0].at
    count = int(before.facts["failure_count"]) + 1 if before is not None else len(members)
    return Incident(
        id=before.id if before is not None else identify(rule, members),
        source=last.source,
        rule=rule if before is None else before.rule,
        label=rule.label if before is None else before.label,
        state="open",
        line=last.line,
        text=last.text,
        first_at=first_at,
        last_at=members[-1].at,
        facts={"failure_count": count, "span_seconds": (members[-1].at - first_at).total_seconds()},
        node=nodes[0] if nodes and same_node else Node(),
        excerpt=before.excerpt if before is not None else tuple(lines.values())[:_MOST_MEMBERS],
        members=tuple(told[:_MOST_MEMBERS]),
    )


def identify(rule: Rule, members: Sequence[Member]) -> str:
    """An id that is the same whenever the same failures come together again."""
    told = "\0".join([rule.id, *(f"{m.incident.id}:{m.incident.count}" for m in members)])
    return hashlib.blake2s(told.encode(), digest_size=5).hexdigest()
