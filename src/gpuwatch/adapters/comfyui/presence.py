"""Whether a watched server answers, and what was said of it: each reason once, not at every attempt to reach it."""

from __future__ import annotations

from gpuwatch.adapters.comfyui.client import NoAnswerError
from gpuwatch.texts import Text, render, text

_MOST_TOLD = 100
"""Reasons that are remembered. A server, or a proxy before it, words some of them anew each time."""


class Presence:
    """One server's. It counts as there until it is not: the pipeline says that a source is up when it starts."""

    def __init__(self) -> None:
        self._up = True
        self._slow = False
        """Whether it did not answer in time once, and was not said to be away for it."""
        self._told: set[str] = set()

    def returned(self) -> bool:
        """The server answers; whether it was said to be away before."""
        was_away, self._up = not self._up, True
        return was_away

    def works(self) -> None:
        """All that it is asked was answered: it may be slow once more."""
        self._slow = False

    def away(self, error: NoAnswerError) -> Text | None:
        """The server does not answer; gives the reason where it is to be said."""
        reason = (
            error.message if error.hint is None else text("{message} {hint}", message=error.message, hint=error.hint)
        )
        if error.trouble == "slow" and self._up and not self._slow:
            self._slow = True  # one that loads a model may not answer for a while: asked once more before that is said
            return None
        if self._up:
            self._told.clear()
        new = self.is_news(reason)
        self._up = False
        return reason if new else None

    def is_news(self, reason: Text) -> bool:
        """Whether this was not said yet of the server as it is now."""
        words = render(reason, "en")
        if words in self._told:
            return False
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told.add(words)
        return True
