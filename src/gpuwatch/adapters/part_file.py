"""What came so far of a file that is downloaded: `NAME.part`, and a note beside it of what server and version it is from."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 8 << 30
"""No checkpoint has more."""
BLOCK_BYTES = 1 << 18
_LONGEST_NOTE_BYTES = 4096


@dataclass(slots=True)
class Part:
    """What came so far, and of which version it is."""

    path: Path
    url: str
    validator: str | None = None
    total_bytes: int | None = None
    sha256: str | None = None
    digest: Any = field(default_factory=hashlib.sha256)
    have_bytes: int = 0

    @property
    def note(self) -> Path:
        """The note's file."""
        return self.path.with_name(self.path.name + ".json")

    def recall(self, file: BinaryIO) -> None:
        """Take up what an earlier start left, if its note says that it is from this address and can be continued."""
        with suppress(OSError, ValueError, TypeError, LookupError, RecursionError):
            with self.note.open("rb") as beside:
                note = json.loads(beside.read(_LONGEST_NOTE_BYTES))
            size_bytes = os.fstat(file.fileno()).st_size
            if note["url"] == self.url and isinstance(note["validator"], str) and 0 < size_bytes <= MOST_BYTES:
                self.validator, self.total_bytes, self.sha256 = note["validator"], note["total_bytes"], note["sha256"]
                while block := file.read(BLOCK_BYTES):
                    self.digest.update(block)
                self.have_bytes = size_bytes
                return
        self.begin_anew(file)

    def begin_anew(self, file: BinaryIO) -> None:
        """Forget what came."""
        file.seek(0)
        # What is no ordinary file, as a device, has no length to be changed.
        with suppress(OSError):
            file.truncate()
        self.digest, self.have_bytes = hashlib.sha256(), 0
        self.validator = self.total_bytes = self.sha256 = None

    def remember(self) -> None:
        """Write the note."""
        note = {"url": self.url, "validator": self.validator, "total_bytes": self.total_bytes, "sha256": self.sha256}
        self.note.write_text(json.dumps(note), "utf-8")

    def drop(self) -> None:
        """Delete both files."""
        for path in (self.path, self.note):
            path.unlink(missing_ok=True)
