"""Sizes as a person types them: pixels that the network can take, and bytes with a unit. Needs no torch, so that a wrong
one is answered before the seconds that importing torch takes.
"""

from __future__ import annotations

import math
import re

from gpuwatch.errors import UsageError
from gpuwatch.texts import text

STRIDE_PX = 32
"""DDColor's encoder halves the size five times, so heights and widths are multiples of this."""

INDEX_LIMIT = 2**31
_LARGEST_BYTES = 1 << 60
_LAST_CHANNELS = 256

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<prefix>[KMGT]?)(?P<binary>i?)(?P<unit>B?)", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def require_size(size_px: int) -> int:
    """Give `size_px` back if the network can take it as a height or width; else UsageError, with the sizes beside it."""
    below_px = size_px // STRIDE_PX * STRIDE_PX
    if size_px == below_px >= STRIDE_PX:
        return size_px
    if below_px < STRIDE_PX:
        raise UsageError(
            text(
                "DDColor cannot run at {size_px}: sizes are multiples of {stride_px}, and {stride_px} is the smallest",
                size_px=size_px,
                stride_px=STRIDE_PX,
            )
        )
    raise UsageError(
        text(
            "DDColor cannot run at {size_px}: sizes are multiples of {stride_px}; use {below_px} or {above_px}",
            size_px=size_px,
            stride_px=STRIDE_PX,
            below_px=below_px,
            above_px=below_px + STRIDE_PX,
        )
    )


def require_indexable(size_px: int, batch: int, rewrite: str) -> None:
    """UsageError where CUDA's padding would meet a tensor of more elements than 32 bits count, whatever the memory.

    `last_shuf` pads 256 channels at full size; `fold` pads two.
    """
    if rewrite == "fold" or batch * _LAST_CHANNELS * size_px**2 < INDEX_LIMIT:
        return
    largest_px = math.isqrt((INDEX_LIMIT - 1) // (_LAST_CHANNELS * batch)) // STRIDE_PX * STRIDE_PX
    raise UsageError(
        text(
            "DDColor cannot run at {size_px}, batch {batch}, on CUDA with rewrite {rewrite}: 32-bit indexing ends at {largest_px}",
            size_px=size_px,
            batch=batch,
            rewrite=rewrite,
            largest_px=largest_px,
        ),
        text("Use --rewrite fold, or a smaller --size or --batch"),
    )


def parse_bytes(words: str) -> int:
    """Read `8GiB`, `512MiB`, `1.5GB` (GB is 10^9) or a plain count of bytes; anything else, or nothing, is a UsageError."""
    found = _SIZE.fullmatch(words.strip())
    if found and (found["prefix"] or not found["binary"]) and (found["unit"] or not found["prefix"]):
        base = 1024 if found["binary"] else 1000
        number = float(found["number"]) * base ** _POWERS[found["prefix"].upper()]
        if 1 <= number < _LARGEST_BYTES:
            return int(number)
    raise UsageError(text("{words} is no size; write 8GiB, 512MiB, 1.5GB or a number of bytes", words=words))
