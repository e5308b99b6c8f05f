"""The encoder: a ConvNeXt whose four stage outputs, each normalised, feed the decoder.

The architecture is that of "A ConvNet for the 2020s" (arXiv 2201.03545), sections 2.2 to 2.6. Stochastic depth and the
classification head are left out: neither has a part in inference.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-6
EXPANSION = 4


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W).

    Written out in elementwise steps, as the official network does: a fused kernel would change what is alive meanwhile.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        centred = values - values.mean(1, keepdim=True)
        spread = centred.pow(2).mean(1, keepdim=True)
        scaled = centred / torch.sqrt(spread + EPSILON)
        return self.weight[:, None, None] * scaled + self.bias[:, None, None]


class Block(nn.Module):
    """A 7x7 depthwise convolution, then a per-pixel MLP four times as wide, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))
        self.dwconv = nn.Conv2d(channels, channels, kernel_size=7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.pwconv1 = nn.Linear(channels, EXPANSION * channels)
        self.pwconv2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        inner = self.norm(self.dwconv(values).permute(0, 2, 3, 1))
        inner = self.pwconv2(functional.gelu(self.pwconv1(inner)))
        inner = self.gamma * inner
        mixed: Tensor = values + inner.permute(0, 3, 1, 2)
        return mixed


class ConvNeXt(nn.Module):
    """Four stages at 1/4, 1/8, 1/16 and 1/32 of the input's size."""

    def __init__(self, depths: tuple[int, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, channels[0], kernel_size=4, stride=4), ChannelNorm(channels[0]))
        halvings = [
            nn.Sequential(ChannelNorm(narrow), nn.Conv2d(narrow, wide, kernel_size=2, stride=2))
            for narrow, wide in pairwise(channels)
        ]
        self.downsample_layers = nn.ModuleList([stem, *halvings])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth))) for depth, width in zip(depths, channels, strict=True)
        )
        for index, width in enumerate(channels):
            self.add_module(f"norm{index}", ChannelNorm(width))
        # Only the classifier that the checkpoint was pre-trained with used this one; it is here because it is in the file.
        self.norm = nn.LayerNorm(channels[-1], eps=EPSILON)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to four feature maps, largest first: (B, channels[i], H / 2**(i+2), W / 2**(i+2))."""
        features = []
        values = image
        for index, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            values = stage(downsample(values))
            features.append(self.get_submodule(f"norm{index}")(values))
        return features


class Encoder(nn.Module):
    """Holds the ConvNeXt under the name that checkpoints give it."""

    def __init__(self, depths: tuple[int, ...], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.arch = ConvNeXt(depths, channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """See `ConvNeXt.forward`."""
        features: list[Tensor] = self.arch(image)
        return features
