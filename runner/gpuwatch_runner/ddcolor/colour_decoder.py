"""The colour decoder: 100 learned colour queries look at three scales of the image and each become a 256-vector.

Nine layers of cross-attention, self-attention and MLP, with the norm after each (as in "Masked-attention Mask
Transformer", arXiv 2112.01527, without the mask). Dropout is left out: it is zero in every published checkpoint.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 256
HEADS = 8
INNER_WIDTH = 2048
QUERIES = 100
LAYERS = 9
SCALE_CHANNELS = (512, 512, 256)
"""Channels of the pixel decoder's maps at 1/16, 1/8 and 1/4."""


class SelfAttention(nn.Module):
    """The queries look at one another."""

    def __init__(self, *, keep_weights: bool) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(WIDTH, HEADS)
        self.norm = nn.LayerNorm(WIDTH)
        self.keep_weights = keep_weights

    def forward(self, queries: Tensor, places: Tensor) -> Tensor:
        """(Q, B, 256) and the queries' own embedding to (Q, B, 256)."""
        placed = queries + places
        seen = self.self_attn(placed, placed, queries, need_weights=self.keep_weights)[0]
        normalised: Tensor = self.norm(queries + seen)
        return normalised


class CrossAttention(nn.Module):
    """The queries look at one scale of the image.

    With `keep_weights`, torch makes the (B * 8, Q, N) weights and their mean, as the official network has it do though
    nothing reads them; without, the fused kernel never holds them.
    """

    def __init__(self, *, keep_weights: bool) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(WIDTH, HEADS)
        self.norm = nn.LayerNorm(WIDTH)
        self.keep_weights = keep_weights

    def forward(self, queries: Tensor, places: Tensor, image: Tensor, image_places: Tensor) -> Tensor:
        """(Q, B, 256) queries and (N, B, 256) pixels, each with the embedding of their places, to (Q, B, 256)."""
        seen = self.multihead_attn(queries + places, image + image_places, image, need_weights=self.keep_weights)[0]
        normalised: Tensor = self.norm(queries + seen)
        return normalised


class FeedForward(nn.Module):
    """Each query through the same two-layer MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(WIDTH, INNER_WIDTH)
        self.linear2 = nn.Linear(INNER_WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, queries: Tensor) -> Tensor:
        """(Q, B, 256) to the same shape."""
        normalised: Tensor = self.norm(queries + self.linear2(functional.relu(self.linear1(queries))))
        return normalised


class ColourEmbedding(nn.Module):
    """The three-layer MLP that turns a query into a colour's 256-vector."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, queries: Tensor) -> Tensor:
        """(B, Q, 256) to the same shape."""
        first, second, last = self.layers
        embedded: Tensor = last(functional.relu(second(functional.relu(first(queries)))))
        return embedded


class ColourDecoder(nn.Module):
    """Gives the colours: one vector a query, whose product with a pixel's 256 features is that pixel's share of it."""

    def __init__(self, *, keep_weights: bool) -> None:
        super().__init__()
        self.query_feat = nn.Embedding(QUERIES, WIDTH)
        self.query_embed = nn.Embedding(QUERIES, WIDTH)
        self.level_embed = nn.Embedding(len(SCALE_CHANNELS), WIDTH)
        self.input_proj = nn.ModuleList(nn.Conv2d(channels, WIDTH, kernel_size=1) for channels in SCALE_CHANNELS)
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttention(keep_weights=keep_weights) for _ in range(LAYERS)
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttention(keep_weights=keep_weights) for _ in range(LAYERS)
        )
        self.transformer_ffn_layers = nn.ModuleList(FeedForward() for _ in range(LAYERS))
        self.decoder_norm = nn.LayerNorm(WIDTH)
        self.color_embed = ColourEmbedding()

    def forward(self, scales: list[Tensor]) -> Tensor:
        """Three maps (B, SCALE_CHANNELS[i], H_i, W_i) to colours (B, 100, 256)."""
        images, image_places = [], []
        for scale, project, level in zip(scales, self.input_proj, self.level_embed.weight, strict=True):
            pixels = project(scale).flatten(2) + level[None, :, None]
            images.append(pixels.permute(2, 0, 1))
            image_places.append(place_embedding(scale.shape[2], scale.shape[3], scale))

        batch = scales[0].shape[0]
        places = self.query_embed.weight.unsqueeze(1).expand(-1, batch, -1)
        queries = self.query_feat.weight.unsqueeze(1).expand(-1, batch, -1)
        for index in range(LAYERS):
            level_index = index % len(images)
            queries = self.transformer_cross_attention_layers[index](
                queries, places, images[level_index], image_places[level_index]
            )
            queries = self.transformer_self_attention_layers[index](queries, places)
            queries = self.transformer_ffn_layers[index](queries)
        colours: Tensor = self.color_embed(self.decoder_norm(queries).transpose(0, 1))
        return colours


def place_embedding(height: int, width: int, like: Tensor) -> Tensor:
    """The sine embedding of every place of a map: (H * W, 1, 256), row by row, in the dtype and on the device of `like`.

    As in DETR (arXiv 2005.12872, appendix A.4): 128 numbers for the row, 128 for the column, each a place in 0..2 pi
    times a geometric series of frequencies, sines and cosines in turn. Made in float32, where the series keeps its
    precision, and cast at the end: the official code does not cast, which is why its `.half()` fails.
    """
    half = WIDTH // 2
    series = torch.arange(half, dtype=torch.float32, device=like.device)
    periods = 10000 ** (2 * (series // 2) / half)

    def along(length: int) -> Tensor:
        steps = torch.arange(1, length + 1, dtype=torch.float32, device=like.device)
        angles = (steps / (length + 1e-6) * (2 * math.pi))[:, None] / periods
        return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=2).flatten(1)

    rows = along(height)[:, None, :].expand(height, width, half)
    columns = along(width)[None, :, :].expand(height, width, half)
    return torch.cat((rows, columns), dim=2).reshape(height * width, 1, WIDTH).to(like.dtype)
