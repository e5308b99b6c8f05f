"""Files to follow, and files that may not be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from gpuwatch.adapters.sources.file import FileSource
from tests.adapters.watching import Watched

NOBODY = 65534


def follow(path: Path, *, from_start: bool = True, show_history: bool = False) -> Watched:
    return Watched(FileSource.from_path(str(path), from_start=from_start, show_history=show_history))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@contextmanager
def someone_who_may_not(path: Path) -> Iterator[None]:
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder where another user may look and rename; pytest's own are closed to others."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)
