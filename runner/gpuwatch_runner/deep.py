"""Sixteen bits a channel, which Pillow holds for grey alone: both bytes of a colour file are read, and PNG is written here.

Pillow decodes a 16-bit colour file to its high bytes. Told that the file's bytes lie the other way round it gives the low
ones, so two decodings make the whole. Where that does not work the photo is taken in eight bits.
"""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Words = NDArray[np.uint16]

_OTHER_END = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
_LEVEL = 4


def is_deep(image: Image.Image) -> bool:
    """Whether an opened, not yet decoded image holds 16-bit colours that decoding would cut to their high bytes."""
    return image.mode in ("RGB", "RGBA") and any(
        _mode_of(tile.args)[-4:] in _OTHER_END for tile in getattr(image, "tile", ())
    )


def load_deep(image: Image.Image, path: Path) -> tuple[Image.Image, Image.Image] | None:
    """Decode the high and the low bytes of the image at `path`, opened as `image`; None where only the high ones come."""
    with Image.open(path) as low:
        try:
            if any(_mode_of(tile.args) == "LA;16B" for tile in low.tile):
                # Four bytes a pixel, two of lightness and two of alpha: as plain RGBA they come in one go.
                low.tile = [tile._replace(args="RGBA") for tile in low.tile]
                low.load()
                light, light_low, alpha, alpha_low = low.split()
                image.load()
                image.im = Image.merge("RGBA", (light, light, light, alpha)).im
                return image, Image.merge("RGBA", (light_low, light_low, light_low, alpha_low))
            low.tile = [tile._replace(args=_turned(tile.args)) for tile in low.tile]
            low.load()
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
    image.load()
    return image, low


def _mode_of(arguments: Any) -> str:
    mode = arguments if isinstance(arguments, str) else arguments[0] if arguments else ""
    return mode if isinstance(mode, str) else ""


def _turned(arguments: Any) -> Any:
    mode = _mode_of(arguments)
    mode = mode[:-4] + _OTHER_END[mode[-4:]]
    return mode if isinstance(arguments, str) else (mode, *arguments[1:])


class DeepPng:
    """A PNG of 16 bits a channel, taken in rows from top to bottom (PNG specification, third edition)."""

    def __init__(
        self, width: int, height: int, channels: int, *, exif: bytes | None, icc_profile: bytes | None
    ) -> None:
        kind = {3: 2, 4: 6}[channels]
        self._parts = [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        ]
        if icc_profile is not None:
            self._parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile)))
        if exif is not None:
            self._parts.append(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
        self._packer = zlib.compressobj(_LEVEL)

    def add(self, rows: Words) -> None:
        """Take the next rows, (n, W, channels)."""
        big = rows.astype(">u2").view(np.uint8).reshape(len(rows), -1)
        step = 2 * rows.shape[2]
        # Each byte less the one a pixel to the left: filter 1, "Sub".
        lines = np.empty((len(rows), 1 + big.shape[1]), np.uint8)
        lines[:, 0] = 1
        lines[:, 1 : 1 + step] = big[:, :step]
        np.subtract(big[:, step:], big[:, :-step], out=lines[:, 1 + step :])
        self._keep(self._packer.compress(lines.tobytes()))

    def encoded(self) -> bytes:
        """The file's bytes, once all rows are in."""
        self._keep(self._packer.flush())
        return b"".join([*self._parts, _chunk(b"IEND", b"")])

    def _keep(self, packed: bytes) -> None:
        if packed:
            self._parts.append(_chunk(b"IDAT", packed))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
