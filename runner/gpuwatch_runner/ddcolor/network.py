"""The whole network, and the three ways to run its tail.

`none` does what the official code does, its memory peak included. `tail` lets one full-size tensor go early: the same
bits from a third less memory. `fold` takes the map from features to ab before the upsampling: the same numbers to
1e-5, a fifth to a third of the activations, and fewer operations.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpuwatch.errors import UsageError
from gpuwatch.texts import text
from gpuwatch_runner.ddcolor.colour_decoder import QUERIES, ColourDecoder, CrossAttention, SelfAttention
from gpuwatch_runner.ddcolor.encoder import Encoder
from gpuwatch_runner.ddcolor.pixel_decoder import SpectralConv2d, UnetBlock, Upsample
from gpuwatch_runner.sizes import require_size

Variant = Literal["tiny", "large"]
Rewrite = Literal["none", "tail", "fold"]
VARIANTS: MappingProxyType[Variant, tuple[tuple[int, ...], tuple[int, ...]]] = MappingProxyType(
    {"tiny": ((3, 3, 9, 3), (96, 192, 384, 768)), "large": ((3, 3, 27, 3), (192, 384, 768, 1536))}
)
"""Blocks and channels of the encoder's four stages."""
REWRITES: tuple[Rewrite, ...] = ("none", "tail", "fold")
FEATURES = 512

_NOTHING: AbstractContextManager[Any] = nullcontext()


class Decoder(nn.Module):
    """Holds the pixel decoder and the colour decoder under the names that checkpoints give them."""

    def __init__(self, channels: tuple[int, ...], rewrite: Rewrite) -> None:
        super().__init__()
        release = rewrite != "none"
        outputs = (FEATURES, FEATURES, FEATURES // 2)
        inputs = (channels[-1], *outputs)
        self.layers = nn.ModuleList(
            UnetBlock(wide, skipped, out, release=release)
            for wide, skipped, out in zip(inputs, channels[-2::-1], outputs, strict=False)
        )
        self.last_shuf = Upsample(outputs[-1], outputs[-1], factor=4, batch_norm=False, release=release)
        self.color_decoder = ColourDecoder(keep_weights=rewrite != "fold")


class DDColor(nn.Module):
    """DDColor for inference: `DDColor("tiny")(grey)` gives ab for grey RGB.

    It starts in eval mode and has no other use. `load_state_dict` takes a published checkpoint's entries strictly,
    whichever the rewrite; what is derived from them is derived again at each load.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, variant: Variant, rewrite: Rewrite = "none") -> None:
        super().__init__()
        depths, channels = VARIANTS[variant]
        self.variant = variant
        self.rewrite: Rewrite = rewrite
        self.encoder = Encoder(depths, channels)
        self.decoder = Decoder(channels, rewrite)
        refine = SpectralConv2d(QUERIES + 3, 2, bias=True)
        self.refine_net = nn.Sequential(nn.Sequential(refine))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.mark: Callable[[str], AbstractContextManager[Any]] = lambda _stage: _NOTHING
        """Opened around each stage by its name; a profiler puts `record_function` here, otherwise it does nothing."""
        self.eval()

    def turn_to(self, rewrite: Rewrite) -> None:
        """Run by another rewrite from the next pass on; the weights stay as they are."""
        self.rewrite = rewrite
        for module in self.modules():
            if isinstance(module, Upsample):
                module.release = rewrite != "none"
            elif isinstance(module, SelfAttention | CrossAttention):
                module.keep_weights = rewrite != "fold"

    def forward(self, image: Tensor) -> Tensor:
        """Grey RGB (B, 3, H, W) in 0..1 to ab (B, 2, H, W) in CIE Lab units; H and W are multiples of 32.

        Raises UsageError for another shape, before anything is computed.
        """
        if image.dim() != 4 or image.shape[1] != 3:
            raise UsageError(
                text("DDColor takes (batch, 3, height, width), not {shape}", shape=str(tuple(image.shape)))
            )
        require_size(image.shape[2])
        require_size(image.shape[3])
        normalised = (image - self.mean) / self.std
        with self.mark("encoder"):
            features = self.encoder(normalised)
        if self.rewrite == "fold":
            return self._folded(normalised, features)
        with self.mark("pixel_decoder"):
            scales = self._scales(features)
            pixels = self.decoder.last_shuf(scales[-1])
        with self.mark("colour_decoder"):
            colours = self.decoder.color_decoder(scales)
            shares = torch.einsum("bqc,bchw->bqhw", colours, pixels)
        with self.mark("refine"):
            ab: Tensor = self.refine_net(torch.cat([shares, normalised], dim=1))
        return ab

    def _folded(self, normalised: Tensor, features: list[Tensor]) -> Tensor:
        with self.mark("pixel_decoder"):
            scales = self._scales(features)
            features.clear()
        with self.mark("colour_decoder"):
            colours = self.decoder.color_decoder(scales)
        with self.mark("refine"):
            refine = cast(SpectralConv2d, self.refine_net.get_submodule("0.0"))
            ab_colours = torch.matmul(refine.weight[:, :QUERIES, 0, 0], colours)
            ab: Tensor = self.decoder.last_shuf.mapped(scales[-1], ab_colours)
            return ab + functional.conv2d(normalised, refine.weight[:, QUERIES:], refine.bias)

    def _scales(self, features: list[Tensor]) -> list[Tensor]:
        """The pixel decoder's maps at 1/16, 1/8 and 1/4."""
        scales = []
        values = features[-1]
        for block, skipped in zip(self.decoder.layers, features[-2::-1], strict=True):
            values = block(values, skipped)
            scales.append(values)
        return scales
