"""Notices on their way to one target: kept in order, tried again, bounded, and never in anybody's way.

`post` returns at once. A thread delivers; while the other side fails it waits longer and longer, and what is older than an hour
or more than the queue holds is counted as lost, never waited for.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.webhook import Carrier, Verdict
from gpuwatch.core.notices import Notice, NoticeOutcome
from gpuwatch.texts import Text, text

MOST_WAITING = 100
_GRACE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait before the next try, and when to give up."""

    first_seconds: float = 1.0
    longest_seconds: float = 60.0
    most_age_seconds: float = 3600.0

    def wait_seconds(self, tries: int, chance: float) -> float:
        """Twice as long after each try, less a random part of up to half: not everybody comes back at once."""
        seconds = min(self.longest_seconds, self.first_seconds * 2.0 ** min(tries - 1, 30))
        return seconds * (1 - chance / 2)


class Outbox:
    """What waits for one target, and the thread that takes it there."""

    def __init__(
        self,
        carrier: Carrier,
        say: Callable[[Text], None],
        *,
        pace: Pace | None = None,
        clock: Callable[[], datetime] = utc_now,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._carrier, self._say = carrier, say
        self._pace = pace or Pace()
        self._clock = clock
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[Notice, float]] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._counts: Counter[NoticeOutcome] = Counter()
        self._in_trouble = False
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Mapping[NoticeOutcome, int]:
        """What became of the notices so far."""
        with self._changed:
            return {fate: count for fate, count in self._counts.items() if count}

    @property
    def full(self) -> bool:
        """Whether one more would push out the oldest."""
        with self._changed:
            return len(self._waiting) >= self._most_waiting

    def post(self, notice: Notice) -> None:
        """Take it; where there is no room the oldest goes."""
        with self._changed:
            if self._closing.is_set():
                self._counts["dropped"] += 1
                return
            self._waiting.append((notice, time.monotonic()))
            if len(self._waiting) > self._most_waiting:
                self._waiting.popleft()
                self._counts["dropped"] += 1
            self._changed.notify_all()

    def settle(self, timeout_seconds: float) -> bool:
        """Wait until nothing waits; False where that took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout_seconds)

    def close(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Try what waits once more, for a moment; the rest is lost, and that is said."""
        with self._changed:
            dropped = self._counts["dropped"]
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(grace_seconds)
        with self._changed:
            if self._waiting:
                self._counts["dropped"] += len(self._waiting)
            self._waiting.clear()
            lost = self._counts["dropped"] - dropped
        self._carrier.abort()
        if lost:
            self._say(
                text("Notices that did not reach {target}: {count}.", target=self._carrier.target.shown, count=lost)
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if not self._waiting:
                    return
                notice, since = self._waiting[0]
            fate = self._deliver(notice, since)
            with self._changed:
                if self._waiting and self._waiting[0][0] is notice:  # where there is no room it is gone already
                    self._waiting.popleft()
                    self._counts[fate] += 1
                self._changed.notify_all()

    def _deliver(self, notice: Notice, since: float) -> NoticeOutcome:
        tries = 0
        while True:
            last = self._closing.is_set()
            try:
                verdict = self._carrier.carry(notice, self._clock())
            except Exception as error:  # noqa: BLE001 - a fault with one notice must not end the others; it is told
                verdict = Verdict("refused", text("stopped by an error: {error}", error=type(error).__name__))
            tries += 1
            if verdict.outcome != "later":
                self._told(verdict)
                return "delivered" if verdict.outcome == "delivered" else "refused"
            if last or time.monotonic() - since > self._pace.most_age_seconds:
                return "dropped" if last else "failed"
            self._told(verdict)
            wait = self._pace.wait_seconds(tries, random.random())  # noqa: S311 - spreads load, keeps no secret
            self._closing.wait(max(wait, verdict.retry_after_seconds or 0.0))
            if self._overtaken(notice):
                return "dropped"

    def _overtaken(self, notice: Notice) -> bool:
        with self._changed:
            return not self._waiting or self._waiting[0][0] is not notice

    def _told(self, verdict: Verdict) -> None:
        """Say that it goes wrong, once, and that it goes well again."""
        target = self._carrier.target.shown
        if verdict.outcome == "delivered":
            if self._in_trouble:
                self._say(text("Notices reach {target} again.", target=target))
            self._in_trouble = False
        elif not self._in_trouble:
            self._in_trouble = True
            if verdict.outcome == "later":
                self._say(
                    text(
                        "Notices do not reach {target}: {words}. It is tried again.", target=target, words=verdict.words
                    )
                )
            else:
                self._say(text("{target} refuses notices: {words}.", target=target, words=verdict.words))
