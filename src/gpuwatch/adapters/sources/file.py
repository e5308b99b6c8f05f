"""A log file, followed while its program writes it, rotates it, empties it or replaces it.

It polls: that works everywhere, also on network and overlay mounts, where change notices stay silent; a notice only ends a
pause sooner. It never maps a file, because a mapped file that shrinks ends the process. It cuts nothing: chunks end anywhere;
what is not in UTF-8 is turned into it, while the places that are kept stay those of the file.
A file that was rewritten with the very bytes it had at its begin and at our place looks like one that was left alone.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.sources import Emit, Places
from gpuwatch.adapters.sources.decoding import LOOKED_AT_BYTES, Decoder
from gpuwatch.adapters.sources.notices import Notices
from gpuwatch.adapters.sources.opening import (
    CHUNK_BYTES,
    opened,
    read_file_chunks,
    refuse_binary,
    refuse_packed,
    status_of,
)
from gpuwatch.core.observations import LogChunk, LogRestarted, LogResumed, SourceKind
from gpuwatch.errors import GpuwatchError, UsageError, why
from gpuwatch.texts import Text, text

__all__ = ["CHUNK_BYTES", "FileSource", "read_file_chunks"]

_SHORTEST_PAUSE_SECONDS = 0.002
_LONG_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 0.25
_GROWTH, _SLOW_GROWTH = 2.0, 1.05
"""Of the pause, up to the long one and from there on: in a log that is quiet for seconds, waking costs more than looking."""
_FINGERPRINT_BYTES = 64
_FULL_BYTES = CHUNK_BYTES // 2 - LOOKED_AT_BYTES
"""What a whole chunk has at least, decoded: UTF-16 may shrink to half, and the decoder may hold some of it."""
_REFUSED_SECONDS = 5.0
_LET_GO_SECONDS = 60.0


class FileSource:
    """Follows one path; the file at that path may change under it."""

    kind: SourceKind = "file"

    def __init__(
        self,
        path: Path,
        *,
        from_start: bool,
        show_history: bool,
        clock: Callable[[], datetime] = utc_now,
        let_go_seconds: float = _LET_GO_SECONDS,
        places: Places | None = None,
    ) -> None:
        self.name = path.name
        self._keeps_place = places is not None
        log = f"file:{path.absolute()}"
        known = places.place_of(self.name, log) if places is not None else None
        self._known = None if from_start else known
        self._path = path
        self._from_start = from_start
        self._show_history = show_history
        self._clock = clock
        self._let_go_seconds = let_go_seconds
        self._refused_at: float | None = None
        self._notices = Notices()

    @classmethod
    def from_path(
        cls,
        path: str,
        *,
        from_start: bool,
        show_history: bool,
        clock: Callable[[], datetime] = utc_now,
        places: Places | None = None,
    ) -> FileSource:
        """The source for a path that a person typed; a UsageError where it cannot be followed."""
        place = Path(path)
        status = status_of(place)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(
                text("{path}: is a pipe or a device, not a file; it cannot be followed.", path=path),
                text("Read it through a pipe: gpuwatch watch - < {path}", path=path),
            )
        with opened(place) as file:
            begin = file.read(LOOKED_AT_BYTES)
        refuse_packed(place, begin)
        refuse_binary(place, begin)
        return cls(place, from_start=from_start, show_history=show_history, clock=clock, places=places)

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Follow until told to stop. A file that disappears is waited for. Raises GpuwatchError where it can no longer be read."""
        pause_seconds = _SHORTEST_PAUSE_SECONDS
        observations = self._observations()
        try:
            while not stop.is_set():
                observation = next(observations)
                if observation is None:
                    growth = _GROWTH if pause_seconds < _LONG_PAUSE_SECONDS else _SLOW_GROWTH
                    pause_seconds = min(pause_seconds * growth, _LONGEST_PAUSE_SECONDS)
                    self._notices.wait(stop, pause_seconds)
                elif not emit(observation):
                    break
                else:
                    pause_seconds = _SHORTEST_PAUSE_SECONDS
                    if isinstance(observation, LogChunk) and len(observation.data) < _FULL_BYTES:
                        stop.wait(pause_seconds)
        except OSError as error:
            raise GpuwatchError(
                text("{path}: can no longer be read: {error}", path=str(self._path), error=why(error))
            ) from error
        finally:
            observations.close()
            self._notices.close()
        return text("stopped")

    def _observations(self) -> Generator[LogChunk | LogRestarted | LogResumed | None, None, None]:
        """What the file says, without end; None where there is nothing new."""
        held = self._open()
        decoder = Decoder()
        history_end = 0
        quiet_since = time.monotonic()
        try:
            resumed = self._resume(held)
            if resumed is not None:
                yield resumed
            elif held is not None and not self._from_start:
                history_end = held.size()
                if not self._show_history:
                    decoder = Decoder.midway(held.begin(min(history_end, LOOKED_AT_BYTES)))
                    held.go_to(history_end - history_end % decoder.unit_bytes)
            if resumed is None and held is not None and self._keeps_place:
                yield self._chunk(b"", fresh=True, place=held.place)  # from here on nothing is lost
            while True:
                if held is not None:
                    data = held.read(history_end)
                    if data is None:
                        held.go_to(0)
                        history_end = 0
                        yield from self._ended(decoder)
                        decoder = Decoder()
                        continue
                    if data:
                        quiet_since = time.monotonic()
                        if data := decoder.feed(data):
                            place = held.place if self._keeps_place and decoder.transparent else None
                            yield self._chunk(data, fresh=held.offset > history_end, place=place)
                        continue
                if (successor := self._successor(held)) is not None:
                    previous, held = held, successor
                    history_end = 0
                    if previous is not None:
                        yield from self._last_words(previous, decoder)
                    yield from self._ended(decoder)
                    decoder = Decoder()
                    continue
                if held is not None and time.monotonic() - quiet_since >= self._let_go_seconds and held.deleted():
                    # A deleted log keeps its room on the disk while it is held open.
                    held.close()
                    held = None
                yield None
        finally:
            if held is not None:
                held.close()

    def _chunk(self, data: bytes, *, fresh: bool, place: str | None = None) -> LogChunk:
        return LogChunk(self._clock(), self.name, data, self.kind, fresh, place=place)

    def _resume(self, held: _Held | None) -> LogResumed | None:
        """Go on where an earlier run stopped; where another file is at the path by now, all of it is new."""
        known = self._known
        if known is None:
            return None
        if held is None:
            return LogResumed(self._clock(), self.name, self.kind, known.line, known.epoch)
        if held.is_at(known.place):
            return LogResumed(self._clock(), self.name, self.kind, known.line, known.epoch)
        return LogResumed(self._clock(), self.name, self.kind, 0, known.epoch + 1)

    def _last_words(self, previous: _Held, decoder: Decoder) -> Iterator[LogChunk]:
        """What came into the old file between the last read and the look at the path."""
        try:
            end = previous.size()
            while previous.offset < end and (data := previous.read()):
                if data := decoder.feed(data):
                    yield self._chunk(data, fresh=True)
        finally:
            previous.close()

    def _ended(self, decoder: Decoder) -> Iterator[LogChunk | LogRestarted]:
        """The rest of a log that is over, and that another begins in its place."""
        if data := decoder.flush():
            yield self._chunk(data, fresh=True)
        yield LogRestarted(self._clock(), self.name)

    def _successor(self, held: _Held | None) -> _Held | None:
        """The file that took the path's place, once there is something in it: until then the old one may still grow."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        if held is not None and (held.identity == (status.st_dev, status.st_ino) or not status.st_size):
            return None
        return self._open()

    def _open(self) -> _Held | None:
        try:
            held = _Held.open(self._path)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            # A rotation may create the new file first and hand out the right to read it later.
            now = time.monotonic()
            if self._refused_at is None:
                self._refused_at = now
            if now - self._refused_at < _REFUSED_SECONDS:
                return None
            raise GpuwatchError(
                text("{path}: was replaced by a file that gpuwatch may not read.", path=str(self._path)),
                text("Let the user that runs gpuwatch read it, then start gpuwatch again."),
            ) from error
        self._refused_at = None
        self._notices.watch(str(self._path))
        return held


@dataclass(slots=True)
class _Held:
    """One file held open: reads on from where it was, and notices when what it has read is no longer there."""

    descriptor: int
    identity: tuple[int, int]
    offset: int = 0
    _head: bytes = b""
    _tail: bytes = b""
    """The bytes just before `offset`: two runs of one program begin alike, but seldom have the same words at one place."""
    _only_hole: bool = True
    """Nothing but NULs so far: a log emptied under a program that writes on at its old place begins with a hole."""

    @classmethod
    def open(cls, path: Path) -> _Held:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(descriptor)
        return cls(descriptor, (status.st_dev, status.st_ino))

    def close(self) -> None:
        os.close(self.descriptor)

    @property
    def place(self) -> str:
        """Where the next byte is read, and by what the file is known again."""
        told = [self.offset, *self.identity, self._head.hex(), self._tail.hex()]
        return json.dumps(told)

    def is_at(self, place: str) -> bool:
        """Go to a place where an earlier run was; False, and at its begin, where the file is not that one any more."""
        try:
            offset, _device, _inode, head, tail = json.loads(place)
            self.offset, self._head, self._tail = int(offset), bytes.fromhex(head), bytes.fromhex(tail)
        except (ValueError, TypeError):
            self.offset = -1
        begin = os.pread(self.descriptor, len(self._head), 0)
        before = max(self.offset - len(self._tail), 0)
        if (
            self.offset >= 0
            and begin == self._head
            and os.pread(self.descriptor, len(self._tail), before) == self._tail
        ):
            self._only_hole = False
            return True
        self.offset, self._head, self._tail = 0, b"", b""
        return False

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def deleted(self) -> bool:
        return os.fstat(self.descriptor).st_nlink == 0

    def begin(self, most_bytes: int) -> bytes:
        return os.pread(self.descriptor, most_bytes, 0)

    def go_to(self, offset: int) -> None:
        """Read on from `offset`, taking what stands before it as read."""
        start = max(0, offset - _FINGERPRINT_BYTES)
        self._head = os.pread(self.descriptor, min(_FINGERPRINT_BYTES, offset), 0)
        self._tail = os.pread(self.descriptor, offset - start, start)
        self._only_hole = offset == 0
        self.offset = start + len(self._tail)

    def read(self, border: int = 0) -> bytes | None:
        """The next bytes, a leading hole left out; None where the file no longer holds what was read from it.

        A piece has at most CHUNK_BYTES and never lies on both sides of `border`.
        """
        while True:
            known_bytes = len(self._tail)
            most_bytes = min(CHUNK_BYTES, border - self.offset) if self.offset < border else CHUNK_BYTES
            try:
                head = os.pread(self.descriptor, len(self._head), 0)
                piece = os.pread(self.descriptor, known_bytes + most_bytes, self.offset - known_bytes)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                return b""  # gone on its server: what is at the path now comes next
            if head != self._head or not piece.startswith(self._tail):
                return None
            data = piece[known_bytes:]
            self.offset += len(data)
            self._tail = piece[-_FINGERPRINT_BYTES:]
            if len(head) < _FINGERPRINT_BYTES:  # so little was read that `piece` begins where the file does
                self._head = piece[:_FINGERPRINT_BYTES]
            if not data or not self._only_hole:
                return data
            if written := data.lstrip(b"\0"):
                self._only_hole = False
                return written
            self._skip_hole()

    def _skip_hole(self) -> None:
        try:
            data_begins = os.lseek(self.descriptor, self.offset, os.SEEK_DATA)
        except OSError:
            return  # hole up to its end, or a filesystem that does not tell
        if data_begins > self.offset:
            self.go_to(data_begins)
            self._only_hole = True
