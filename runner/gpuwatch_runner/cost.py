"""What a pass costs by arithmetic alone: operations, and visual tokens."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from gpuwatch_runner.ddcolor import DDColor, Rewrite, Variant

TOKEN_PX = 16


def gflop_per_image(variant: Variant, size_px: int, rewrite: Rewrite = "none") -> float:
    """10^9 floating-point operations of one image of `size_px` squared, a multiply and its add counted as two.

    Convolutions, linear layers and matrix products are counted, on the meta device, where nothing is computed;
    elementwise steps are not, as is the custom.
    """
    with torch.device("meta"):
        network = DDColor(variant, rewrite).requires_grad_(requires_grad=False)
        image = torch.empty(1, 3, size_px, size_px)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(image)
    return counter.get_total_flops() / 1e9


def tokens_per_image(height_px: int, width_px: int) -> int:
    """Visual tokens of an image: the 16x16 patches that cover it."""
    return -(-height_px // TOKEN_PX) * -(-width_px // TOKEN_PX)
