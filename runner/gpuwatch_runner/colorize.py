"""From a photo to its colours: lightness at the network's size, the network, ab back at the photo's size.

The photo keeps its own lightness at its own size, so the network's size changes the colours and never the sharpness.
The steps and their order are the official inference's; only ab's way back is bilinear, which leaves no blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from gpuwatch.errors import JobError
from gpuwatch.texts import text
from gpuwatch_runner.command import Dtype
from gpuwatch_runner.ddcolor import DDColor
from gpuwatch_runner.lab import Floats, lightness_of_rgb, rgb_of_lab
from gpuwatch_runner.photo import Photo, encode_photo, read_photo

BAND_PIXELS = 1 << 18
"""Pixels converted at a time: a large photo's intermediate arrays stay in the cache, and out of the peak memory."""

_WEIGHT_DTYPES = {"fp32": torch.float32, "amp16": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NOTHING: AbstractContextManager[Any] = nullcontext()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A photo on its way through the network."""

    photo: Photo
    lightness: Floats
    """(H, W), 0..100, at the photo's size."""
    grey: Floats
    """(S, S), sRGB grey in 0..1, at the network's size."""


class Colorizer:
    """Colorizes photos with one network on one device."""

    def __init__(self, network: DDColor, device: torch.device, *, size_px: int, dtype: Dtype) -> None:
        self.network = network.to(device, _WEIGHT_DTYPES[dtype])
        self.device = device
        self.size_px = size_px
        self.dtype = dtype
        self.mark: Callable[[str], AbstractContextManager[Any]] = lambda _stage: _NOTHING
        """Opened around each step by its name, as `DDColor.mark` is."""

    def prepare(self, path: Path) -> Prepared:
        """Decode a photo and take its lightness; UsageError where it cannot be read."""
        with self.mark("decode"):
            photo = read_photo(path)
        with self.mark("lab"):
            lightness = np.empty(photo.rgb.shape[:2], np.float32)
            for band in _bands(*photo.rgb.shape[:2]):
                lightness[band] = lightness_of_rgb(photo.rgb[band])
            small = lightness_of_rgb(resize_bilinear(photo.rgb, self.size_px, self.size_px))
            colourless = np.zeros((*small.shape, 3), np.float32)
            colourless[..., 0] = small
            return Prepared(photo, lightness, rgb_of_lab(colourless)[..., 1])

    def infer(self, greys: Sequence[Floats]) -> tuple[list[Floats], float]:
        """Run the network on greys (S, S): for each its ab (2, S, S), and the seconds from host memory and back."""
        started = perf_counter()
        with torch.inference_mode(), self._precision():
            batch = torch.from_numpy(np.stack(greys))[:, None].to(self.device, _WEIGHT_DTYPES[self.dtype])
            ab = self.network(batch.repeat(1, 3, 1, 1)).float().cpu()
        return list(ab.numpy()), perf_counter() - started

    def finish(self, prepared: Prepared, ab: Floats) -> bytes:
        """Join ab (2, S, S) with the photo's own lightness: the output file's bytes."""
        if not np.isfinite(ab).all():
            raise JobError(
                text("The network's output has values that are not numbers in {dtype}", dtype=self.dtype),
                text("Use --dtype fp32 or amp16"),
            )
        with self.mark("lab"):
            height, width = prepared.lightness.shape
            full = functional.interpolate(torch.from_numpy(ab)[None], (height, width), mode="bilinear")[0].numpy()
            rgb = np.empty((height, width, 3), np.uint8)
            for band in _bands(height, width):
                lab = np.stack([prepared.lightness[band], full[0, band], full[1, band]], axis=-1)
                rgb[band] = np.rint(rgb_of_lab(lab) * 255)
        with self.mark("encode"):
            return encode_photo(rgb, prepared.photo)

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.float16) if self.dtype == "amp16" else nullcontext()


def resize_bilinear(rgb: NDArray[np.uint8] | Floats, height: int, width: int) -> Floats:
    """Resize (H, W, 3), bytes or floats in 0..1, to floats (height, width, 3) in 0..1.

    Pixel centres at half coordinates and two samples a side, as OpenCV's INTER_LINEAR: the network has seen no other.
    Only the rows and columns that are sampled are converted, so a large photo costs no more than a small one.
    """
    above, below, row_share = _samples(rgb.shape[0], height)
    left, right, column_share = _samples(rgb.shape[1], width)
    row_share, column_share = row_share[:, None, None], column_share[None, :, None]

    def row(rows: NDArray[np.intp]) -> Floats:
        lines = rgb[rows]
        return lines[:, left] * (1 - column_share) + lines[:, right] * column_share

    mixed = row(above) * (1 - row_share) + row(below) * row_share
    return (mixed / 255 if rgb.dtype == np.uint8 else mixed).astype(np.float32)


def _samples(length: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """For each of `wanted` places along `length` samples: the two beside it, and the second one's share."""
    places = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
    first = places.astype(np.intp)
    return first, np.minimum(first + 1, length - 1), (places - first).astype(np.float32)


def _bands(height: int, width: int) -> list[slice]:
    rows = max(1, BAND_PIXELS // width)
    return [slice(start, start + rows) for start in range(0, height, rows)]
