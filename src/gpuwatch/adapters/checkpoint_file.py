"""A checkpoint file -> `Inspection`: its format, its tensors, what its pickle names. Nothing in the file is run.

Works without torch and reads only the descriptions: a safetensors header, the pickle inside an archive and the list of
the archive's members, not the weights, but for the hash. Every length in the file is bounded before it is believed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from gpuwatch.core.checkpoint import Inspection, Network, identify
from gpuwatch.core.pickled_names import DTYPES, Named
from gpuwatch.core.pickles import Pickle, read_pickle
from gpuwatch.core.tensors import MOST_DIMENSIONS, Tensor, tensors_in
from gpuwatch.errors import UsageError, unreadable
from gpuwatch.texts import text

PICKLE_LIMIT_BYTES = 16 << 20
HEADER_LIMIT_BYTES = 32 << 20
DIRECTORY_LIMIT_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20
_HEAD_BYTES = 512
_END_OF_ZIP = b"PK\x05\x06"
_END_OF_ZIP64 = b"PK\x06\x06"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_SAFE_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}  # fmt: skip


class _DamagedError(Exception):
    """The file is of the format, and broken."""


def inspect_file(path: Path, *, hashed: bool = True, on_bytes: Callable[[int], None] | None = None) -> Inspection:
    """Say what the file is. `on_bytes` is told how many bytes were hashed since the last call.

    Raises UsageError where it is not there, is no regular file, or may not be read.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(text("{path} is no file", path=path), text("Name the checkpoint file itself."))
            found = _inspect(str(path), file, status.st_size)
            if not hashed:
                return found
            file.seek(0)
            return _with_hash(found, file, on_bytes)
    except IsADirectoryError as error:
        raise UsageError(
            text("{path} is a directory; name the file in it", path=path), text("Name the checkpoint file itself.")
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _inspect(path: str, file: BinaryIO, size_bytes: int) -> Inspection:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    kind, read = _format_of(head, size_bytes)
    if read is None:
        return Inspection(path, size_bytes, kind, Network(None))
    try:
        return read(path, file, size_bytes)
    except _DamagedError as damage:
        return Inspection(path, size_bytes, kind, Network(None), damaged=str(damage))
    except (
        ValueError,
        TypeError,
        LookupError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RecursionError,
    ) as error:
        return Inspection(path, size_bytes, kind, Network(None), damaged=str(error) or type(error).__name__)
    except NotImplementedError as error:  # an encrypted or oddly packed archive
        return Inspection(path, size_bytes, kind, Network(None), damaged=str(error))


Reader = Callable[[str, BinaryIO, int], Inspection]


def _format_of(head: bytes, size_bytes: int) -> tuple[str, Reader | None]:
    start = head.lstrip()[:64].lower()
    if size_bytes == 0:
        return "empty", None
    if head.startswith((b"PK\x03\x04", _END_OF_ZIP)):
        return "torch (zip)", _read_zip
    if head.startswith(b"\x80"):
        return "torch (legacy)", _read_legacy
    if head.startswith(b"version https://git-lfs"):
        return "git-lfs pointer", None
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "HTML page", None
    if head.startswith(b"GGUF"):
        return "GGUF", None
    if len(head) >= 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= HEADER_LIMIT_BYTES:
        return "safetensors", _read_safetensors
    return "unknown", _read_unmarked


def _read_safetensors(path: str, file: BinaryIO, size_bytes: int) -> Inspection:
    length = struct.unpack("<Q", file.read(8))[0]
    if length + 8 > size_bytes:
        raise _DamagedError("its header ends after the file does")
    header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise _DamagedError("its header is no table")
    tensors: dict[str, Tensor] = {}
    end = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        tensor, stop = _safe_tensor(name, entry)
        tensors[name] = tensor
        end = max(end, stop)
    damaged = None
    if 8 + length + end != size_bytes:
        damaged = f"it has {size_bytes} bytes, its header speaks of {8 + length + end}"
    return _inspection(path, size_bytes, "safetensors", tensors, damaged=damaged)


def _safe_tensor(name: str, entry: Any) -> tuple[Tensor, int]:
    shape, place = entry["shape"], entry["data_offsets"]
    sensible = len(shape) <= MOST_DIMENSIONS and len(place) == 2
    if not sensible or not all(type(number) is int and 0 <= number < 1 << 50 for number in (*shape, *place)):
        raise _DamagedError(f"the entry {name[:80]} has no sensible shape")
    tensor = Tensor(name, _SAFE_DTYPES.get(str(entry["dtype"]), str(entry["dtype"])[:20]), tuple(shape))
    if tensor.dtype in DTYPES and tensor.values * DTYPES[tensor.dtype] != place[1] - place[0]:
        raise _DamagedError(f"the entry {name[:80]} does not fill its place")
    return tensor, place[1]


def _read_zip(path: str, file: BinaryIO, size_bytes: int) -> Inspection:
    _require_small_directory(file, size_bytes)
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        scripted = any("/code/" in name or name.rpartition("/")[2] == "constants.pkl" for name in members)
        if not pickles:
            return Inspection(path, size_bytes, "TorchScript" if scripted else "zip", Network(None))
        if len(members) != len(archive.infolist()) or len(pickles) > 1:
            raise _DamagedError("it has a member twice")
        with archive.open(pickles[0]) as member:
            read = read_pickle(io.BytesIO(member.read(PICKLE_LIMIT_BYTES)))
        folder = pickles[0].removesuffix("data.pkl")
        stored = {
            name.removeprefix(f"{folder}data/"): member.file_size
            for name, member in members.items()
            if name.startswith(f"{folder}data/")
        }
    return _of_pickle(path, size_bytes, "TorchScript" if scripted else "torch (zip)", read, stored)


def _require_small_directory(file: BinaryIO, size_bytes: int) -> None:
    """Refuse an archive whose list of members is too long to be read into memory."""
    file.seek(max(0, size_bytes - (1 << 16) - 22))
    tail = file.read()
    place = tail.rfind(_END_OF_ZIP)
    if place < 0 or len(tail) < place + 22:
        raise _DamagedError("the end of the archive is missing: it was cut short")
    length = struct.unpack("<I", tail[place + 12 : place + 16])[0]
    wide = tail.rfind(_END_OF_ZIP64, 0, place)
    if length == 0xFFFFFFFF and 0 <= wide <= len(tail) - 56:
        length = struct.unpack("<Q", tail[wide + 40 : wide + 48])[0]
    if length > DIRECTORY_LIMIT_BYTES:
        raise _DamagedError("its list of members is too long")
    file.seek(0)


def _read_legacy(path: str, file: BinaryIO, size_bytes: int) -> Inspection:
    """Torch's format before 1.6 is five pickles in a row; anything else that begins so is one plain pickle."""
    stream = io.BytesIO(file.read(PICKLE_LIMIT_BYTES))
    read = read_pickle(stream)
    if read.top != _LEGACY_MAGIC:
        return _of_pickle(path, size_bytes, "pickle", read)
    names: dict[Named, None] = {}
    for _ in range(3):  # protocol version, what the machine was, the object
        read = read_pickle(stream)
        names.update(read.names)
        if read.damaged:
            break
    read.names.update(names)
    found = _of_pickle(path, size_bytes, "torch (legacy)", read)
    keys = read_pickle(stream)
    if found.damaged is None:
        tensors, _others = tensors_in(read.top)
        held = {tensor.storage: tensor.storage_bytes or 0 for tensor in tensors.values()}
        room = size_bytes - stream.tell() - 8 * len(held)
        if keys.damaged or sum(held.values()) > room:
            return replace(found, damaged="it was cut short")
    return found


def _read_unmarked(path: str, file: BinaryIO, size_bytes: int) -> Inspection:
    """The two oldest kinds of pickle begin with nothing of their own: it is one where it reads as one to its end."""
    read = read_pickle(io.BytesIO(file.read(PICKLE_LIMIT_BYTES)))
    if read.damaged is None or read.names:
        return _of_pickle(path, size_bytes, "pickle", read)
    return Inspection(path, size_bytes, "unknown", Network(None))


def _of_pickle(path: str, size_bytes: int, kind: str, read: Pickle, stored: dict[str, int] | None = None) -> Inspection:
    tensors, _others = tensors_in(read.top)
    damaged = read.damaged
    if stored is not None and damaged is None:
        short = [
            t
            for t in tensors.values()
            if t.storage_bytes is not None and stored.get(t.storage or "") != t.storage_bytes
        ]
        if short:
            damaged = f"the values of {short[0].name[:80]} are not all there"
    names = tuple(name for name in read.names if name.kind != "tensor")
    return _inspection(path, size_bytes, kind, tensors, names=names, damaged=damaged)


def _inspection(path: str, size_bytes: int, kind: str, tensors: dict[str, Tensor], **more: Any) -> Inspection:
    return Inspection(
        path,
        size_bytes,
        kind,
        identify(tensors) if tensors else Network(None),
        tensors=len(tensors),
        parameters=sum(tensor.values for tensor in tensors.values()),
        dtypes=dict(Counter(tensor.dtype for tensor in tensors.values()).most_common()),
        **more,
    )


def _with_hash(found: Inspection, file: BinaryIO, on_bytes: Callable[[int], None] | None) -> Inspection:
    return replace(found, sha256=sha256_of(iter(lambda: file.read(_BLOCK_BYTES), b""), on_bytes))


def sha256_of(blocks: Iterable[bytes], on_bytes: Callable[[int], None] | None = None) -> str:
    """The hash of what comes, in hexadecimal."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        if on_bytes is not None:
            on_bytes(len(block))
    return digest.hexdigest()
