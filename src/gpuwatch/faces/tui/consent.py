"""What of a plan a person has had before their eyes: a key agrees to it only once that is all of it, and for a moment.

A plan comes when the server has answered, which may be between two strokes of the same key; on a small terminal part of it is
below the edge. Neither must be agreed to unseen.
"""

from __future__ import annotations

from dataclasses import dataclass

LOOK_SECONDS = 0.4
"""Less is no look: the second stroke was meant for what stood there before."""


@dataclass(frozen=True, slots=True)
class Question:
    """How a plan stands before the person."""

    hidden_rows: int = 0
    """Rows at its end that were never in view."""
    ready: bool = False
    """Whether a key may agree to it."""


@dataclass(slots=True)
class Consent:
    """How much of one plan was seen."""

    plan: object | None = None
    since: float = 0.0
    _hidden_rows: int = 0
    _seen_to: int = 0

    def ask(self, plan: object | None, now: float) -> bool:
        """This plan stands there; whether it is another one than before."""
        if plan is self.plan:
            return False
        self.plan, self.since, self._seen_to, self._hidden_rows = plan, now, 0, 0
        return plan is not None

    def see(self, end: int, bottom: int) -> bool:
        """The plan's rows end before row `end`, those before `bottom` are in view; whether that changes what is hidden."""
        before = self._hidden_rows
        self._seen_to = max(self._seen_to, bottom)
        self._hidden_rows = max(end - self._seen_to, 0)
        return self._hidden_rows != before

    def question(self, plan: object | None, now: float) -> Question:
        """How this plan stands."""
        known = plan is not None and plan is self.plan
        looked_at = known and now - self.since >= LOOK_SECONDS
        return Question(self._hidden_rows if known else 0, looked_at and not self._hidden_rows)
