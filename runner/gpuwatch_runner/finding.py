"""The photos of a command line: files as named, folders with all that is under them, in an order that does not change.

What is found is what a person would call their photos: hidden files, our own outputs and the output folder are passed over.
Whether a file can be decoded is left to whoever decodes it.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpuwatch.errors import UsageError
from gpuwatch.texts import plain, text

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jfif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".ppm",
        ".pgm",
        ".pnm",
        ".jp2",
        ".avif",
        ".heic",
        ".heif",
    )
)
"""What a folder is searched for; a file named on the command line is tried whatever it is called."""
MARK = "-colorized"
"""Ends the name of every output: an output never replaces its input, and a second run passes over the first's."""

_OWN = re.compile(rf"{MARK}(-\d+)?$")


@dataclass(frozen=True, slots=True)
class Source:
    """A photo to colorize."""

    path: Path
    inside: Path
    """The folder it lies in, as seen from the folder that was named; `.` for a file that was named itself."""


@dataclass(slots=True)
class Found:
    """What the named paths came to."""

    sources: list[Source] = field(default_factory=list)
    failed: list[tuple[Path, UsageError]] = field(default_factory=list)
    outputs: int = 0
    """Files passed over because their names say that they are outputs."""


def find_images(paths: Sequence[Path], out: Path | None = None) -> Found:
    """Find the images of `paths`, folders to any depth; `out` is not searched, should it lie in one of them.

    A path that is missing or cannot be read is among the failed.
    """
    found = Found()
    for path in paths:
        try:
            if not os.path.lexists(path):
                raise UsageError(text("{path} does not exist", path=path))
            if path.is_dir():
                found.sources += _search(path, out, found)
            else:
                found.sources.append(Source(path, Path()))
        except UsageError as error:
            found.failed.append((path, error))
        except OSError as error:
            found.failed.append((path, unreadable(path, error)))
    first: dict[Path, Source] = {}
    for source in found.sources:
        first.setdefault(source.path, source)
    found.sources = list(first.values())
    return found


def unreadable(path: Path, error: BaseException) -> UsageError:
    """The one line for a path that the system or a decoder refuses."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return UsageError(text("{path} cannot be read: {reason}", path=path, reason=plain(reason.splitlines()[0])))


def _search(top: Path, out: Path | None, found: Found) -> list[Source]:
    sources: list[Source] = []
    outputs = found.outputs
    for folder, inside in _folders(top, out, found):
        for entry in _entries(folder, found):
            if Path(entry.name).suffix.lower() not in IMAGE_SUFFIXES or entry.is_dir():
                continue
            if _OWN.search(Path(entry.name).stem):
                found.outputs += 1
            else:
                sources.append(Source(folder / entry.name, inside))
    if not sources and found.outputs == outputs:
        raise UsageError(
            text("{path} has no images", path=top),
            text("Images end in {known}", known=plain(", ".join(sorted(IMAGE_SUFFIXES)))),
        )
    return sorted(sources, key=lambda source: source.path.parts)


def _folders(top: Path, out: Path | None, found: Found) -> Iterator[tuple[Path, Path]]:
    """Every folder from `top` down, once each, whatever links lead to it; its own place comes before a link's."""
    real, linked = deque([(top, Path())]), deque[tuple[Path, Path]]()
    seen: set[tuple[int, int]] = set()
    if out is not None and out.is_dir() and not out.samefile(top):
        seen.add(_identity(out))
    while real or linked:
        folder, inside = real.popleft() if real else linked.popleft()
        try:
            identity = _identity(folder)
        except OSError as error:
            found.failed.append((folder, unreadable(folder, error)))
            continue
        if identity in seen:
            continue
        seen.add(identity)
        yield folder, inside
        for entry in _entries(folder, None):
            if entry.is_dir():
                (linked if entry.is_symlink() else real).append((folder / entry.name, inside / entry.name))


def _entries(folder: Path, found: Found | None) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, by name; one that may not be read is said in `found`, where that is given."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        if found is not None:
            found.failed.append((folder, unreadable(folder, error)))
        return []


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
