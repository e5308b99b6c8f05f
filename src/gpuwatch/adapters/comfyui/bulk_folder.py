"""Photos on disk and the folder that their results go to, with its manifest; one run at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from gpuwatch.adapters.whole_file import make_folder, write_whole
from gpuwatch.core.loop.bulk import PICTURES, Entry, Photo, read_entries
from gpuwatch.errors import UsageError, unreadable, unwritable
from gpuwatch.texts import text

NAME = "gpuwatch-submit.jsonl"
_MOST_PHOTOS = 1_000_000
_LONGEST_LINE_BYTES = 1 << 20


def find_photos(paths: Sequence[str], leave_out: Path) -> list[Photo]:
    """The photos that are meant, in an order that does not change. Raises UsageError where one is not there, or none is."""
    found: dict[str, Photo] = {}
    for spec in paths:
        path = Path(spec)
        try:
            many = path.is_dir()
            listed = _walk(path, leave_out.resolve()) if many else iter([path])
            for each in listed:
                name = each.relative_to(path).as_posix() if many else path.name
                photo = Photo(str(each), name, *_size_and_time(each, must_be=not many))
                if name in found and found[name].path != photo.path:
                    raise UsageError(
                        text(
                            "{one} and {other} would have one name in the output.",
                            one=found[name].path,
                            other=photo.path,
                        ),
                        text("Submit them one after the other, into two folders."),
                    )
                found[name] = photo
                if len(found) > _MOST_PHOTOS:
                    raise UsageError(text("{path}: holds more than {most} photos.", path=spec, most=_MOST_PHOTOS))
        except OSError as error:
            raise unreadable(spec, error) from error
    if not found:
        raise UsageError(
            text("no photos were found in {paths}.", paths=", ".join(paths)[:300]),
            text("Photos end in {known}.", known=", ".join(sorted(PICTURES))),
        )
    return sorted(found.values(), key=lambda photo: photo.name)


def _size_and_time(path: Path, *, must_be: bool) -> tuple[int, int]:
    """Of one among many that cannot be looked at, nothing: it fails by itself when its turn comes."""
    try:
        status = path.stat()
    except OSError:
        if must_be:
            raise
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _walk(folder: Path, leave_out: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (Path(place) / name).resolve() != leave_out
        )
        for name in sorted(files):
            if Path(name).suffix.lower() in PICTURES and not name.startswith("."):
                yield Path(place) / name


class OutputFolder:
    """Where results go."""

    def __init__(self, folder: Path, *, resume: bool) -> None:
        """Make it, and read its manifest. Raises UsageError where it cannot be used."""
        self.folder = folder
        self.path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open("a+b")
        except OSError as error:
            raise unwritable(folder, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise UsageError(
                text("{path}: another run is writing there.", path=str(folder)),
                text("Wait for it, or use another --out."),
            ) from error
        except OSError:
            pass  # a file system without locks
        self._file.seek(0)
        self.entries = read_entries(iter(lambda: self._file.readline(_LONGEST_LINE_BYTES), b""))
        if self.entries and not resume:
            self._file.close()
            raise UsageError(
                text("{path}: an earlier run wrote there.", path=str(folder)),
                text("--resume goes on with it; otherwise use another --out."),
            )
        self._begin_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._file.close()

    def is_done(self, photo: Photo) -> bool:
        """Whether its result is there, whole."""
        entry = self.entries.get(photo.name)
        if entry is None or entry.state != "done" or not entry.is_of(photo) or not entry.outputs:
            return False
        try:
            return (self.folder / entry.outputs[0]).stat().st_size == entry.output_bytes and all(
                (self.folder / path).is_file() for path in entry.outputs[1:]
            )
        except OSError:
            return False

    def put(self, relative: str, content: bytes) -> None:
        """Write one result, whole or not at all."""
        path = self.folder / relative
        make_folder(path.parent)
        write_whole(path, content)

    def write(self, line: str) -> None:
        """Add a line to the manifest. Raises UsageError where it cannot be written."""
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def entry_of(self, photo: Photo) -> Entry | None:
        """What an earlier run says of this very photo."""
        entry = self.entries.get(photo.name)
        return entry if entry is not None and entry.is_of(photo) else None

    def _begin_line(self) -> None:
        """A line that was cut off ends here."""
        self._file.seek(0, os.SEEK_END)
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")
