"""The command palette's commands: every key by its meaning, found by the words of either language.

An input method for Chinese is not at hand in every terminal, and who switched the language may know a word in the other one.
That nothing is found is a line of this provider's too: the palette's own is English.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from gpuwatch.faces.tui.keys import Key, keys_of
from gpuwatch.texts import LANGUAGES, current, render
from gpuwatch.texts import translate as _

_NOTHING = 0.01
"""A score below that of anything that is found."""


class KeyCommands(Provider):
    """The keys that this screen has."""

    async def discover(self) -> Hits:
        """All of them, in the help's order."""
        for key in self._keys():
            yield DiscoveryHit(Content(self._shown(key)), self._runs(key), text=self._shown(key))

    async def search(self, query: str) -> Hits:
        """Those whose meaning has the letters of the query, here or in the other language; a line where none has."""
        matcher, found = self.matcher(query), False
        (other,) = (language for language in LANGUAGES if language != current())
        for key in self._keys():
            shown, told = self._shown(key), render(key.meaning_in(browser=self.app.is_web), other)
            here, there = matcher.match(shown), matcher.match(told)
            if max(here, there) > 0:
                found = True
                help_ = None if here else told
                yield Hit(max(here, there), matcher.highlight(shown), self._runs(key), text=shown, help=help_)
        if not found:
            words = _("No command has these words.")
            yield Hit(_NOTHING, Content(words), lambda: None, text=words)

    def _keys(self) -> tuple[Key, ...]:
        return keys_of(read_only=getattr(self.app, "read_only", False))

    def _shown(self, key: Key) -> str:
        return f"{render(key.meaning_in(browser=self.app.is_web))}  ({key.shown})"

    def _runs(self, key: Key) -> Callable[[], object]:
        return partial(self.app.call_later, self.app.run_action, key.action)
