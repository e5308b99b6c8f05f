"""How modules and rules are loaded fast: while that goes on, nobody looks for garbage, for none of it is any."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Within it the garbage collector rests; what is there at its end it leaves out for good, and so takes less time later."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
