"""The incidents of one log that may still change: shown when they may be, counted when their label is certain, settled, cleared.

Which line belongs to which incident is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.core.gathering import Gathering, agree
from gpuwatch.core.rules import Rule

_MOST_KEPT = 1000


@dataclass(slots=True)
class Standing:
    """What stands open or waits for its end."""

    live: dict[str, Gathering] = field(default_factory=dict)
    """Incidents that more lines or a prompt's end may change, oldest first; at most _MOST_KEPT."""
    lasting: dict[str, Gathering] = field(default_factory=dict)
    """Settled ones that only a restart or a line of their own ends, oldest first; at most _MOST_KEPT."""
    awaited: dict[str, Gathering] = field(default_factory=dict)
    """Those of both whose end a line will tell."""
    last: Gathering | None = None
    """The newest, which a repeat would be folded into."""
    _changed: dict[str, Gathering] = field(default_factory=dict)
    _counted: list[tuple[Gathering, int]] = field(default_factory=list)

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

    def told_before(self, rule: Rule, facts: Mapping[str, Any], oldest_line: int) -> Gathering | None:
        """The incident that still gathers, spoke at this line or later, and is the one that the rule's own facts tell of."""
        return next(
            (
                gathering
                for gathering in self.live.values()
                if gathering.last_line >= oldest_line
                and (gathering.state == "open" or (gathering.state == "recovered" and rule.recovered))
                and gathering.rule.label == rule.label
                and agree(rule, facts, gathering.facts)
            ),
            None,
        )

    def touch(self, gathering: Gathering) -> None:
        """Mark an incident as changed."""
        self._changed[gathering.id] = gathering

    def keep(self, gathering: Gathering) -> None:
        """Have an incident among those that may change; where they are too many, the oldest is settled and let go."""
        self.live[gathering.id] = self.last = gathering
        self.await_end(gathering)
        if len(self.live) > _MOST_KEPT:
            oldest = next(iter(self.live.values()))
            if oldest.state == "open":
                self.settle_one(oldest)
            if oldest.id in self.live:
                self.forget(oldest)

    def await_end(self, gathering: Gathering) -> None:
        """Look for a line that ends it, where its rule names one and it is not over."""
        if gathering.rule.clear_match is not None and gathering.state != "recovered":
            self.awaited[gathering.id] = gathering
        else:
            self.awaited.pop(gathering.id, None)

    def count(self, gathering: Gathering) -> None:
        """Its label is certain: its failures count."""
        if gathering.uncounted:
            self._counted.append((gathering, gathering.uncounted))
            gathering.uncounted = 0

    def reveal(self, members: Iterable[Gathering]) -> None:
        """What only says that something failed turned out to be all that is known."""
        for gathering in members:
            if not gathering.shown:
                gathering.shown = True
                self.touch(gathering)

    def settle(self) -> None:
        """A prompt or the log is over: what is open is settled, what was coped with is done with."""
        for gathering in list(self.live.values()):
            if gathering.state == "open":
                self.settle_one(gathering)
            elif gathering.state == "recovered":
                self.forget(gathering)
                self.touch(gathering)
        self.last = None

    def settle_one(self, gathering: Gathering) -> None:
        """Its lines are over."""
        gathering.state = "settled"
        self.touch(gathering)
        if gathering.rule.clear_after != "success":
            self.live.pop(gathering.id, None)
            if gathering.rule.clear_after == "restart" or gathering.rule.clear_match is not None:
                self.lasting[gathering.id] = gathering
                if len(self.lasting) > _MOST_KEPT:
                    self.forget(next(iter(self.lasting.values())))

    def clear_after(self, events: tuple[str, ...]) -> None:
        """Health returned in one of these ways."""
        lasting = self.lasting.values() if "restart" in events else ()  # what a success ends is still live
        for gathering in [*self.live.values(), *lasting]:
            if gathering.rule.clear_after in events and gathering.state == "settled":
                self.clear(gathering)

    def clear(self, gathering: Gathering) -> None:
        """The condition is over."""
        gathering.state = "cleared"
        self.forget(gathering)
        self.touch(gathering)

    def forget(self, gathering: Gathering) -> None:
        """It will not change any more."""
        for kept in (self.live, self.lasting, self.awaited):
            kept.pop(gathering.id, None)
