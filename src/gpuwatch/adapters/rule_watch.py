"""Notices that a person changed their rules or mutes, and reads them anew beside the loop, which goes on with the old ones.

What is read is handed over ready for use, so that taking it costs the loop nothing. What cannot be read is told once, and the
old rules stay. Files are looked at by name, size and time every two seconds; that costs a few system calls.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from gpuwatch.adapters.clock import utc_now
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.reloads import Change, MutesLoaded, MutesRefused, RulesLoaded, RulesRefused
from gpuwatch.core.rules import RuleSet
from gpuwatch.errors import GpuwatchError
from gpuwatch.settings import config_folder, home_folder, own_mutes_file, rule_suffix
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import Text, plain, render, text

POLL_SECONDS = 2.0

Seen = tuple[tuple[str, int, int, int], ...] | None
"""The rule files of a folder: name, time, size, inode; None where there is no folder."""


class RuleWatch:
    """Looks at the folders of rules and at the file of mutes. Make it before they are read for the first time."""

    name = "rules"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        ready: Callable[[RuleSet], Matcher] = Matcher,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._folder = folder
        self._ready = ready
        self._clock = clock
        self._own = config_folder(os.environ, home_folder())
        self._mutes_file = own_mutes_file()
        self._layers = self._look_at_rules()
        self._in_force = self._layers
        self._mutes = self._look_at_mutes()

    def run(self, emit: Callable[[Change], bool], stop: threading.Event) -> None:
        """Look again and again until told to stop."""
        while not stop.wait(POLL_SECONDS):
            for change in self.look():
                emit(change)

    def look(self) -> list[Change]:
        """Look once; what came of it."""
        found = [self._rules_now(), self._mutes_now()]
        return [change for change in found if change is not None]

    def _rules_now(self) -> Change | None:
        layers = self._look_at_rules()
        if layers == self._layers:
            return None
        self._layers = layers
        gone = next((folder for folder, seen in layers.items() if seen is None and self._in_force[folder]), None)
        if gone is not None:
            return RulesRefused(self._clock(), text("{folder}: the rules folder is gone.", folder=str(gone)))
        from gpuwatch.adapters.rulebook import load_rules  # noqa: PLC0415 - it brings YAML, which few runs need

        try:
            rules = load_rules(self._folder)
            loaded = RulesLoaded(self._clock(), rules, self._ready(rules))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the files, the old rules go on
            if self._look_at_rules() != layers:
                return None  # half written: look again
            return RulesRefused(self._clock(), _reason(error))
        self._in_force = layers
        return loaded

    def _mutes_now(self) -> Change | None:
        seen = self._look_at_mutes()
        if seen == self._mutes:
            return None
        self._mutes = seen
        if self._mutes_file is not None and seen is None and not self._mutes_file.parent.is_dir():
            gone = text("{folder}: the folder is gone.", folder=str(self._mutes_file.parent))
            return MutesRefused(self._clock(), gone)
        from gpuwatch.adapters.mute_file import load_mutes  # noqa: PLC0415 - as above

        try:
            return MutesLoaded(self._clock(), load_mutes(self._mutes_file))
        except Exception as error:  # noqa: BLE001 - as above
            return MutesRefused(self._clock(), _reason(error)) if self._look_at_mutes() == seen else None

    def _look_at_rules(self) -> dict[Path, Seen]:
        folders = [shipped_folder("rules"), self._own / "rules" if self._own is not None else None, self._folder]
        return {folder: seen_in(folder) for folder in folders if folder is not None}

    def _look_at_mutes(self) -> tuple[int, int, int] | None:
        if self._mutes_file is None:
            return None
        try:
            status = self._mutes_file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def seen_in(folder: Path) -> Seen:
    """What stands in a folder of rules now."""
    found: list[tuple[str, int, int, int]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if rule_suffix(Path(entry.name)):
                    try:
                        status = entry.stat()
                    except OSError:  # a link to nowhere, or gone since it was listed
                        found.append((entry.name, 0, 0, 0))
                    else:
                        found.append((entry.name, status.st_mtime_ns, status.st_size, status.st_ino))
    except OSError:
        return None
    return tuple(sorted(found))


def _reason(error: Exception) -> Text:
    """What is wrong, on one line: the first of the mistakes, and how many there are besides."""
    if not isinstance(error, GpuwatchError):
        return text("stopped by an error: {error}", error=repr(error))
    first, *rest = render(error.message).splitlines() or [""]
    return text("{first} ({count} more)", first=first, count=len(rest)) if rest else plain(first)
