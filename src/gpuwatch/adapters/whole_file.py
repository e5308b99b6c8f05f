"""Files that are whole for whoever reads them: written beside, then put in place in one step.

What is written beside is taken away whatever ends the writing, Ctrl-C and SIGTERM too; only SIGKILL and a power cut leave it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpuwatch.errors import unwritable

FOR_ALL = 0o644
"""The mode of a file that another program's user reads."""
_LONGEST_PREFIX = 60


def write_whole(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Write a file, or leave what is there as it is; a link is followed. Raises UsageError where it cannot be written.

    Without `mode` (as chmod takes it) the file keeps the one it has, and a new one gets what the person's umask leaves.
    A pipe or a device is written to as it is.
    """
    place = Path(os.path.realpath(path))
    try:
        if place.exists() and not place.is_file():
            place.write_bytes(content)
            return
        with beside(place, content) as temporary:
            temporary.chmod(mode_of(place) if mode is None else mode)
            temporary.replace(place)
    except OSError as error:
        raise unwritable(path, error) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises UsageError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


@contextmanager
def beside(place: Path, content: bytes) -> Iterator[Path]:
    """A file of its own in the folder of `place`, on the disk with all its content; gone at the end if it is still there.

    Only its user may read it until its mode is changed. Raises OSError.
    """
    handle, name = tempfile.mkstemp(prefix=f".{place.name[:_LONGEST_PREFIX]}.", suffix=".new", dir=place.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def mode_of(place: Path) -> int:
    """The mode of the file that is there, else that of a new one. Raises OSError."""
    try:
        return stat.S_IMODE(place.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0o077)
        os.umask(mask)
        return 0o666 & ~mask
