"""What the app has to do with its terminal: its size and colours, the background and back, a word of warning, a ring.

Nothing of GPUs is known here.
"""

from __future__ import annotations

import asyncio
import os
import signal as signals
import sys
import threading
from functools import partial

from textual import events
from textual.app import App
from textual.driver import Driver
from textual.geometry import Size
from textual.notifications import SeverityLevel

from gpuwatch.faces.tui.themes import ANSI, DARK, PALETTES
from gpuwatch.texts import Text, render, visible

_SIZE_SECONDS = 3.0


class Shell(App[None]):
    """An app that knows its terminal."""

    def draw(self) -> None:
        """Bring everything up to date."""
        raise NotImplementedError

    def get_driver_class(self) -> type[Driver]:
        """Textual's choice; on a terminal the one that outlasts it."""
        driver = super().get_driver_class()
        if driver.__module__ != "textual.drivers.linux_driver":
            return driver
        from gpuwatch.faces.tui.lasting import LastingDriver  # noqa: PLC0415 - there is none for Windows

        return LastingDriver

    @property
    def headless(self) -> bool:
        """Whether nobody sees it: a test, or a picture."""
        return self._driver is None or self._driver.is_headless

    def put_on(self, last_theme: str) -> None:
        """Put on the look of last time; before the app runs, because for another look every style is read anew."""
        for palette in PALETTES.values():
            self.register_theme(palette.theme())
        first = PALETTES.get(last_theme, DARK)
        self.set_reactive(App.theme, first.name)
        self.set_class(first.dark, "-dark-mode", update=False)
        self.set_class(not first.dark, "-light-mode", update=False)
        self.stylesheet.set_variables(self.get_css_variables())

    def take_terminal(self) -> None:
        """Look as this terminal can, and watch its size."""
        if not self.headless and self.console.color_system in {"standard", "windows"}:
            self.theme = ANSI.name  # made of sixteen colours
        self.app_resume_signal.subscribe(self, lambda _app: self.draw_everything())
        if not self.headless:
            self.set_interval(_SIZE_SECONDS, self._look_at_size)
            self._end_when_told()

    def _end_when_told(self) -> None:
        """End in order where a signal asks for it: a terminal that is left as it is drawn on is of no use to its shell."""
        if threading.current_thread() is threading.main_thread() and sys.platform != "win32":
            for number in (signals.SIGTERM, signals.SIGHUP, signals.SIGQUIT):
                asyncio.get_running_loop().add_signal_handler(number, partial(self.exit, return_code=128 + number))

    def draw_everything(self) -> None:
        """All of it anew: another look, or the terminal showed something else meanwhile."""
        self.draw()
        for widget in self.screen.walk_children():
            widget.refresh()

    def _look_at_size(self) -> None:
        """Terminals and multiplexers under load have been seen to lose the signal that tells of a new size."""
        try:
            size = Size(*os.get_terminal_size(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2))
        except (OSError, ValueError):
            return
        if size.width and size.height:
            self.notice_size(size)

    def notice_size(self, size: Size) -> None:
        """Take this for the terminal's size, where something else was taken for it."""
        if size != self.size:
            self.post_message(events.Resize(size, size))
        elif size != self.screen.size:
            self.screen.post_message(events.Resize(size, size))

    def action_suspend_process(self) -> None:
        """Stop the whole job, as the terminal's own Ctrl-Z does: a producer in the same pipe too, so that the shell comes back."""
        if sys.platform == "win32" or self._driver is None or not self._driver.can_suspend:
            return
        self._suspend_signal()
        os.killpg(os.getpgrp(), signals.SIGTSTP)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Show words for a while. They may be another program's, so nothing in them is markup."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)

    def say(self, words: Text, /, **_fields: object) -> None:
        """Show a word of warning; from any thread."""
        self.call_later(partial(self.notify, visible(render(words)), severity="warning"))

    def ring(self, signal: str) -> None:
        """Have the terminal ring; from any thread."""
        self.call_later(self._ring, signal)

    def _ring(self, signal: str) -> None:
        if self._driver is not None and not self._driver.is_headless:
            self._driver.write(signal)

    def action_theme(self) -> None:
        """The next look."""
        names = list(PALETTES)
        self.theme = names[(names.index(self.theme) + 1) % len(names)]
        self.draw_everything()
        self.notify(self.theme.removeprefix("gpuwatch-"), timeout=1.5)
