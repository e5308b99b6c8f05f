"""What is written or pushed again and again beside the loop: tried at an interval, counted, told once when it begins to fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Literal

from gpuwatch.errors import GpuwatchError
from gpuwatch.faces.narration import Narrate, in_words
from gpuwatch.texts import text

Way = Literal["textfile", "otlp"]
"""How the metrics leave without being asked for: a closed set, because it is also a metric's label."""
PushOutcome = Literal["sent", "failed"]
PushCounts = Counter[tuple[Way, PushOutcome]]
"""Each way has a thread of its own that adds to its own keys."""

EVERY_SECONDS = 15.0


class Repeating:
    """A thread that does one thing at an interval until it is closed. What goes wrong is a GpuwatchError."""

    def __init__(
        self,
        way: Way,
        act: Callable[[], None],
        every_seconds: float = EVERY_SECONDS,
        *,
        counts: PushCounts | None = None,
        say: Narrate = in_words,
        at_once: bool = False,
        at_end: bool = False,
    ) -> None:
        self._way = way
        self._act = act
        self._every_seconds = every_seconds
        self._counts: PushCounts = Counter() if counts is None else counts
        self._say = say
        self._at_once, self._at_end = at_once, at_end
        self._stop = threading.Event()
        self.failing = False
        """Whether the last time went wrong."""
        self._thread = threading.Thread(target=self._run, name=way, daemon=True)
        self._thread.start()

    def close(self, patience_seconds: float | None = None) -> None:
        """Stop; with `at_end` once more before that, unless it went wrong. Waits no longer than told."""
        self._stop.set()
        self._thread.join(patience_seconds)

    def _run(self) -> None:
        if self._at_once:
            self._try()
        while not self._stop.wait(self._every_seconds):
            self._try()
        if self._at_end and not self.failing:
            self._try()

    def _try(self) -> None:
        try:
            self._act()
        except GpuwatchError as error:
            self._counts[self._way, "failed"] += 1
            if not self.failing:
                self._say(error.message, event=self._way, level="error")
            self.failing = True
        else:
            self._counts[self._way, "sent"] += 1
            if self.failing:
                self._say(text("{way}: works again", way=self._way), event=self._way)
            self.failing = False
