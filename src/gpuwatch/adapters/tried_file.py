"""What became of fixes, kept from one run to the next: `tried.json` in the person's state folder.

Two runs may write it at once: each reads it anew before it adds what it learned. A file that cannot be read or written is no
reason to stop: then this run remembers for itself alone.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from gpuwatch.adapters.whole_file import write_whole
from gpuwatch.core.loop.tried import Tried, as_json, from_json
from gpuwatch.core.observations import FixTried
from gpuwatch.errors import UsageError
from gpuwatch.settings import state_folder

NAME = "tried.json"
_MOST_BYTES = 4 << 20


class TriedFile:
    """The memory and its file; no file where there is no folder for it."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / NAME if folder is not None else None
        self.tried = self._read()

    @classmethod
    def own(cls) -> TriedFile:
        """The person's."""
        return cls(state_folder())

    def learn(self, tried: FixTried) -> None:
        """Take what became of one fix."""
        self.tried = self.tried.after(tried)
        if self._path is None or tried.outcome == "applied":
            return
        self.tried = self._read().having(self.tried.attempts)
        with suppress(OSError, UsageError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self._path, json.dumps(as_json(self.tried), indent=1).encode(), mode=0o600)

    def _read(self) -> Tried:
        if self._path is None or not self._path.is_file():
            return Tried()
        try:
            with self._path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            return from_json(json.loads(content)) if len(content) <= _MOST_BYTES else Tried()
        except (OSError, ValueError, RecursionError):
            return Tried()
