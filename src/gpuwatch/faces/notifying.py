"""Failures told to who is not looking: the notices of one run, sent to webhooks and rung on the terminal.

`serve`, `watch` and `guard` open one desk each. It hears the pipeline and never holds it up: what it tells is put into queues.
"""

from __future__ import annotations

import argparse
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from gpuwatch.adapters.clock import utc_now
from gpuwatch.core.events import Event
from gpuwatch.core.incidents import Incident
from gpuwatch.core.notices import NOTICE_OUTCOMES, Bucket, Notice, Teller
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.narration import Narrate
from gpuwatch.faces.notice_page import headline
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text, visible

if TYPE_CHECKING:
    from gpuwatch.adapters.outbox import Outbox

_RINGS, _RING_EVERY = 3, timedelta(seconds=5)
_LONGEST_SIGNAL = 200


class Ringer:
    """Rings for failures, not oftener than one can bear: BEL, and OSC 9 for a terminal that shows notifications."""

    def __init__(
        self, write: Callable[[str], None], *, bell: bool, desktop: bool, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._write = write
        self._bell, self._desktop = bell, desktop
        self._clock = clock
        self._bucket = Bucket(_RINGS, _RING_EVERY)

    def __call__(self, notice: Notice) -> None:
        """Ring for what is bad news. The time is the clock's: a recording that is played fast is still heard by a person."""
        if notice.event not in {"opened", "worker_dead", "fix_failed", "gave_up"} or not self._bucket.take(
            self._clock()
        ):
            return
        signal = "\a" if self._bell else ""
        if self._desktop:
            signal += f"\x1b]9;gpuwatch: {visible(headline(notice))[:_LONGEST_SIGNAL]}\x1b\\"
        self._write(signal)


class Desk:
    """Makes the notices of a run and hands them on. A listener of the pipeline."""

    def __init__(self, teller: Teller, say: Narrate) -> None:
        self.outboxes: Sequence[Outbox] = ()
        self.ring: Callable[[Notice], None] | None = None
        self.say = say
        self._teller = teller
        self._host = socket.gethostname()
        self._turn = threading.Lock()
        """The pipeline's thread tells, and an unattended loop's."""
        self._latest: datetime | None = None

    def warn(self, words: Text) -> None:
        """Say what is wrong with the sending itself."""
        self.say(words, event="notices", level="warning")

    def __call__(self, events: Sequence[Event], snapshot: Snapshot) -> None:
        """Tell what the events ask for."""
        if (self.outboxes or self.ring is not None) and events:
            with self._turn:
                self._latest = events[-1].at
                self._tell(self._teller.hear(events, snapshot.incidents))

    def give_up(self, job: str, server: str, words: Text, incident: Incident | None) -> None:
        """Tell what an unattended loop could not mend."""
        with self._turn:
            self._tell(self._teller.give_up(utc_now(), job, server, words, incident))

    def counts(self) -> dict[str, int]:
        """What became of the notices, over all addresses; those held back count once."""
        total: Counter[str] = Counter({"held_back": self._teller.limit.held_total if self.outboxes else 0})
        for outbox in self.outboxes:
            total.update(outbox.counts)
        return {outcome: total[outcome] for outcome in NOTICE_OUTCOMES}

    def close(self) -> None:
        """Tell the rest, and let go of what waits."""
        with self._turn:
            self._tell(self._teller.limit.rest(self._latest) if self._latest is not None else ())
        for outbox in self.outboxes:
            outbox.close()

    def _tell(self, notices: Iterable[Notice]) -> None:
        for each in notices:
            notice = each.sent_from(self._host)
            for outbox in self.outboxes:
                outbox.post(notice)
            if self.ring is not None:
                self.ring(notice)


@contextmanager
def keep_desk(arguments: argparse.Namespace, pipeline: Pipeline, say: Narrate) -> Iterator[Desk]:
    """The desk that the arguments ask for, listening to the pipeline until the end of the block."""
    desk = Desk(Teller(arguments.notify_severity), say)
    if arguments.notify or arguments.notify_secret_file is not None:
        from gpuwatch.faces.sending import open_outboxes  # noqa: PLC0415 - HTTP and TLS, only where they are asked for

        desk.outboxes = open_outboxes(arguments.notify, arguments, desk.warn)
    pipeline.subscribe(desk)
    try:
        yield desk
    finally:
        desk.close()
