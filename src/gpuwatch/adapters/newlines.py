"""Counts newlines, ten times as fast as Python does where StringZilla is installed."""

from __future__ import annotations

from gpuwatch.core.matching.scan import CountNewlines, count_newlines


def newline_counter() -> CountNewlines:
    """What counts newlines soonest."""
    try:
        import stringzilla  # noqa: PLC0415 - not everywhere
    except ImportError:
        return count_newlines

    def count(data: bytes, begin: int, end: int) -> int:
        return int(stringzilla.count(data, b"\n", begin, end))

    return count
