"""Notices on their way to one target: kept in order, tried again, bounded, and never in anybody's way.

`post` returns at once. A thread delivers; while the other side fails it waits longer and longer, and what is older than an hour
or more than the queue holds is counted as lost, never waited for. With a file to keep them in, what waits when gpuwatch ends, or
is killed, is delivered by the next one; what has arrived is taken out of the file at once.
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
from gpuwatch.adapters.outbox_file import OutboxFile
from gpuwatch.adapters.webhook import Carrier, Verdict
from gpuwatch.core.notices import Notice, NoticeOutcome
from gpuwatch.errors import GpuwatchError
from gpuwatch.texts import Text, plain, text

MOST_WAITING = 100
_GRACE_SECONDS = 3.0
_ABORT_SECONDS = 1.0


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
        kept: OutboxFile | None = None,
    ) -> None:
        """`kept`: where what waits is kept, and what an earlier run left; it is closed with this."""
        self._carrier, self._say, self._kept = carrier, say, kept
        self._pace = pace or Pace()
        self._clock = clock
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[Notice, float]] = deque()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._counts: Counter[NoticeOutcome] = Counter()
        self._in_trouble = False
        self._left: list[Notice] = []
        """What is left to the next run."""
        self._writing = threading.Lock()
        self._written: tuple[Notice, ...] = ()
        """Those that the file holds."""
        self._keeps = True
        self._over = False
        """Whether nothing is sent any more."""
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
        """Try what waits once more, for a moment; the rest is kept for the next run, or lost, and that is said."""
        with self._changed:
            dropped = self._counts["dropped"]
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(grace_seconds)
        with self._changed:
            self._over = True
            self._left += [notice for notice, _since in self._waiting]
            self._waiting.clear()
        self._carrier.abort()
        self._thread.join(_ABORT_SECONDS)
        kept = self._keep()
        with self._changed:
            left = len(self._left)
            if not kept:
                self._counts["dropped"] += left
            self._left.clear()
            lost = self._counts["dropped"] - dropped
        with self._writing:
            if self._kept is not None:
                self._kept.close()
                self._kept = None
        target = self._carrier.target.shown
        if lost:
            self._say(text("Notices that did not reach {target}: {count}.", target=target, count=lost))
        if left and kept:
            self._say(
                text(
                    "Notices that wait for {target}: {count}; the next gpuwatch that sends there takes them along.",
                    target=target,
                    count=left,
                )
            )

    # -- on its thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._take_over()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
            self._keep()
            with self._changed:
                if not self._waiting:
                    if self._closing.is_set():
                        return
                    continue
                notice, since = self._waiting[0]
            fate = self._deliver(notice, since)
            with self._changed:
                known = len(self._left)
                self._left = [each for each in self._left if each is not notice]
                if self._waiting and self._waiting[0][0] is notice:
                    self._waiting.popleft()
                elif known == len(self._left):
                    continue  # there was no room for it, and it is counted already
                if fate is None:
                    self._left.append(notice)
                else:
                    self._counts[fate] += 1
            self._keep()
            with self._changed:
                self._changed.notify_all()

    def _take_over(self) -> None:
        """What an earlier run left is delivered first."""
        if self._kept is None:
            return
        now = time.monotonic()
        try:
            left = self._kept.take_over()
        except (OSError, GpuwatchError) as error:
            self._not_kept(error)
            return
        with self._changed:
            self._written = tuple(left)
            self._counts["failed"] += self._kept.too_old
            self._waiting.extendleft((notice, now) for notice in reversed(left))
            while len(self._waiting) > self._most_waiting:
                self._waiting.popleft()
                self._counts["dropped"] += 1

    def _keep(self) -> bool:
        """Have the file hold what waits; whether it does. Nobody else waits for the disk."""
        with self._writing:
            with self._changed:
                notices = self._unsent()
            if self._kept is None:
                return False
            if notices != self._written:
                try:
                    self._keeps = self._kept.keep(notices)
                except (OSError, GpuwatchError) as error:
                    self._not_kept(error)
                    return False
                self._written = notices
            return self._keeps

    def _unsent(self) -> tuple[Notice, ...]:
        return (*self._left, *(notice for notice, _since in self._waiting))

    def _not_kept(self, error: OSError | GpuwatchError) -> None:
        """Say why nothing is kept, and keep nothing more."""
        words = error.message if isinstance(error, GpuwatchError) else plain(error.strerror or str(error))
        self._say(text("Notices that wait are not kept on disk: {error}", error=words))
        self._kept = None

    def _deliver(self, notice: Notice, since: float) -> NoticeOutcome | None:
        """Deliver it; what became of it, None where it is left to the next run."""
        tries = 0
        while True:
            last = self._closing.is_set()
            if self._over:
                return None
            try:
                verdict = self._carrier.carry(notice, self._clock())
            except Exception as error:  # noqa: BLE001 - a fault with one notice must not end the others; it is told
                verdict = Verdict("refused", text("stopped by an error: {error}", error=type(error).__name__))
            tries += 1
            if verdict.outcome != "later":
                self._told(verdict)
                return "delivered" if verdict.outcome == "delivered" else "refused"
            if last or time.monotonic() - since > self._pace.most_age_seconds:
                return None if last else "failed"
            self._told(verdict)
            wait = self._pace.wait_seconds(tries, random.random())  # noqa: S311 - spreads load, keeps no secret
            self._pause(max(wait, verdict.retry_after_seconds or 0.0))
            if self._overtaken(notice):
                return "dropped"

    def _pause(self, seconds: float) -> None:
        """Wait before the next try, or until all ends; what comes meanwhile is kept."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._closing.is_set():
            self._keep()
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing.is_set() or (self._kept is not None and self._unsent() != self._written), left
                )

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
