"""Photos with sixteen bits a colour: read whole, written whole, and their lightness kept through the network."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.deep import DeepPng
from gpuwatch_runner.photo import read_photo
from tests.runner.conftest import encoded

Words = np.ndarray[Any, np.dtype[np.uint16]]


def test_sixteen_bits_of_grey_are_not_clipped_or_rounded(tmp_path: Path) -> None:
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    photo = read_photo(tmp_path / "deep.png")
    assert photo.rgb.dtype == np.uint16
    assert np.array_equal(photo.rgb[..., 0], ramp)


def deep_noise(channels: int) -> Words:
    return np.random.default_rng(3).integers(0, 65536, (19, 13, channels), np.uint16)


def png_of(pixels: Words) -> bytes:
    """A 16-bit PNG whose rows use the filters None, Sub and Up in turn; two channels are grey and alpha."""
    height, width, channels = pixels.shape
    raw = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    rows = []
    for y, row in enumerate(raw):
        left = np.concatenate([np.zeros(2 * channels, np.uint8), row[: -2 * channels]])
        rows.append(bytes([y % 3]) + (row - (0, left, raw[y - 1])[y % 3]).astype(np.uint8).tobytes())

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def tiff_of(pixels: Words, order: str, compression: int) -> bytes:
    """A 16-bit TIFF of one strip: `order` is II or MM, `compression` 1 (none) or 8 (Deflate)."""
    height, width, channels = pixels.shape
    end = "<" if order == "II" else ">"
    strip = pixels.astype(f"{end}u2").tobytes()
    strip = zlib.compress(strip) if compression == 8 else strip
    tags = [(256, 4, width), (257, 4, height), (258, 3, None), (259, 3, compression), (262, 3, 2), (273, 4, None),
            (277, 3, channels), (278, 4, height), (279, 4, len(strip))]  # fmt: skip
    tags += [(338, 3, 2)] if channels == 4 else []
    depths_at = 8 + 2 + 12 * len(tags) + 4
    directory = struct.pack(f"{end}2sHIH", order.encode(), 42, 8, len(tags))
    for tag, kind, value in tags:
        if tag == 258:
            directory += struct.pack(f"{end}HHII", tag, kind, channels, depths_at)
        else:
            number = depths_at + 2 * channels if value is None else value
            directory += struct.pack(f"{end}HHI", tag, kind, 1) + struct.pack(
                f"{end}I" if kind == 4 else f"{end}Hxx", number
            )
    return directory + bytes(4) + struct.pack(f"{end}{channels}H", *[16] * channels) + strip


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("form", ["PNG", "II-1", "MM-1", "II-8", "MM-8"])
def test_sixteen_bits_of_colour_are_read_whole(form: str, channels: int, tmp_path: Path) -> None:
    if form != "PNG" and channels == 2:
        pytest.skip("grey with alpha is PNG's")
    pixels = deep_noise(channels)
    order, _, compression = form.partition("-")
    path = tmp_path / "photo"
    path.write_bytes(png_of(pixels) if form == "PNG" else tiff_of(pixels, order, int(compression)))
    photo = read_photo(path)
    assert np.array_equal(photo.rgb, pixels[..., :3] if channels > 2 else np.repeat(pixels[..., :1], 3, axis=2))
    assert (photo.alpha is None) == (channels == 3)
    assert photo.alpha is None or np.array_equal(photo.alpha, pixels[..., -1])

    (tmp_path / "again.png").write_bytes(encoded(photo.rgb, photo))
    again = read_photo(tmp_path / "again.png")
    assert again.rgb.dtype == np.uint16
    assert np.array_equal(again.rgb, photo.rgb)
    assert photo.alpha is None or np.array_equal(again.alpha, photo.alpha)


def test_metadata_stays_with_sixteen_bits_and_the_photo_stands_upright(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "A camera"
    png = DeepPng(13, 19, 3, exif=tags.tobytes(), icc_profile=profile)
    png.add(deep_noise(3))
    (tmp_path / "photo.png").write_bytes(png.encoded())
    photo = read_photo(tmp_path / "photo.png")
    assert np.array_equal(photo.rgb, np.rot90(deep_noise(3), -1))
    out = Image.open(io.BytesIO(encoded(photo.rgb, photo)))
    assert out.info["icc_profile"] == profile
    assert out.getexif()[0x010F] == "A camera"
    assert out.getexif().get(0x0112, 1) == 1


def test_sixteen_bits_of_lightness_come_out_again(tmp_path: Path, colorizer: Colorizer) -> None:
    ramp = np.arange(256 * 256, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    prepared = colorizer.prepare(tmp_path / "deep.png")
    (tmp_path / "out.png").write_bytes(colorizer.finish(prepared, np.zeros((2, 32, 32), np.float32)))
    out = read_photo(tmp_path / "out.png").rgb.astype(int)
    assert np.abs(out - ramp[..., None]).max() <= 2  # the matrices of Lab have six digits
    assert len(np.unique(out[..., 1])) > 65_000
