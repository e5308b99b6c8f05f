"""Photos: colour conversion against known values, every mode in, metadata out, and files that are whole or not there."""

from __future__ import annotations

import importlib.util
import io
import os
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from torch.nn import functional

from gpuwatch.errors import UsageError
from gpuwatch_runner.colorize import Colorizer, Prepared, grey_of, resize_bilinear
from gpuwatch_runner.lab import lab_of_rgb, lightness_of_rgb, rgb_of_lab
from gpuwatch_runner.photo import Photo, read_photo, write_whole
from tests.runner.conftest import encoded, grey_scene


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # CIE Lab of sRGB under D65, as published for the corners of the cube
        ((0, 0, 0), (0, 0, 0)),
        ((1, 1, 1), (100, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
    ],
)
def test_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    assert lab_of_rgb(np.array(rgb, np.float32)) == pytest.approx(lab, abs=0.03)


def test_there_and_back_is_the_same_for_every_kind_of_colour() -> None:
    steps = np.linspace(0, 1, 18, dtype=np.float32)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1)
    assert np.abs(rgb_of_lab(lab_of_rgb(cube)) - cube).max() < 5e-4
    assert np.abs(lightness_of_rgb(cube) - lab_of_rgb(cube)[..., 0]).max() < 1e-4


def test_bytes_and_floats_have_the_same_lightness() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (7, 9, 3), np.uint8)
    assert np.abs(lightness_of_rgb(pixels) - lightness_of_rgb(pixels.astype(np.float32) / 255)).max() < 1e-4


def test_a_colour_outside_of_srgb_is_clipped() -> None:
    assert rgb_of_lab(np.array([60, 120, -120], np.float32)).max() == pytest.approx(1)
    assert np.isfinite(rgb_of_lab(np.array([0, 127, 127], np.float32))).all()


@pytest.mark.parametrize("size", [(32, 64), (100, 3), (7, 200), (1, 1)])
def test_resizing_is_the_bilinear_of_half_pixel_centres(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (45, 70, 3), np.uint8)
    floats = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    expected = functional.interpolate(floats, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    assert np.abs(resize_bilinear(pixels, *size) - expected).max() < 1e-5


MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"]
KEPT_IN = {"CMYK": "TIFF", "YCbCr": "TIFF", "F": "TIFF", "LA": "PNG", "PA": "PNG"}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_the_same_upright_colours(mode: str, tmp_path: Path) -> None:
    scene = grey_scene(24, 40)
    if mode in ("I;16", "I"):
        image = Image.fromarray(scene.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(scene.astype(np.float32))
    else:
        image = Image.fromarray(scene).convert("RGB" if mode in ("CMYK", "HSV", "YCbCr") else "L")
        image = image.convert("LA").convert("RGBA").quantize(255) if mode == "PA" else image.convert(mode)
    if mode == "HSV":
        image = image.convert("RGB")
    path = tmp_path / "photo.tif" if mode in KEPT_IN and KEPT_IN[mode] == "TIFF" else tmp_path / "photo.png"
    image.save(path)
    photo = read_photo(path)
    assert photo.rgb.shape == (24, 40, 3)
    values = photo.rgb.astype(np.float32) / (1 if photo.rgb.dtype == np.uint8 else 257)
    if mode != "1":
        assert np.abs(values - scene[:, :, None]).max() <= (12 if mode == "PA" else 1)
    assert photo.output_format == "PNG"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((40, 24), np.uint8)
    upright[:20, :12] = 255
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = Image.fromarray(upright)
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = orientation, "A camera"
    (stored if undo is None else stored.transpose(undo)).save(tmp_path / "photo.jpg", exif=tags, quality=100)

    photo = read_photo(tmp_path / "photo.jpg")
    assert np.abs(photo.rgb[..., 0].astype(int) - upright).max() < 20
    out = Image.open(io.BytesIO(encoded(np.asarray(photo.rgb, np.uint8), photo)))
    assert out.format == "JPEG"
    assert out.size == (24, 40)
    assert out.getexif().get(0x0112, 1) == 1
    assert out.getexif()[0x010F] == "A camera"


def test_an_rgb_profile_is_kept_and_another_is_not(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = profile[:16] + b"GRAY" + profile[20:]
    for content, kept in ((profile, profile), (grey, None), (b"short", None)):
        Image.fromarray(grey_scene(8, 8)).convert("RGB").save(tmp_path / "photo.jpg", icc_profile=content)
        photo = read_photo(tmp_path / "photo.jpg")
        assert photo.icc_profile == kept
        out = Image.open(io.BytesIO(encoded(np.asarray(photo.rgb, np.uint8), photo)))
        assert out.info.get("icc_profile") == kept


def test_alpha_is_kept(tmp_path: Path) -> None:
    image = Image.fromarray(grey_scene(16, 16)).convert("RGBA")
    image.putalpha(Image.fromarray(grey_scene(16, 16)))
    image.save(tmp_path / "photo.png")
    photo = read_photo(tmp_path / "photo.png")
    out = Image.open(io.BytesIO(encoded(np.asarray(photo.rgb, np.uint8), photo)))
    assert np.array_equal(np.asarray(out)[..., 3], grey_scene(16, 16))


def test_transparency_of_a_palette_is_kept(tmp_path: Path) -> None:
    image = Image.fromarray(grey_scene(16, 16)).quantize(8)
    image.save(tmp_path / "photo.png", transparency=0)
    alpha = read_photo(tmp_path / "photo.png").alpha
    assert alpha is not None
    assert set(np.unique(alpha)) == {0, 255}


def spoil(name: str, folder: Path) -> Path:
    path = folder / f"{name}.png"
    buffer = io.BytesIO()
    Image.fromarray(grey_scene(64, 64)).save(buffer, "PNG")
    whole = buffer.getvalue()
    path.write_bytes({"empty": b"", "text": b"not an image", "cut": whole[: len(whole) // 2]}.get(name, whole))
    if name == "missing":
        path.unlink()
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "is empty"),
        ("text", "is not an image that can be read"),
        ("cut", "cannot be read: "),
        ("missing", "cannot be read: No such file"),
    ],
)
def test_a_bad_image_is_one_clear_line(name: str, words: str, tmp_path: Path) -> None:
    path = spoil(name, tmp_path)
    with pytest.raises(UsageError) as refused:
        read_photo(path)
    message = str(refused.value)
    assert message.startswith(f"{path} {words}")
    assert "\n" not in message


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(grey_scene(64, 64)).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    with pytest.raises(UsageError, match="decompression bomb"):
        read_photo(tmp_path / "photo.png")


def test_broken_metadata_does_not_lose_the_photo(tmp_path: Path) -> None:
    Image.fromarray(grey_scene(16, 16)).save(tmp_path / "photo.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_photo(tmp_path / "photo.jpg").rgb.shape == (16, 16, 3)
    words = PngImagePlugin.PngInfo()
    words.add_text("Comment", "x" * 1000)
    Image.fromarray(grey_scene(16, 16)).save(tmp_path / "photo.png", pnginfo=words)
    assert read_photo(tmp_path / "photo.png").exif is None


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["photo.png"]  # noqa: PTH208 - hidden files count


@hypothesis.settings(
    deadline=None, max_examples=30, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(
    band_pixels=st.integers(1, 4000), deep=st.booleans(), grey=st.booleans(),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)), seed=st.integers(0, 9),
)  # fmt: skip
def test_bands_change_no_bit(  # noqa: PLR0917 - hypothesis names them
    colorizer: Colorizer, band_pixels: int, deep: bool, grey: bool, size: tuple[int, int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    kind: Any = np.uint16 if deep else np.uint8
    rgb = random.integers(0, np.iinfo(kind).max + 1, (*size, 1 if grey else 3), kind)
    rgb = np.broadcast_to(rgb, (*size, 3))
    prepared = Prepared(Photo(rgb, None, "PNG", None, None), grey_of(rgb, 32))
    ab = random.normal(0, 40, (2, 32, 32)).astype(np.float32)
    whole, banded = (
        np.asarray(Image.open(io.BytesIO(colorizer.finish(prepared, ab, band_pixels=pixels))))
        for pixels in (1 << 30, band_pixels)
    )
    assert np.array_equal(whole, banded)
    assert np.array_equal(
        resize_bilinear(rgb, 40, 17, band_pixels=1 << 30), resize_bilinear(rgb, 40, 17, band_pixels=band_pixels)
    )


def test_the_way_back_is_the_bilinear_of_half_pixel_centres(colorizer: Colorizer) -> None:
    rgb = np.random.default_rng(4).integers(0, 256, (70, 45, 3), np.uint8)
    ab = np.random.default_rng(5).normal(0, 20, (2, 32, 32)).astype(np.float32)
    photo = Photo(rgb, None, "PNG", None, None)
    found = np.asarray(Image.open(io.BytesIO(colorizer.finish(Prepared(photo, grey_of(rgb, 32)), ab))))
    full = functional.interpolate(torch.from_numpy(ab)[None], (70, 45), mode="bilinear")[0].permute(1, 2, 0).numpy()
    lab = np.concatenate([lightness_of_rgb(rgb)[..., None], full], axis=2)
    expected = np.rint(rgb_of_lab(lab) * 255)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 1e-3


def test_an_animation_gives_its_first_frame_and_says_so(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10, 100, 200)]
    frames[0].save(tmp_path / "photo.gif", save_all=True, append_images=frames[1:])
    photo = read_photo(tmp_path / "photo.gif")
    assert photo.frames == 3
    assert np.abs(photo.rgb.astype(int) - 10).max() <= 2


def test_files_that_are_no_photos_or_need_a_codec(tmp_path: Path) -> None:
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    without = importlib.util.find_spec("pillow_heif") is None
    words = (
        "is a HEIC photo, and the codec for it is not installed: pip install pillow-heif"
        if without
        else "cannot be read"
    )
    with pytest.raises(UsageError, match=words):
        read_photo(tmp_path / "phone.heic")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UsageError, match="is not a file"):
        read_photo(tmp_path / "pipe.jpg")
