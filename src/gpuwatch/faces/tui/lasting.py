"""Textual's driver, for a terminal that may be gone at any moment: its window is closed, its connection is lost.

A thread of Textual's writes what is drawn. A write that fails ends that thread; whoever draws then waits for it, and a program
that was told to end never does.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TextIO, cast

from textual.drivers.linux_driver import LinuxDriver


class Lasting:
    """A file that takes what is written, also where nothing shows it any more."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, words: str) -> int:
        """Write, if that can be done."""
        with suppress(OSError):
            self._file.write(words)
        return len(words)

    def flush(self) -> None:
        """Send on what was written, if that can be done."""
        with suppress(OSError):
            self._file.flush()

    def fileno(self) -> int:
        """The descriptor."""
        return self._file.fileno()


class LastingDriver(LinuxDriver):
    """Draws on the terminal as long as there is one."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self._file is not None:
            self._file = cast(Any, Lasting(self._file))
