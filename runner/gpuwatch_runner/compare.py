"""How far the colours of a run are from those of fp32, measured on its own photos: what a smaller dtype costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.ddcolor import DDColor

MOST_IMAGES = 8


def against_fp32(colorizer: Colorizer, reference: DDColor, paths: Sequence[Path]) -> dict[str, Any]:
    """Run the first photos through both networks, the reference in plain fp32: differences of ab, in Lab units.

    The reference uses no TF32. It stays on the device beside the other, so memory peaks are taken before this.
    """
    plain = Colorizer(reference, colorizer.device, size_px=colorizer.size_px, dtype="fp32")
    choices = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    largest, total, count = 0.0, 0.0, 0
    for path in paths[:MOST_IMAGES]:
        greys = [colorizer.prepare(path).grey]
        (found,), _ = colorizer.infer(greys)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        try:
            (expected,), _ = plain.infer(greys)
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = choices
        difference = np.abs(found.astype(np.float64) - expected)
        largest = max(largest, float(difference.max()))
        total, count = total + float(difference.sum()), count + difference.size
    return {
        "images": min(len(paths), MOST_IMAGES),
        "largest_ab": largest if np.isfinite(largest) else None,
        "mean_ab": total / count if count and np.isfinite(total) else None,
    }
