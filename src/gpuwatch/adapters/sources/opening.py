"""A log file, opened: what cannot be read is refused in a sentence, what is packed is unpacked on the way.

Packed files are known by their first bytes, never by their name, and come in pieces: one that unpacks to terabytes needs no
more memory than a small one. Each format's module is imported when its file is met; a Python may be built without it.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from os import stat_result
from pathlib import Path
from typing import Any, BinaryIO

from gpuwatch.adapters.sources.decoding import LOOKED_AT_BYTES, begins_as_utf16, decoded
from gpuwatch.errors import UsageError, unreadable
from gpuwatch.texts import text

CHUNK_BYTES = 112 * 1024

_NO_LOG_BYTES = tuple(bytes([code]) for code in (*range(0x07), *range(0x0E, 0x1B), *range(0x1C, 0x20)))
_MOST_STRANGE_RATIO = 0.05
_FEW_STRANGE_BYTES = 16
_ZSTD_READ_BYTES = 1024
"""So little at once because `zstandard` unpacks all it is given: 1 KiB becomes 32 MiB at most."""


def read_file_chunks(path: str) -> Iterator[bytes]:
    """A whole file, once, in pieces, unpacked and in UTF-8; a pipe is read to its end.

    A UsageError comes in the place of the first piece, or after the last one that a damaged packed file gave.
    """
    return decoded(_pieces(path))


def is_plain(path: str) -> bool:
    """Whether it is a file that can be read at any place as it is: no pipe, not packed, not plainly in another encoding.

    A UsageError where it cannot be read, or is no log.
    """
    place = Path(path)
    status = status_of(place)
    if not stat.S_ISREG(status.st_mode) or not status.st_size or not hasattr(os, "pread"):
        return False
    with opened(place) as file:
        try:
            begin = file.read(LOOKED_AT_BYTES)
        except OSError as error:
            raise unreadable(place, error) from error
    if _packing(begin) is not None:
        return False
    refuse_binary(place, begin)
    return not begins_as_utf16(begin)


def _pieces(path: str) -> Iterator[bytes]:
    place = Path(path)
    status_of(place)
    with opened(place) as raw, io.BufferedReader(raw, CHUNK_BYTES) as file:
        try:
            packing = _packing(file.peek())
            pieces = iter(lambda: file.read1(CHUNK_BYTES), b"") if packing is None else _unpacked(place, packing, file)
            looked_at = False
            for piece in pieces:
                if not looked_at:
                    refuse_binary(place, piece[:LOOKED_AT_BYTES])
                    looked_at = True
                yield piece
        except OSError as error:
            raise unreadable(path, error) from error


def status_of(path: Path) -> stat_result:
    """What the system says of the file; a UsageError where it is none that can be read."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            text("{path}: there is no such file.", path=str(path)),
            text("Check the path. To follow a log that is yet to be written, create it empty first."),
        ) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(
            text("{path}: is a folder, not a log file.", path=str(path)),
            text("Name the log in it; ComfyUI-Manager writes user/comfyui.log."),
        )
    return status


def opened(path: Path) -> io.FileIO:
    """The file, unbuffered. Raises UsageError where it may not be read."""
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise unreadable(path, error) from error


def refuse_packed(path: Path, begin: bytes) -> None:
    """Raise a UsageError where a file that is to be followed begins as a packed one does."""
    if _packing(begin) is not None:
        raise UsageError(
            text("{path}: is compressed.", path=str(path)),
            text("A packed log does not grow; read it once: gpuwatch diagnose {path}", path=str(path)),
        )


def refuse_binary(path: Path, begin: bytes) -> None:
    """Raise a UsageError where a file's first bytes are not those of a log, in whatever encoding."""
    written = begin.lstrip(b"\0")  # what a hole leaves at the begin of an emptied log is no sign
    strange = sum(map(written.count, _NO_LOG_BYTES))
    if strange > max(_FEW_STRANGE_BYTES, _MOST_STRANGE_RATIO * len(written)) and not begins_as_utf16(begin):
        raise UsageError(
            text("{path}: does not look like a log: it holds binary data.", path=str(path)),
            text("Name the text that the program prints: its log file, or its output through a pipe."),
        )


_Unpacker = tuple[Callable[[int], bytes], type[Exception]]
"""What reads a piece of at most so many bytes, and what that raises, beside EOFError and OSError, on a damaged file."""


@dataclass(frozen=True, slots=True)
class _Packing:
    """A way to pack a file."""

    magic: bytes
    command: str
    """Unpacks a file to its output, where Python cannot."""
    open: Callable[[BinaryIO], _Unpacker]


def _packing(begin: bytes) -> _Packing | None:
    return next((each for each in _PACKINGS if begin.startswith(each.magic)), None)


def _unpacked(path: Path, packing: _Packing, file: BinaryIO) -> Iterator[bytes]:
    try:
        read, damage = packing.open(file)
    except ImportError as error:
        raise UsageError(
            text("{path}: is packed in a way that this Python cannot unpack.", path=str(path)),
            text(
                "Unpack it on the way: {command} {path} | gpuwatch diagnose -", command=packing.command, path=str(path)
            ),
        ) from error
    try:
        while piece := read(CHUNK_BYTES):
            yield piece
    except (EOFError, OSError, damage) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the packing
        raise UsageError(
            text("{path}: ends early: its packed data is cut off or damaged.", path=str(path)),
            text(
                "What came before was read. If the file is still being copied or packed, wait for that and try again."
            ),
        ) from error


def _open_gzip(file: BinaryIO) -> _Unpacker:
    import gzip  # noqa: PLC0415
    import zlib  # noqa: PLC0415

    return gzip.GzipFile(fileobj=file, mode="rb").read1, zlib.error


def _open_xz(file: BinaryIO) -> _Unpacker:
    import lzma  # noqa: PLC0415

    return lzma.LZMAFile(file).read1, lzma.LZMAError


def _open_bz2(file: BinaryIO) -> _Unpacker:
    import bz2  # noqa: PLC0415

    return bz2.BZ2File(file).read1, OSError


def _open_zstd(file: BinaryIO) -> _Unpacker:
    try:
        zstd = import_module("compression.zstd")
    except ImportError:  # before Python 3.14
        zstandard = import_module("zstandard")
        pieces = _unzstandard(zstandard, file)
        return lambda _most_bytes: next(pieces, b""), zstandard.ZstdError
    return zstd.ZstdFile(file).read1, zstd.ZstdError


def _unzstandard(zstandard: Any, file: BinaryIO) -> Iterator[bytes]:
    """Its own stream reader takes a file that is cut off for one that ended."""
    frame = None
    while packed := file.read(_ZSTD_READ_BYTES):
        while packed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            if piece := frame.decompress(packed):
                yield from (piece[at : at + CHUNK_BYTES] for at in range(0, len(piece), CHUNK_BYTES))
            packed = frame.unused_data
            if not frame.eof:
                break
            frame = None
    if frame is not None:
        raise EOFError


_PACKINGS = (
    _Packing(b"\x1f\x8b", "zcat", _open_gzip),
    _Packing(b"\xfd7zXZ\0", "xzcat", _open_xz),
    _Packing(b"BZh", "bzcat", _open_bz2),
    _Packing(b"\x28\xb5\x2f\xfd", "zstdcat", _open_zstd),
)
