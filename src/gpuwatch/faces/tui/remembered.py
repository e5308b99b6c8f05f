"""What a person chose of the screen, from one time to the next: the page, the look, the language, how the log is shown.

A small file in the state folder, written whole. What is in it and means nothing here is left out; a file that cannot be read
is as good as none, because nothing that matters is in it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gpuwatch.adapters.whole_file import write_whole
from gpuwatch.errors import GpuwatchError
from gpuwatch.settings import state_folder

_MOST_BYTES = 16 * 1024


@dataclass(slots=True)
class Remembered:
    """The choices."""

    page: str = "home"
    theme: str = ""
    language: str = ""
    """As it was switched to on the screen; empty where it never was."""
    wrap: bool = False
    histogram: bool = False
    zoomed: bool = False
    looked_at: str = "incidents"

    @classmethod
    def read(cls, path: Path) -> Remembered | None:
        """What the file says; None where there is none. One that is damaged says nothing."""
        try:
            with path.open("rb") as file:
                known: Any = json.loads(file.read(_MOST_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):
            return cls()
        made = cls()
        if isinstance(known, dict):
            for one in fields(cls):
                value = known.get(one.name)
                if type(value) is type(getattr(made, one.name)):
                    setattr(made, one.name, value)
        return made

    def write(self, path: Path) -> None:
        """Keep it; a folder that cannot be written to is no reason to complain."""
        with suppress(OSError, GpuwatchError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, json.dumps(asdict(self), indent=1).encode() + b"\n", mode=0o600)


def screen_file() -> Path | None:
    """Where it is kept; None where there is no home."""
    folder = state_folder()
    return folder / "screen.json" if folder is not None else None
