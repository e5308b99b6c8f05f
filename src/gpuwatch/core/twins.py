"""One server seen twice, by its log file and over its API: each failure told once.

Two logs are of one server where they say the same words at about the same time and one of them came over the API. The time is
when we received the words: stamps of two clocks may differ. What the later one tells is evidence for the first, and only
failures beyond those that the other told are counted.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import SourceKind

_NEARNESS = timedelta(seconds=120)
"""How much later one of them may tell it: after a lost connection the log comes late."""
_MOST = 500
_LOGS: frozenset[SourceKind] = frozenset({"file", "stdin", "cmd", "journal", "docker"})


@dataclass(slots=True)
class First:
    """The incident that was told first, and which others say the same."""

    incident: Incident
    kind: SourceKind
    others: dict[str, list[str]] = field(default_factory=dict)
    """By source, the ids of its incidents that are this one."""
    told: int = 0
    """How many of the sources were told."""


@dataclass(slots=True)
class Tally:
    """How often each source said these words, and how many of those were counted."""

    last_at: datetime
    said: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Twins:
    """Knows which incidents are the same failure."""

    _kinds: dict[str, SourceKind] = field(default_factory=dict)
    _firsts: OrderedDict[str, First] = field(default_factory=OrderedDict)
    _twins: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _server_of: dict[str, str] = field(default_factory=dict)
    """Which server's log a source is, once that was seen."""
    _tallies: OrderedDict[str, Tally] = field(default_factory=OrderedDict)

    def first_of(self, incident: Incident, kind: SourceKind) -> str:
        """The id of the incident that the failure was first told as; its own where it is that."""
        self._kinds[incident.source] = kind
        if (known := self._twins.get(incident.id)) is not None:
            return known
        if (first := self._firsts.get(incident.id)) is not None:
            first.incident = incident
            return incident.id
        if incident.fresh and (kind == "comfyui" or kind in _LOGS):
            others = self._firsts.items() if any(other != kind for other in self._kinds.values()) else ()
            for id_, first in others:
                if self._same(first, incident, kind):
                    self._pair(first, incident, kind)
                    self._twins[incident.id] = id_
                    if len(self._twins) > _MOST:
                        self._twins.popitem(last=False)
                    return id_
            self._firsts[incident.id] = First(incident, kind)
            if len(self._firsts) > _MOST:
                self._firsts.popitem(last=False)
        return incident.id

    def also_in(self, incident_id: str) -> tuple[str, ...]:
        """The other sources that tell it too."""
        first = self._firsts.get(incident_id)
        return tuple(first.others) if first is not None else ()

    def news_of(self, incident_id: str) -> Incident | None:
        """The incident, where another source tells it too since this was asked last."""
        first = self._firsts.get(incident_id)
        if first is None or first.told == len(first.others):
            return None
        first.told = len(first.others)
        return first.incident

    def new_failures(self, incident: Incident, failures: int, at: datetime) -> int:
        """How many of the failures that a source counted no other counted before."""
        if not incident.fresh:
            return failures
        words = _words(incident)
        tally = self._tallies.pop(words, None)
        if tally is None or at - tally.last_at > _NEARNESS:
            tally = Tally(at)
        self._tallies[words] = tally
        if len(self._tallies) > _MOST:
            self._tallies.popitem(last=False)
        tally.last_at = at
        source = incident.source
        tally.said[source] = tally.said.get(source, 0) + failures
        server = self._server_of.get(source, source)
        counted = sum(count for other, count in tally.counted.items() if self._server_of.get(other, other) == server)
        new = max(tally.said[source] - counted, 0)
        tally.counted[source] = tally.counted.get(source, 0) + new
        return new

    def _same(self, first: First, incident: Incident, kind: SourceKind) -> bool:
        told = first.incident
        if told.source == incident.source or "comfyui" not in {first.kind, kind} or first.kind == kind:
            return False
        if _words(told) != _words(incident) or abs(incident.first_at - told.last_at) > _NEARNESS:
            return False
        if len(first.others.get(incident.source, ())) >= told.count:
            return False
        log, server = (incident.source, told.source) if kind != "comfyui" else (told.source, incident.source)
        return self._server_of.get(log, server) == server

    def _pair(self, first: First, incident: Incident, kind: SourceKind) -> None:
        first.others.setdefault(incident.source, []).append(incident.id)
        log, server = (
            (incident.source, first.incident.source) if kind != "comfyui" else (first.incident.source, incident.source)
        )
        self._server_of[log] = server


def _words(incident: Incident) -> str:
    return " ".join(incident.text.split())[:300]
