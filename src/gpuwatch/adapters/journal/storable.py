"""Values as SQLite takes them. What it does not take it refuses with no error of its own, and the watching would end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def storable(values: Iterable[Any]) -> tuple[Any, ...]:
    """The values of a row or a query. A file's name may be any bytes, and half a character may stand in JSON: written out here
    where UTF-8 has no place for it. Whole numbers are kept within 64 bits."""
    return tuple(map(_storable, values))


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    return min(max(value, _LEAST), _MOST) if isinstance(value, int) else value
