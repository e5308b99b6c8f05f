"""Slow instead of failing: where the card is full and the driver puts the rest into the machine's memory, nothing is logged.

Windows' driver does so (shared GPU memory). A step that took half a second takes ten, and only the progress bar shows it. Told
where a bar's own pace falls to a tenth of what the same number of steps had in this log before, while the card is full; a first
run that is slow from its start has nothing to be measured by.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from gpuwatch.core.incidents import Incident
from gpuwatch.core.rules import Rule

LABEL = "memory_spilled"
_PACE = re.compile(rb"(\d{1,7})/(\d{1,7}) \[[^\]]{0,60}?, +(\d{1,7}(?:\.\d{1,4})?)(s/it|it/s)")
_TIMES = 10.0
_AGAIN = 3.0
"""Below so many times the usual it is over."""
_LEAST_SECONDS = 1.0
"""A step that is quicker than this is nobody's trouble."""
_FULL_RATIO = 0.97
_FRAMES = 3
"""A bar tells a moving mean; so many slow steps in a row are none of its first."""
_MOST_USUAL = 32


@dataclass(frozen=True, slots=True)
class Room:
    """How full the card is."""

    used_bytes: int
    total_bytes: int

    @property
    def full(self) -> bool:
        """Whether next to nothing is left."""
        return self.used_bytes >= _FULL_RATIO * self.total_bytes


@dataclass(slots=True)
class Slowness:
    """The pace of one log's bars."""

    source: str
    frame: bytes = b""
    """The newest that was seen."""
    _usual: OrderedDict[int, float] = field(default_factory=OrderedDict)
    """By a bar's number of steps, the quickest pace in seconds."""
    _last: tuple[int, int] = (0, 0)
    _slow: int = 0
    _told: Incident | None = None

    def see(self, bar: bytes, at: datetime, room_of: Callable[[], Room | None], rule: Rule) -> Incident | None:
        """Take a bar's newest frame; the incident that begins with it, or ends."""
        self.frame = bar
        found = _PACE.search(bar[-400:])
        if found is None:
            return None
        step, steps, pace = int(found[1]), int(found[2]), float(found[3])
        seconds = pace if found[4] == b"s/it" else 1 / pace if pace else 0.0
        if not seconds or step < 2 or (step, steps) == self._last:
            return None
        self._last, room = (step, steps), room_of()
        usual = self._usual.get(steps)
        if self._told is not None:
            return self._over(at) if usual is None or seconds < _AGAIN * usual else None
        if usual is not None and seconds >= max(_TIMES * usual, _LEAST_SECONDS) and room is not None and room.full:
            self._slow += 1
            return self._begun(at, (seconds, usual), room, rule) if self._slow >= _FRAMES else None
        self._slow = 0
        if room is None or not room.full:
            self._usual[steps] = min(seconds, usual or seconds)
            if len(self._usual) > _MOST_USUAL:
                self._usual.popitem(last=False)
        return None

    def over(self, at: datetime) -> Incident | None:
        """The server began anew; the incident that this ends."""
        return self._over(at)

    def _begun(self, at: datetime, paces: tuple[float, float], room: Room, rule: Rule) -> Incident:
        seconds, usual = paces
        told = f"{self.source}\0{rule.id}\0{at.isoformat()}"
        self._told = Incident(
            id=hashlib.blake2s(told.encode("utf-8", "backslashreplace"), digest_size=5).hexdigest(),
            source=self.source,
            rule=rule,
            label=rule.label,
            state="open",
            line=0,
            text=f"{seconds:.1f} s/it, {seconds / usual:.0f} times the usual {usual:.2g} s/it, with "
            f"{room.used_bytes / 2**30:.1f} of {room.total_bytes / 2**30:.1f} GiB in use",
            first_at=at,
            last_at=at,
            facts={
                "step_seconds": seconds,
                "usual_seconds": usual,
                "used_bytes": room.used_bytes,
                "total_bytes": room.total_bytes,
            },
        )
        return self._told

    def _over(self, at: datetime) -> Incident | None:
        told, self._told, self._slow = self._told, None, 0
        return None if told is None else replace(told, state="cleared", last_at=at)
