"""How often a watched server is asked, and what is due when."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

Errand = Literal["queue", "stats", "ring", "socket"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the server is asked, and how long is waited."""

    busy_seconds: float = 2.0
    idle_seconds: float = 5.0
    stats_seconds: float = 30.0
    """Of an idle server; of one that works it is asked at the busy pace."""
    ring_seconds: float = 60.0
    """How often the entries that the server keeps are looked through, where no frame came: a socket may be deaf."""
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 10.0


class Timetable:
    """When each thing is to be asked next."""

    def __init__(self) -> None:
        self._due: dict[Errand, float] = {}

    @property
    def seconds_left(self) -> float:
        """Until something is due."""
        return max(min(self._due.values()) - time.monotonic(), 0.0)

    def next(self, errand: Errand, seconds: float) -> None:
        """Have it asked in so many seconds, whatever was said before."""
        self._due[errand] = time.monotonic() + seconds

    def soon(self, errand: Errand, seconds: float) -> None:
        """Have it asked in so many seconds at the latest."""
        if errand in self._due:
            self._due[errand] = min(self._due[errand], time.monotonic() + seconds)

    def is_due(self, errand: Errand) -> bool:
        """Whether its time has come."""
        return time.monotonic() >= self._due[errand]
