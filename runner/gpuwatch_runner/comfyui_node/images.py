"""ComfyUI's images and the network's: a batch of colour in floats to grey squares, and back with the new colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gpuwatch_runner.lab import lightness_of_rgb, rgb_of_lab

BAND_PIXELS = 1 << 18
Floats = NDArray[np.float32]


def rgb_of(image: Tensor) -> Floats:
    """One image (H, W, C) as floats (H, W, 3) in 0..1: grey is spread, what is beyond the third channel is left out."""
    values = image.detach().to("cpu", torch.float32).clamp(0, 1)
    values = values.expand(-1, -1, 3) if values.shape[-1] < 3 else values[..., :3]
    return np.ascontiguousarray(torch.nan_to_num(values).numpy())


def colourized(rgb: Floats, ab: Tensor) -> Tensor:
    """The image with its own lightness and the colours ab (2, S, S): (H, W, 3) in 0..1."""
    height, width = rgb.shape[:2]
    full: NDArray[Any] = functional.interpolate(ab[None].float(), (height, width), mode="bilinear")[0].numpy()
    colours = np.empty((height, width, 3), np.float32)
    rows = max(1, BAND_PIXELS // width)
    for start in range(0, height, rows):
        band = slice(start, start + rows)
        lab = np.stack([lightness_of_rgb(rgb[band]), full[0, band], full[1, band]], axis=-1)
        colours[band] = rgb_of_lab(lab)
    return torch.from_numpy(colours)
