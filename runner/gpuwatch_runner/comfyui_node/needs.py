"""What a pass needs, from the points that gpuwatch's prediction gave when the node was installed (`needs.json`).

Predicted, not measured: the chunk that is chosen by it is a first guess, and memory that runs out halves it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MOST_IMAGES = 16
"""Images in a pass at the most: a GPU is busy with fewer, and interrupting waits for a pass."""
MARGIN_BYTES = 256 << 20
INDEX_LIMIT = (1 << 31) - 1
FULL_SIZE_CHANNELS = 256
"""Channels of the largest tensor that `off` and `tail` make at the full size; CUDA's padding counts it in 32 bits."""

Point = tuple[int, float]
"""A side in pixels and bytes."""
_SAME_DTYPE = {"bf16": "fp16"}


@dataclass(frozen=True, slots=True)
class Needs:
    """The least that PyTorch must be allowed, by network, rewrite, dtype and images in the pass (1 or 2)."""

    points: Mapping[tuple[str, str, str, int], Sequence[Point]] = field(default_factory=dict)
    """Each at a few sides, ascending; the high end of what was predicted, weights included."""

    def bytes_of(self, variant: str, rewrite: str, dtype: str, side_px: int, images: int) -> float | None:
        """What a pass needs, weights included, at most; None where nothing is known."""
        dtype = _SAME_DTYPE.get(dtype, dtype)
        one = _at(self.points.get((variant, rewrite, dtype, 1)), side_px)
        if one is None:
            return None
        two = _at(self.points.get((variant, rewrite, dtype, 2)), side_px)
        return one + (images - 1) * max((two - one) if two is not None else one, 0)

    def images_that_fit(
        self,
        variant: str,
        rewrite: str,
        dtype: str,
        side_px: int,
        *,
        wanted: int,
        free_bytes: float,
        weights_bytes: int,
    ) -> int:
        """How many images a pass may have where `free_bytes` are free besides the weights; 1 at the least."""
        most = min(wanted, MOST_IMAGES, images_indexed(rewrite, side_px))
        for images in range(most, 1, -1):
            need = self.bytes_of(variant, rewrite, dtype, side_px, images)
            if need is not None and need - weights_bytes + MARGIN_BYTES <= free_bytes:
                return images
        return 1


def images_indexed(rewrite: str, side_px: int) -> int:
    """How many images a pass may have before CUDA's 32-bit indices end, whatever the memory; 0 where not even one may."""
    if rewrite == "fold":
        return MOST_IMAGES
    return INDEX_LIMIT // (FULL_SIZE_CHANNELS * (side_px + 1) ** 2)


def read_needs(path: Path) -> Needs:
    """Read the file; where it is missing or damaged nothing is known, and images go one by one."""
    try:
        told = json.loads(path.read_text("utf-8"))
        return Needs(
            {
                (str(row["variant"]), str(row["rewrite"]), str(row["dtype"]), int(row["images"])): tuple(
                    (int(side), float(count)) for side, count in row["bytes"]
                )
                for row in told["passes"]
            }
        )
    except (OSError, ValueError, TypeError, LookupError):
        return Needs()


def _at(points: Sequence[Point] | None, side_px: int) -> float | None:
    """The bytes at a side: straight between points over the area, beyond the last as between the last two."""
    if not points:
        return None
    if side_px <= points[0][0] or len(points) == 1:
        return points[0][1] * max(1.0, (side_px / points[0][0]) ** 2)
    upper = next((place for place in range(1, len(points)) if points[place][0] >= side_px), len(points) - 1)
    (low_px, low), (high_px, high) = points[upper - 1], points[upper]
    return low + (high - low) * (side_px**2 - low_px**2) / (high_px**2 - low_px**2)
