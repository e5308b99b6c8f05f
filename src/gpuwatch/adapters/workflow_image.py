"""The workflow that ComfyUI puts into the pictures that it saves: PNG text chunks, and the EXIF part of a WebP.

Both may hold two: `workflow`, as the editor has it, and `prompt`, as the server ran it. The editor's goes first, since it is
what a person opens again. Nothing else of the picture is looked at.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Literal

Kind = Literal["PNG", "WebP", "JPEG"]

_PNG = b"\x89PNG\r\n\x1a\n"
_MOST_TEXT_BYTES = 64 << 20
_WANTED = ("workflow", "prompt")


def image_kind(content: bytes) -> Kind | None:
    """Which kind of picture the bytes are; None where they are none."""
    if content.startswith(_PNG):
        return "PNG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return "JPEG" if content.startswith(b"\xff\xd8\xff") else None


def workflow_of_image(content: bytes, kind: Kind) -> str | None:
    """The JSON text of the workflow in a picture; None where there is none."""
    if kind == "JPEG":
        return None
    found = dict(_png_texts(content) if kind == "PNG" else _webp_texts(content))
    return next((found[name] for name in _WANTED if found.get(name, "").strip().startswith("{")), None)


def _png_texts(content: bytes) -> Iterator[tuple[str, str]]:
    here = len(_PNG)
    while here + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, here)
        data = content[here + 8 : here + 8 + size]
        here += 12 + size
        if kind == b"IEND" or len(data) < size:  # the end, or a file that was cut off
            return
        head, _zero, rest = data.partition(b"\0")
        name = head.decode("latin-1")
        if name not in _WANTED:  # unpacked for nothing, and each may be as large as the one that is wanted
            continue
        try:
            if kind == b"tEXt":
                yield name, _utf8(rest)
            elif kind == b"zTXt":
                yield name, _utf8(_inflated(rest[1:]))
            elif kind == b"iTXt":
                value = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
                yield name, (_inflated(value) if rest[:1] == b"\1" else value).decode("utf-8")
        except (zlib.error, UnicodeDecodeError):
            continue


def _webp_texts(content: bytes) -> Iterator[tuple[str, str]]:
    here = 12
    while here + 8 <= len(content):
        kind, size = struct.unpack_from("<4sI", content, here)
        data = content[here + 8 : here + 8 + size]
        here += 8 + size + size % 2
        if kind != b"EXIF":
            continue
        for name in _WANTED:
            mark = name.encode() + b":{"
            start = data.find(mark)
            if start >= 0:
                value = data[start + len(mark) - 1 :].partition(b"\0")[0]
                yield name, _utf8(value)


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    value = unpacker.decompress(data, _MOST_TEXT_BYTES)
    if unpacker.unconsumed_tail:
        raise zlib.error("too large")
    return value


def _utf8(value: bytes) -> str:
    """PNG says Latin-1; what ComfyUI writes is ASCII, and others write UTF-8."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
