"""The pixel decoder: three U-Net blocks from 1/32 to 1/4 of the size, then `last_shuf`, which reaches the full size.

`last_shuf` is where the network's memory peaks: three tensors of 256 channels at full size. `Upsample` has the official
order of steps and the order that lets the first of the three go; `Upsample.mapped` never makes them at all.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

CHUNK_CHANNELS = 512
"""Output channels of `last_shuf` computed at a time by `Upsample.mapped`: 128 bytes a pixel in fp32 instead of 1024."""


class SpectralConv2d(nn.Module):
    """A convolution whose weight is divided by its largest singular value, with the entries of torch's `spectral_norm`.

    torch divides again in every forward pass. In inference the quotient never changes, so it is made once, whenever
    weights are loaded, and kept beside `weight_orig`; torch keeps it too, so that the memory in use is the same.
    """

    weight: Tensor
    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, inputs: int, outputs: int, *, kernel_px: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.padding_px = kernel_px // 2
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.weight_orig = nn.Parameter(torch.empty(outputs, inputs, kernel_px, kernel_px))
        nn.init.kaiming_normal_(self.weight_orig)
        self.register_buffer("weight_u", functional.normalize(torch.ones(outputs), dim=0))
        self.register_buffer("weight_v", torch.zeros(inputs * kernel_px**2))
        with torch.no_grad():
            self.weight_v.copy_(functional.normalize(self.weight_orig.flatten(1).T @ self.weight_u, dim=0))
        self.register_buffer("weight", None, persistent=False)
        self.fold()
        self.register_load_state_dict_post_hook(_fold)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def fold(self) -> None:
        """Set `weight` from `weight_orig` and the two singular vectors: W / (u . W v), as in arXiv 1802.05957, eq. 8."""
        sigma = torch.dot(self.weight_u, torch.mv(self.weight_orig.flatten(1), self.weight_v))
        self.weight = (self.weight_orig / sigma).detach()

    def forward(self, values: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return functional.conv2d(values, self.weight, self.bias, padding=self.padding_px)


class Upsample(nn.Module):
    """1x1 convolution, ReLU, pixel shuffle, and a 2x2 mean that blurs the checkerboard away.

    The blur pads one pixel above and to the left, by replication, so that the size is kept.
    """

    def __init__(self, inputs: int, outputs: int, *, factor: int, batch_norm: bool, release: bool) -> None:
        super().__init__()
        wide = outputs * factor**2
        self.conv = nn.Sequential(SpectralConv2d(inputs, wide, bias=not batch_norm))
        if batch_norm:
            self.conv.append(nn.BatchNorm2d(wide))
        self.factor = factor
        self.release = release
        """Let the shuffled tensor go once it is padded: the same numbers from a third less memory."""

    @property
    def _convolution(self) -> SpectralConv2d:
        return cast(SpectralConv2d, self.conv[0])

    def forward(self, values: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, factor * H, factor * W)."""
        shuffled = functional.pixel_shuffle(self.conv(values).relu_(), self.factor)
        if self.release:
            shuffled = _pad(shuffled)
            return _mean(shuffled)
        return _mean(_pad(shuffled))

    def mapped(self, values: Tensor, colours: Tensor) -> Tensor:
        """`colours @ forward(values)` without the full-size tensors, for an upsampling that has no batch norm.

        Shuffle, padding and mean are linear and treat every channel alike, so a linear map over the channels can be
        taken before them. values: (B, inputs, H, W); colours: (B, K, outputs). Gives (B, K, factor * H, factor * W).
        """
        weight, bias = self._convolution.weight, self._convolution.bias
        if bias is None:
            raise TypeError("an upsampling with a batch norm cannot be mapped")
        batch, _, height, width = values.shape
        places = self.factor**2
        total = values.new_zeros(())
        for start in range(0, weight.shape[0], CHUNK_CHANNELS):
            stop = start + CHUNK_CHANNELS
            chunk = functional.conv2d(values, weight[start:stop], bias[start:stop]).relu_()
            # The shuffle takes channel c * places + p to place p of channel c: this groups by c, and copies only where the
            # memory is channels-last.
            part = torch.bmm(
                colours[:, :, start // places : stop // places], chunk.reshape(batch, -1, places * height * width)
            )
            del chunk
            total = part if start == 0 else total.add_(part)
        shuffled = functional.pixel_shuffle(total.view(batch, -1, height, width), self.factor)
        return _mean(_pad(shuffled))


class UnetBlock(nn.Module):
    """Upsample by two, join with the encoder's feature map of that size, mix with a 3x3 convolution."""

    def __init__(self, inputs: int, skipped: int, outputs: int, *, release: bool) -> None:
        super().__init__()
        self.shuf = Upsample(inputs, outputs, factor=2, batch_norm=True, release=release)
        self.bn = nn.BatchNorm2d(skipped)
        self.conv = nn.Sequential(
            SpectralConv2d(outputs + skipped, outputs, kernel_px=3), nn.ReLU(inplace=True), nn.BatchNorm2d(outputs)
        )

    def forward(self, values: Tensor, skipped: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, skipped, 2H, 2W) to (B, outputs, 2H, 2W)."""
        joined = functional.relu(torch.cat([self.shuf(values), self.bn(skipped)], dim=1))
        mixed: Tensor = self.conv(joined)
        return mixed


def _fold(module: nn.Module, _incompatible: object) -> None:
    convolution = cast(SpectralConv2d, module)
    # Entries of a checkpoint that was cut short are still on the meta device; strict loading is about to say so.
    if convolution.weight_orig.device == convolution.weight_u.device == convolution.weight_v.device:
        convolution.fold()


def _pad(values: Tensor) -> Tensor:
    return functional.pad(values, (1, 0, 1, 0), mode="replicate")


def _mean(values: Tensor) -> Tensor:
    return functional.avg_pool2d(values, 2, stride=1)
