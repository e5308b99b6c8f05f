"""Photos in and out: whatever Pillow opens becomes sRGB bytes the right way up; what leaves is whole or not there.

Colour is not managed: a profile is carried along, not applied, as the official code (through OpenCV) does. Of an
animation the first frame is taken.
"""

from __future__ import annotations

import io
import os
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpuwatch.errors import UsageError
from gpuwatch.texts import plain, text

OutputFormat = Literal["JPEG", "PNG"]
SUFFIXES: dict[OutputFormat, str] = {"JPEG": ".jpg", "PNG": ".png"}
IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jfif",
        ".png",
        ".webp",
        ".tif",
        ".tiff",
        ".bmp",
        ".gif",
        ".ppm",
        ".pgm",
        ".pnm",
        ".jp2",
        ".avif",
    )
)
"""What a directory is searched for; a file named on the command line is tried whatever it is called."""
MARK = "-colorized"
"""Ends the name of every output: an output never replaces its input, and a second run passes over the first's."""

_ORIENTATION = 0x0112
_EXIF_LIMIT_BYTES = 65_000


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo, upright."""

    rgb: NDArray[np.uint8] | NDArray[np.float32]
    """(H, W, 3) sRGB: bytes, or floats in 0..1 where the file has more than eight bits of grey."""
    alpha: NDArray[np.uint8] | None
    """(H, W), where the file has transparency."""
    output_format: OutputFormat
    exif: bytes | None
    """The file's EXIF with its orientation reset, or None."""
    icc_profile: bytes | None
    """The file's profile where it describes RGB; one for grey or CMYK would be wrong for the output."""


def find_images(paths: list[Path]) -> tuple[list[Path], list[tuple[Path, UsageError]]]:
    """Give the image files of `paths`, directories searched one level deep in name order, and what could not be used."""
    found: list[Path] = []
    failed: list[tuple[Path, UsageError]] = []
    for path in paths:
        try:
            found += _images_of(path)
        except UsageError as error:
            failed.append((path, error))
        except OSError as error:
            failed.append((path, _unreadable(path, error)))
    return list(dict.fromkeys(found)), failed


def _images_of(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(text("{path} does not exist", path=path))
    if not path.is_dir():
        return [path]
    inside = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in IMAGE_SUFFIXES and MARK not in entry.stem and not entry.name.startswith(".")
    )
    if not inside:
        raise UsageError(text("{path} has no images", path=path))
    return inside


def read_photo(path: Path) -> Photo:
    """Decode a photo; UsageError with one line where it cannot be."""
    try:
        if path.stat().st_size == 0:
            raise UsageError(text("{path} is empty", path=path))
        with warnings.catch_warnings():
            # Large photos and odd metadata make Pillow warn; both are handled or harmless here.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                image.load()
                return _photo_of(image)
    except UnidentifiedImageError as error:
        raise UsageError(text("{path} is not an image that can be read", path=path)) from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> UsageError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return UsageError(text("{path} cannot be read: {reason}", path=path, reason=plain(reason)))


def _photo_of(image: Image.Image) -> Photo:
    output_format: OutputFormat = "JPEG" if image.format in ("JPEG", "MPO") else "PNG"
    profile = image.info.get("icc_profile")
    # A profile's header names its colour space in bytes 16 to 20 (ICC.1:2022, 7.2.6).
    icc_profile = profile if isinstance(profile, bytes) and profile[16:20] == b"RGB " else None
    exif: bytes | None = None
    # Pillow raises many things on broken EXIF; such a photo is taken as it lies, without it.
    with suppress(Exception):
        image = ImageOps.exif_transpose(image)
        tags = image.getexif()
        if _ORIENTATION in tags:
            tags[_ORIENTATION] = 1
        exif = tags.tobytes() if len(tags) else None
    if exif is not None and len(exif) > _EXIF_LIMIT_BYTES:
        exif = None

    alpha = None
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or ("transparency" in image.info and not _is_wide(image)):
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
    return Photo(_rgb_of(image), alpha, output_format, exif, icc_profile)


def _is_wide(image: Image.Image) -> bool:
    """Whether the image is grey in more than eight bits, which Pillow's own conversions would clip."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _rgb_of(image: Image.Image) -> NDArray[np.uint8] | NDArray[np.float32]:
    if _is_wide(image):
        grey = np.asarray(image).astype(np.float32)
        # "I" holds 16-bit samples in practice; a float image may be in 0..1 or in bytes.
        largest = float(grey.max(initial=0))
        full = 65535.0 if image.mode != "F" else 1.0 if largest <= 1 else 255.0 if largest <= 255 else 65535.0
        grey = np.clip(np.nan_to_num(grey) / np.float32(full), 0, 1)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def encode_photo(rgb: NDArray[np.uint8], photo: Photo) -> bytes:
    """The file's bytes for the colours (H, W, 3) of `photo`, in its output format with its metadata."""
    image = Image.fromarray(rgb)
    if photo.alpha is not None and photo.output_format == "PNG":
        image.putalpha(Image.fromarray(photo.alpha))
    carried = {
        name: value for name, value in (("exif", photo.exif), ("icc_profile", photo.icc_profile)) if value is not None
    }
    buffer = io.BytesIO()
    if photo.output_format == "JPEG":
        image.save(buffer, "JPEG", quality=95, subsampling=0, **carried)
    else:
        image.save(buffer, "PNG", compress_level=4, **carried)
    return buffer.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the whole new one, also if this is interrupted."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def output_path(folder: Path, source: Path, output_format: OutputFormat, taken: set[Path]) -> Path:
    """Where the colours of `source` go: `<stem>-colorized.jpg|png`, numbered where two inputs share a stem."""
    stem = f"{source.stem}{MARK}"
    path = folder / f"{stem}{SUFFIXES[output_format]}"
    number = 2
    while path in taken:
        path = folder / f"{stem}-{number}{SUFFIXES[output_format]}"
        number += 1
    taken.add(path)
    return path
