"""A rule's pattern as Python's own parser sees it, where both parsers mean the same by it.

Rules are written for the `regex` module. What only that module knows, or what it reads otherwise (fuzzy matching, POSIX
classes), gives no tree: nothing is derived from such a pattern, and it is always tried.
"""

from __future__ import annotations

import re
import re._parser as sre
import warnings
from functools import lru_cache
from typing import Any

_READ_OTHERWISE = re.compile(
    rb"(?<!\\)\{(?!\d*,?\d*\})[\deidsc<=+,:\s]*[eidsc][^{}]*\}"  # fuzzy: {e<=1}, {2i+2d<=4}
    rb"|\[:\^?\w+:\]"  # POSIX classes
    rb"|\(\?[a-zA-Z]*[fVbepr]"  # flags of its own
)


@lru_cache(maxsize=8)
def tree_of(pattern: bytes) -> Any | None:
    """The parse tree, not to be changed; None where Python's parser would refuse the pattern or read it otherwise.

    Several questions are asked of one pattern, one after the other.
    """
    if _READ_OTHERWISE.search(pattern):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # sets that only the `regex` module nests
            return sre.parse(pattern)
    except (re.error, OverflowError, RecursionError):
        return None
