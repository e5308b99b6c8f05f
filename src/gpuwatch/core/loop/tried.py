"""What became of the fixes that were tried on a server: one that failed there is not the first to be tried again.

The memory is a value. It is told of each fix by a `FixTried`, and kept on disk by whoever runs the loop. What it knows is
bounded in number and age: a card that was full last week may be empty today.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gpuwatch.core.diagnosis import Fix
from gpuwatch.core.observations import FixOutcome, FixTried

MOST = 500
HELD_FOR = timedelta(days=14)
_LONGEST = 200
_MOST_VALUES = 16
_OUTCOMES: tuple[FixOutcome, ...] = ("applied", "held", "failed")

Values = tuple[tuple[str, Any], ...]
"""Inputs and their values, by name."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a fix is tried: which node of which server, with which values of its own."""

    server: str
    node_type: str
    values: Values = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One fix, and what became of it last."""

    scene: Scene
    action: str
    after: Values
    """The values that it set."""
    outcome: FixOutcome
    at: datetime


@dataclass(frozen=True, slots=True)
class Tried:
    """The attempts that are remembered, the oldest first; each scene and fix once."""

    attempts: tuple[Attempt, ...] = ()

    def after(self, tried: FixTried) -> Tried:
        """With what has become known of one fix."""
        if tried.server is None or tried.node_type is None:
            return self
        scene = Scene(tried.server, tried.node_type, values_of(tried.before))
        return self.having([Attempt(scene, tried.action, values_of(tried.after), tried.outcome, tried.at)])

    def having(self, attempts: Iterable[Attempt]) -> Tried:
        """With these attempts; of the same scene and fix the last counts."""
        known = {(each.scene, each.action, each.after): each for each in self.attempts}
        for attempt in attempts:
            key = (attempt.scene, attempt.action, attempt.after)
            known.pop(key, None)
            known[key] = attempt
        return Tried(tuple(known.values())[-MOST:])

    def failed(self, scene: Scene, action: str, after: Values, at: datetime) -> bool:
        """Whether this very fix failed in this very scene, not too long ago."""
        return any(
            each.outcome == "failed"
            and (each.scene, each.action, each.after) == (scene, action, after)
            and at - each.at <= HELD_FOR
            for each in self.attempts
        )

    def ordered(self, fixes: Sequence[Fix], server: str, node_type: str | None, at: datetime) -> tuple[Fix, ...]:
        """The fixes with those that failed on this server and node behind the others; else in their order."""
        return tuple(sorted(fixes, key=lambda fix: self._told_against(fix, server, node_type, at)))

    def _told_against(self, fix: Fix, server: str, node_type: str | None, at: datetime) -> bool:
        for each in reversed(self.attempts):
            if (each.scene.server, each.scene.node_type, each.action) != (server, node_type, fix.action):
                continue
            if each.outcome == "applied" or at - each.at > HELD_FOR:
                continue
            to = fix.params.get("to")
            if to is None or not each.after or to in dict(each.after).values():
                return each.outcome == "failed"
        return False


def values_of(inputs: Mapping[str, Any]) -> Values:
    """Plain values by name, in one order: what can be compared and kept. Seeds say nothing of memory and are left out."""
    plain = [
        (str(name)[:_LONGEST], value) for name, value in inputs.items() if "seed" not in str(name) and _is_plain(value)
    ]
    return tuple(sorted(plain))[:_MOST_VALUES]


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST
    return isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))


# -- as it is kept ---------------------------------------------------------------------------------------------------------


def as_json(tried: Tried) -> list[dict[str, Any]]:
    """The memory as JSON has it."""
    return [
        {
            "server": each.scene.server,
            "node_type": each.scene.node_type,
            "before": dict(each.scene.values),
            "action": each.action,
            "after": dict(each.after),
            "outcome": each.outcome,
            "at": each.at.isoformat(),
        }
        for each in tried.attempts
    ]


def from_json(value: Any) -> Tried:
    """The memory that a file keeps; what is not of its shape is left out."""
    found: list[Attempt] = []
    for entry in value[-MOST:] if isinstance(value, list) else ():
        if not isinstance(entry, dict):
            continue
        words = [entry.get(name) for name in ("server", "node_type", "action", "at")]
        before, after, outcome = entry.get("before"), entry.get("after"), entry.get("outcome")
        if not all(isinstance(word, str) and len(word) <= _LONGEST for word in words) or outcome not in _OUTCOMES:
            continue
        if not isinstance(before, dict) or not isinstance(after, dict):
            continue
        try:
            at = datetime.fromisoformat(str(words[3]))
        except ValueError:
            continue
        if at.tzinfo is not None:
            scene = Scene(str(words[0]), str(words[1]), values_of(before))
            found.append(Attempt(scene, str(words[2]), values_of(after), outcome, at))
    return Tried().having(found)
