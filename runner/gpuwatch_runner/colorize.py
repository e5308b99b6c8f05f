"""From a photo to its colours: lightness at the network's size, the network, ab back at the photo's size.

The photo keeps its own lightness at its own size, so the network's size changes the colours and never the sharpness.
The steps and their order are the official inference's; only ab's way back is bilinear, which leaves no blocks. Whatever
is as large as the photo is made band by band of its rows, each row from its own pixels alone, so the bands change
nothing in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from gpuwatch.errors import JobError
from gpuwatch.texts import text
from gpuwatch_runner.command import Dtype
from gpuwatch_runner.ddcolor import DDColor, Rewrite
from gpuwatch_runner.lab import Floats, lightness_of_rgb, rgb_of_lab, rgb_of_planes
from gpuwatch_runner.photo import BAND_PIXELS, Photo, Pixels, Sheet, bands, read_photo
from gpuwatch_runner.transfer import Pass, Transfer

_WEIGHT_DTYPES = {"fp32": torch.float32, "amp16": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_NOTHING: AbstractContextManager[Any] = nullcontext()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A photo on its way through the network."""

    photo: Photo
    grey: Floats
    """(S, S), sRGB grey in 0..1, at the network's size."""

    @property
    def lightness(self) -> Floats:
        """(H, W), 0..100, at the photo's size; made anew each time."""
        return lightness_of_rgb(self.photo.rgb)


class Colorizer:
    """Colorizes photos with one network on one device."""

    def __init__(
        self, network: DDColor, device: torch.device, *, size_px: int, dtype: Dtype, channels_last: bool = False
    ) -> None:
        self.network = network.to(device, _WEIGHT_DTYPES[dtype])
        if channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        self.device = device
        self.size_px = size_px
        self.dtype = dtype
        self.channels_last = channels_last
        self.mark: Callable[[str], AbstractContextManager[Any]] = lambda _stage: _NOTHING
        """Opened around each step by its name, as `DDColor.mark` is."""
        self.run_network: Callable[[torch.Tensor], torch.Tensor] = self.network
        """What a pass calls: the network, or the network compiled."""
        self._transfer = Transfer(device)

    def prepare(self, path: Path) -> Prepared:
        """Decode a photo and take its lightness; UsageError where it cannot be read."""
        with self.mark("decode"):
            photo = read_photo(path)
        with self.mark("lab"):
            return Prepared(photo, grey_of(photo.rgb, self.size_px))

    def infer(self, greys: Sequence[Floats]) -> tuple[list[Floats], float]:
        """Run the network on greys (S, S): for each its ab (2, S, S), and the seconds from host memory and back."""
        started = perf_counter()
        colours, _ = self.launch(greys).collect()
        return colours, perf_counter() - started

    def launch(self, greys: Sequence[Floats]) -> Pass:
        """Start a pass: on CUDA it is under way when this returns, and the next may be prepared meanwhile."""
        with torch.inference_mode(), self._precision():
            batch = self._transfer.upload(np.stack(greys)[:, None], _WEIGHT_DTYPES[self.dtype])
            batch = batch.repeat(1, 3, 1, 1)
            if self.channels_last:
                batch = batch.contiguous(memory_format=torch.channels_last)
            return self._transfer.download(self.run_network(batch).float())

    def compile(self) -> None:
        """Compile what a pass runs, at the first pass; on a CPU without the pixel decoder, which torch 2.13 cannot there."""
        if self.device.type == "cuda":
            self.run_network = torch.compile(self.network, dynamic=False)
        else:
            self.network.encoder.compile(dynamic=False)
            self.network.decoder.color_decoder.compile(dynamic=False)

    def turn_to(self, rewrite: Rewrite, size_px: int) -> None:
        """Run the same weights by another rewrite, at another size, from the next pass on."""
        self.network.turn_to(rewrite)
        self.size_px = size_px

    def finish(self, prepared: Prepared, ab: Floats, *, band_pixels: int = BAND_PIXELS) -> bytes:
        """Join ab (2, S, S) with the photo's own lightness: the output file's bytes.

        Raises JobError where the network gave values that are no numbers.
        """
        if not np.isfinite(ab).all():
            raise JobError(
                text("The network's output has values that are not numbers in {dtype}", dtype=self.dtype),
                text("Use --dtype fp32 or amp16"),
            )
        rgb = prepared.photo.rgb
        height, width = rgb.shape[:2]
        sheet = Sheet(prepared.photo)
        with self.mark("lab"):
            above, below, row_share = _samples(ab.shape[1], height)
            left, right, column_share = _samples(ab.shape[2], width)
            wide = ab[:, :, left] * (1 - column_share) + ab[:, :, right] * column_share
            for band in bands(height, width, band_pixels):
                share = row_share[band, None]
                a, b = (plane[above[band]] * (1 - share) + plane[below[band]] * share for plane in wide)
                colours = rgb_of_planes(lightness_of_rgb(rgb[band]), a, b)
                sheet.add(cast(Pixels, np.rint(colours * sheet.levels).astype(rgb.dtype)))
        with self.mark("encode"):
            return sheet.encoded()

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.float16) if self.dtype == "amp16" else nullcontext()


def grey_of(rgb: Pixels | Floats, size_px: int) -> Floats:
    """What the network sees of a photo (H, W, 3): its lightness as grey (S, S), sRGB in 0..1."""
    small = lightness_of_rgb(resize_bilinear(rgb, size_px, size_px))
    colourless = np.zeros((*small.shape, 3), np.float32)
    colourless[..., 0] = small
    return rgb_of_lab(colourless)[..., 1]


def resize_bilinear(rgb: Pixels | Floats, height: int, width: int, *, band_pixels: int = BAND_PIXELS) -> Floats:
    """Resize (H, W, 3), bytes, 16 bits or floats in 0..1, to floats (height, width, 3) in 0..1.

    Pixel centres at half coordinates and two samples a side, as OpenCV's INTER_LINEAR: the network has seen no other.
    Only the rows and columns that are sampled are converted, so a large photo costs no more than a small one.
    """
    above, below, row_share = _samples(rgb.shape[0], height)
    left, right, column_share = _samples(rgb.shape[1], width)
    row_share, column_share = row_share[:, None, None], column_share[None, :, None]
    scale = np.float32(255 if rgb.dtype == np.uint8 else 65535 if rgb.dtype == np.uint16 else 1)

    def row(rows: NDArray[np.intp]) -> Floats:
        lines = rgb[rows]
        mixed: Floats = lines[:, left] * (1 - column_share) + lines[:, right] * column_share
        return mixed

    resized = np.empty((height, width, 3), np.float32)
    for band in bands(height, max(width, rgb.shape[1]), band_pixels):
        share = row_share[band]
        resized[band] = (row(above[band]) * (1 - share) + row(below[band]) * share) / scale
    return resized


def _samples(length: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """For each of `wanted` places along `length` samples: the two beside it, and the second one's share."""
    places = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
    first = places.astype(np.intp)
    return first, np.minimum(first + 1, length - 1), (places - first).astype(np.float32)
