"""What the first failure would otherwise wait for: modules, patterns and profiles that are loaded when they are first needed.

Likely failures are played that nobody hears of, while nothing else is to be done.
"""

from __future__ import annotations

from datetime import UTC, datetime

from gpuwatch.core.engine import Engine
from gpuwatch.core.matching.compiled import Stopwatch
from gpuwatch.core.observations import LogChunk

_AT = datetime(2000, 1, 1, tzinfo=UTC)
_PLAYED = b"""\
got prompt
!!! Exception during processing !!! CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.99 GiB of \
which 512.00 MiB is free. Including non-PyTorch memory, this process has 7.00 GiB memory in use. Of the allocated memory 6.00 GiB \
is allocated by PyTorch, and 500.00 MiB is reserved by PyTorch but unallocated.
Traceback (most recent call last):
  File "/ComfyUI/execution.py", line 1, in execute
    output = get_output_data()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
Got an OOM, unloading all loaded models.
Prompt executed in 1.00 seconds
!!! Exception during processing !!! CUDA error: an illegal memory access was encountered
Traceback (most recent call last):
  File "/ComfyUI/execution.py", line 1, in execute
    output = get_output_data()
RuntimeError: CUDA error: an illegal memory access was encountered
Prompt executed in 1.00 seconds
"""


def warm_up(engine: Engine) -> None:
    """Play failures to an engine of its own that has this engine's rules and profiles. The rules' time is not counted."""
    matcher = engine.matcher
    stopwatch, matcher.stopwatch = matcher.stopwatch, Stopwatch()
    try:
        played = Engine(engine.rules, engine.workloads, shows_records=False, ready=matcher)
        played.feed(LogChunk(_AT, "", _PLAYED))
        played.end(_AT)
    finally:
        matcher.stopwatch = stopwatch
