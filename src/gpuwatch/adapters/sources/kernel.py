"""The kernel's log: NVIDIA's Xids, the OOM killer, a driver that went away. From /dev/kmsg, else through journalctl.

Both want a right that not everybody has; where there is none, it is said what gives it. Only what is new counts: the ring from
before we came is shown and not counted.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.sources import Emit
from gpuwatch.adapters.sources.services import ServiceSource
from gpuwatch.core.observations import LogChunk, LogGap, SourceKind
from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.texts import Text, text

KMSG = Path("/dev/kmsg")
_RECORD_BYTES = 8192
_MOST_RECORDS = 100_000
"""At a time; no ring holds so many, and one that is written as fast as it is read must not keep what was read."""
_LOOK_UP_MILLISECONDS = 200
_RECORD = re.compile(rb"(?P<priority>\d{1,6}),(?P<number>\d{1,20}),(?P<micros>\d{1,20}),[^;]{0,80};(?P<words>[^\n]*)")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


class KernelSource:
    """Reads the kernel's log."""

    kind: SourceKind = "kernel"
    name = "kernel"

    def __init__(
        self,
        *,
        from_start: bool = False,
        show_history: bool = True,
        path: Path = KMSG,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._from_start = from_start
        self._show_history = show_history
        self._path = path
        self._clock = clock
        self._missed = False

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Read until told to stop."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return self._through_journal(emit, stop, error)
        try:
            return self._follow(descriptor, emit, stop)
        finally:
            os.close(descriptor)

    def _follow(self, descriptor: int, emit: Emit, stop: threading.Event) -> Text:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if self._show_history or self._from_start:
            old = b"".join(self._records(descriptor))
            if old and not emit(LogChunk(self._clock(), self.name, old, self.kind, fresh=self._from_start)):
                return text("stopped")
        else:
            os.lseek(descriptor, 0, os.SEEK_END)
        while not stop.is_set():
            if poll.poll(_LOOK_UP_MILLISECONDS):
                self._missed = False
                data = b"".join(self._records(descriptor))
                if self._missed and not emit(LogGap(self._clock(), self.name, self.kind)):
                    break
                if data and not emit(LogChunk(self._clock(), self.name, data, self.kind)):
                    break
        return text("stopped")

    def _records(self, descriptor: int) -> Iterator[bytes]:
        """Every record that is there now."""
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(descriptor, _RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:
                self._missed = True  # the ring went round and the record is gone
                continue
            except OSError as error:
                raise GpuwatchError(
                    text("{path}: can no longer be read: {error}", path=str(self._path), error=error.strerror or "")
                ) from error
            if not record:
                return
            yield kernel_line(record)

    def _through_journal(self, emit: Emit, stop: threading.Event, refused: OSError) -> Text:
        if shutil.which("journalctl") is None:
            raise UsageError(
                text("kernel: {path} cannot be read: {error}", path=str(self._path), error=refused.strerror or ""),
                text(
                    "Run gpuwatch as root, or allow it: sysctl kernel.dmesg_restrict=0; in a container add /dev/kmsg."
                ),
            )
        lines = 2000 if self._from_start else 0  # what was before could not be told from what is new
        argv = ["journalctl", "--dmesg", "--follow", "--no-pager", "--output=short-monotonic", f"--lines={lines}"]
        return ServiceSource(self.kind, self.name, argv, clock=self._clock).run(emit, stop)


def kernel_line(record: bytes) -> bytes:
    """A record of /dev/kmsg as dmesg prints it."""
    lines = []
    for line in record.splitlines():
        found = _RECORD.match(line)
        if found is None:
            continue  # a continuation holds a device's properties
        words = _ESCAPE.sub(lambda code: bytes([int(code[1], 16)]), found["words"])
        seconds, micros = divmod(int(found["micros"]), 1_000_000)
        lines.append(b"[%5d.%06d] %s\n" % (seconds, micros, words.replace(b"\n", b" ")))
    return b"".join(lines)
