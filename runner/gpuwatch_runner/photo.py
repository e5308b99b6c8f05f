"""Photos in and out: whatever Pillow opens becomes sRGB the right way up; what leaves is whole or not there.

Colour is not managed: a profile is carried along, not applied, as the official code (through OpenCV) does. Of an
animation the first frame is taken. Everything is copied in bands of rows, so that a scan of a hundred megapixels is in
memory about twice and not six times.
"""

from __future__ import annotations

import importlib
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpuwatch.errors import UsageError
from gpuwatch.texts import text
from gpuwatch_runner.deep import DeepPng, is_deep, load_deep
from gpuwatch_runner.finding import unreadable

OutputFormat = Literal["JPEG", "PNG"]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
SUFFIXES: dict[OutputFormat, str] = {"JPEG": ".jpg", "PNG": ".png"}
BAND_PIXELS = 1 << 18
"""Pixels converted at a time: a large photo's intermediate arrays stay in the cache, and out of the peak memory."""

_ORIENTATION = 0x0112
_EXIF_LIMIT_BYTES = 65_000
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF", "TIFF")

with suppress(ImportError):
    # Not a dependency; where it is installed, phones' HEIC photos are read through it.
    importlib.import_module("pillow_heif").register_heif_opener()


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo, upright."""

    rgb: Pixels
    """(H, W, 3) sRGB in bytes, or in 16 bits where the file has more than eight. Grey is one channel seen three times."""
    alpha: Pixels | None
    """(H, W) in the same type, where the file has transparency."""
    output_format: OutputFormat
    exif: bytes | None
    """The file's EXIF with its orientation reset, or None."""
    icc_profile: bytes | None
    """The file's profile where it describes RGB; one for grey or CMYK would be wrong for the output."""
    frames: int = 1
    """Frames or pages in the file; the first is taken."""


def read_photo(path: Path) -> Photo:
    """Decode a photo; UsageError with one line where it cannot be."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(text("{path} is not a file", path=path))
        if status.st_size == 0:
            raise UsageError(text("{path} is empty", path=path))
        with warnings.catch_warnings():
            # Large photos and odd metadata make Pillow warn; both are handled or harmless here.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                frames = _frames(image)
                deep = load_deep(image, path) if is_deep(image) else None
                image.load()
                return _photo_of(image, deep[1] if deep else None, frames)
    except UnidentifiedImageError as error:
        if _is_heif(path):
            raise UsageError(
                text(
                    "{path} is a HEIC photo, and the codec for it is not installed: pip install pillow-heif", path=path
                )
            ) from error
        raise UsageError(text("{path} is not an image that can be read", path=path)) from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from error


def _is_heif(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        head = file.read(12)
        return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS
    return False


def _frames(image: Image.Image) -> int:
    if image.format in _ANIMATED:
        # A broken frame further on is no reason to refuse the first.
        with suppress(Exception):
            return int(getattr(image, "n_frames", 1))
    return 1


def _photo_of(image: Image.Image, low: Image.Image | None, frames: int) -> Photo:
    """The photo of a decoded image; `low` has the low bytes of one with 16 bits a channel."""
    output_format: OutputFormat = "JPEG" if image.format in ("JPEG", "MPO") else "PNG"
    profile = image.info.get("icc_profile")
    # A profile's header names its colour space in bytes 16 to 20 (ICC.1:2022, 7.2.6).
    icc_profile = profile if isinstance(profile, bytes) and profile[16:20] == b"RGB " else None
    exif: bytes | None = None
    orientation: int | None = None
    # Pillow raises many things on broken EXIF; such a photo is taken as it lies, without it.
    with suppress(Exception):
        tags = image.getexif()
        orientation = tags.get(_ORIENTATION)
        ImageOps.exif_transpose(image, in_place=True)
        tags = image.getexif()
        if _ORIENTATION in tags:
            tags[_ORIENTATION] = 1
        exif = tags.tobytes() if len(tags) else None
    if exif is not None and len(exif) > _EXIF_LIMIT_BYTES:
        exif = None
    if low is not None:
        low.getexif()[_ORIENTATION] = orientation or 1
        ImageOps.exif_transpose(low, in_place=True)
        high = image
        both = _bands_of(high, high.mode), _bands_of(low, low.mode)
        words = np.empty((high.height, high.width, len(high.getbands())), np.uint16)
        for (rows, upper), (_, lower) in zip(*both, strict=True):
            words[rows] = upper
            words[rows] <<= 8
            words[rows] |= lower
        alpha = words[..., 3] if words.shape[2] == 4 else None
        return Photo(words[..., :3], alpha, output_format, exif, icc_profile, frames)
    if _is_wide(image):
        return Photo(_threefold(_words_of(image)), None, output_format, exif, icc_profile, frames)
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        pixels = _array(image, "RGBA", 4)
        return Photo(pixels[..., :3], pixels[..., 3], output_format, exif, icc_profile, frames)
    if image.mode in ("1", "L"):
        return Photo(_threefold(_array(image, "L", 1)[..., 0]), None, output_format, exif, icc_profile, frames)
    return Photo(_array(image, "RGB", 3), None, output_format, exif, icc_profile, frames)


def bands(height: int, width: int, band_pixels: int = BAND_PIXELS) -> list[slice]:
    """The rows of an image in bands of about `band_pixels`."""
    rows = max(1, band_pixels // width)
    return [slice(start, min(start + rows, height)) for start in range(0, height, rows)]


def _bands_of(image: Image.Image, mode: str) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    for rows in bands(image.height, image.width):
        yield rows, np.asarray(image.crop((0, rows.start, image.width, rows.stop)).convert(mode))


def _array(image: Image.Image, mode: str, channels: int) -> NDArray[np.uint8]:
    pixels = np.empty((image.height, image.width, channels), np.uint8)
    for rows, band in _bands_of(image, mode):
        pixels[rows] = band.reshape(*band.shape[:2], channels)
    return pixels


def _is_wide(image: Image.Image) -> bool:
    """Whether the image is grey in more than eight bits, which Pillow's own conversions would clip."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _words_of(image: Image.Image) -> NDArray[np.uint16]:
    """Grey in 16 bits: "I" holds 16-bit samples in practice; a float image may be in 0..1, in bytes or in words."""
    words = np.empty((image.height, image.width), np.uint16)
    scale = 1.0
    if image.mode == "F":
        largest = float(image.getextrema()[1])  # type: ignore[arg-type]  # a pair of floats for one channel
        scale = 65535.0 if largest <= 1 else 257.0 if largest <= 255 else 1.0
    for rows in bands(image.height, image.width):
        band = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        if image.mode == "F":
            band = np.rint(np.nan_to_num(band) * scale)
        words[rows] = np.clip(band, 0, 65535) if band.dtype != np.uint16 else band
    return words


def _threefold(grey: Pixels) -> Pixels:
    """(H, W) grey as (H, W, 3), in the memory of one channel."""
    return cast(Pixels, np.broadcast_to(grey[:, :, None], (*grey.shape, 3)))


class Sheet:
    """The output of a photo while its colours come in, rows from top to bottom."""

    def __init__(self, photo: Photo) -> None:
        self._photo = photo
        height, width = photo.rgb.shape[:2]
        self._alpha = photo.alpha if photo.output_format == "PNG" else None
        self._top = 0
        channels = 3 if self._alpha is None else 4
        self._deep: DeepPng | None = None
        self._image: Image.Image | None = None
        self.levels = 65535 if photo.rgb.dtype == np.uint16 else 255
        """What full brightness is in the rows that `add` takes."""
        if self.levels == 255:
            self._image = Image.new("RGB" if channels == 3 else "RGBA", (width, height))
        else:
            self._deep = DeepPng(width, height, channels, exif=photo.exif, icc_profile=photo.icc_profile)

    def add(self, rgb: Pixels) -> None:
        """Take the next rows, (n, W, 3) in 0..levels."""
        top, self._top = self._top, self._top + len(rgb)
        if self._alpha is not None:
            rgb = np.concatenate([rgb, self._alpha[top : self._top, :, None]], axis=2)
        if self._image is not None:
            self._image.paste(Image.fromarray(np.ascontiguousarray(rgb, np.uint8)), (0, top))
        elif self._deep is not None:
            self._deep.add(rgb.astype(np.uint16, copy=False))

    def encoded(self) -> bytes:
        """The file's bytes, once all rows are in."""
        if self._deep is not None:
            return self._deep.encoded()
        image, photo = self._image, self._photo
        if image is None:
            raise ValueError("a sheet is encoded once")
        self._image = None
        carried = {
            name: value
            for name, value in (("exif", photo.exif), ("icc_profile", photo.icc_profile))
            if value is not None
        }
        buffer = io.BytesIO()
        if photo.output_format == "JPEG":
            image.save(buffer, "JPEG", quality=95, subsampling=0, **carried)
        else:
            image.save(buffer, "PNG", compress_level=4, **carried)
        return buffer.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the whole new one, also if this is interrupted."""
    # One name for all runs: what a killed one left is replaced by the next, and the manifest lets in one at a time.
    partial = path.with_name(f".{path.name}.part")
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
