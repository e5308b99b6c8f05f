"""How long a server that does not answer as it should is waited for: longer each time, said now and then, not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

from gpuwatch.adapters.comfyui.client import NoAnswerError
from gpuwatch.texts import Text, text

_LONGEST_PAUSE = 10.0
_SAID_EVERY_SECONDS = 60.0


class Patience:
    """One server's: it begins anew with every answer of use."""

    def __init__(self, server: str, most_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.server, self.most_seconds = server, most_seconds
        self._clock = clock
        self._since: float | None = None
        self._said_at = 0.0
        self._tries = 0

    @property
    def away_seconds(self) -> float:
        """How long it has not answered; 0 where it does."""
        return 0.0 if self._since is None else self._clock() - self._since

    def pause_seconds(self, first: float) -> float:
        """How long to wait before the next try, where the first wait is so long."""
        return float(min(first * 2 ** min(self._tries, 20), _LONGEST_PAUSE))

    def failed(self, error: NoAnswerError) -> Text | None:
        """It did not answer; what is to be said of that. Raises NoAnswerError where this went on for too long."""
        now = self._clock()
        began = self._since is None
        self._since = now if self._since is None else self._since
        self._tries += 1
        if now - self._since >= self.most_seconds:
            raise NoAnswerError(
                error.trouble,
                text(
                    "{server}: given up after {waited_seconds} and {count} tries: {why}",
                    server=self.server,
                    waited_seconds=now - self._since,
                    count=self._tries,
                    why=error.message,
                ),
                error.hint,
                error.status,
            )
        if began:
            self._said_at = now
            return text("{why} Waiting for it.", why=error.message)
        if now - self._said_at < _SAID_EVERY_SECONDS:
            return None
        self._said_at = now
        return text(
            "{server}: no answer of use for {waited_seconds}, {count} tries: {why}",
            server=self.server,
            waited_seconds=now - self._since,
            count=self._tries,
            why=error.message,
        )

    def answered(self) -> Text | None:
        """It answered; what is to be said of that."""
        was_away, self._since, self._tries = self._since is not None, None, 0
        return text("{server}: answers again.", server=self.server) if was_away else None
