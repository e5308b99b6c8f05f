"""How glibc gives memory back: a reader of long logs frees large blocks all the time, and would keep most of them otherwise.

By default the allocator learns from the first large block that is freed to keep such blocks on its heap, one heap a thread,
where small values between them hold them for good. Elsewhere than on glibc nothing is done.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
_LARGE_BYTES = 128 * 1024


def give_large_blocks_back() -> None:
    """Have every large block returned to the system when it is freed, and small ones share a heap."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_ARENA_MAX, 1)
