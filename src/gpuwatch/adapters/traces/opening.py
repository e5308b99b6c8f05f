"""A trace file, opened: what it is by its first bytes, and its content in pieces, unpacked.

A packed file that unpacks to far more than a trace does is refused on the way, so that a few kilobytes cannot keep the
machine busy for hours.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, Literal

from gpuwatch.errors import UsageError, unreadable
from gpuwatch.texts import Text, text

Kind = Literal["json", "pickle"]
PIECE_BYTES = 1 << 20
FREELY_UNPACKED_BYTES = 64 << 20
"""So much may come out of any packed file."""
MOST_UNPACKED_TIMES = 200
"""Beyond that, so many times what went in: traces unpack to 10 to 60 times their size."""

_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW = 31


def what_is_read() -> Text:
    """What to name instead of a file that is none."""
    return text(
        "Name a Chrome trace of torch.profiler (.json or .json.gz), or a CUDA memory snapshot (.pickle or .json)."
    )


def kind_of(path: Path) -> Kind:
    """Whether the file is JSON or a pickle; a UsageError that says what else it is."""
    pieces = pieces_of(path)
    begin = next(pieces, b"")
    pieces.close()
    looked_at = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not looked_at:
        raise UsageError(
            text("{path}: is empty.", path=str(path)), text("Profile again; the run may have ended early.")
        )
    if looked_at[:1] in {b"{", b"["}:
        return "json"
    if begin[:1] == b"\x80":
        return "pickle"
    if begin.startswith(b"PK\x03\x04"):
        raise UsageError(
            text("{path}: is a zip archive, as checkpoints are, and no trace.", path=str(path)), what_is_read()
        )
    raise UsageError(text("{path}: is neither a JSON trace nor a memory snapshot.", path=str(path)), what_is_read())


def pieces_of(path: Path) -> Generator[bytes]:
    """The file's content in pieces, unpacked where it is packed with gzip.

    Raises UsageError for what cannot be read or unpacked.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(text("{path}: is a folder.", path=str(path)), text("Name a trace file in it."))
        with path.open("rb") as file:
            if file.peek(2).startswith(_GZIP_MAGIC):
                yield from _unpacked(path, file)
            else:
                while piece := file.read(PIECE_BYTES):
                    yield piece
    except FileNotFoundError as error:
        raise UsageError(text("{path}: there is no such file.", path=str(path)), what_is_read()) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def _unpacked(path: Path, file: BinaryIO) -> Generator[bytes]:
    packed_bytes = unpacked_bytes = 0
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    waiting = b""
    try:
        while True:
            if not waiting:
                waiting = file.read(PIECE_BYTES)
                packed_bytes += len(waiting)
            if not waiting:
                break
            if unpacker.eof:
                if not waiting.lstrip(b"\0"):  # padding after the end
                    waiting = b""
                    continue
                unpacker = zlib.decompressobj(_GZIP_WINDOW)
            piece = unpacker.decompress(waiting, PIECE_BYTES)
            waiting = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            unpacked_bytes += len(piece)
            if unpacked_bytes > max(FREELY_UNPACKED_BYTES, MOST_UNPACKED_TIMES * packed_bytes):
                raise UsageError(
                    text(
                        "{path}: unpacks to more than {times} times its size; no trace does.",
                        path=str(path),
                        times=MOST_UNPACKED_TIMES,
                    ),
                    text("If it is one all the same, unpack it with gunzip and name the unpacked file."),
                )
            if piece:
                yield piece
    except zlib.error as error:
        raise _cut_off(path) from error
    if not unpacker.eof:
        raise _cut_off(path)


def _cut_off(path: Path) -> UsageError:
    return UsageError(
        text("{path}: ends early: its packed data is cut off or damaged.", path=str(path)),
        text("What came before was read. If the file is still being copied or packed, wait for that and try again."),
    )
