"""An out-of-memory message turned round: which network, size and precision asks for so much while it holds so much, and where.

A message prints two decimals, and the allocator rounds before it prints, so several jobs can agree with one message; then
several is the answer. What the process holds besides the job (another model) is not in any trace: a candidate that holds less
than the message says is possible and ranks behind one that holds just that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gpuwatch.core.memory.pool import (
    BLOCK_BYTES,
    LARGE_SEGMENT_BYTES,
    MIB,
    OWN_SEGMENT_BYTES,
    ROUND_SEGMENT_BYTES,
    segment_bytes,
)
from gpuwatch.core.memory.trace import Trace

KIB, GIB = 1 << 10, 1 << 30
LARGEST_PX = 2048
"""Where no sizes are given, none beyond is thought of: larger jobs are rare, and their early steps agree with many messages."""
UNSPLIT_BYTES = 16 * MIB
"""What blocks that were not split, and rounding, can hold above the live bytes."""
WORKSPACE_BYTES = 32 * MIB
"""What a library's workspace can be."""
HIGH_WATER_RATIO = 0.9
"""A job dies where it needs more than ever before, or nearly, as idle memory may lie in pieces: earlier steps had room."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job that a message may be of."""

    variant: str
    dtype: str
    rewrite: str
    side_px: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job, and the allocation at which it would print the message's numbers."""

    job: Job
    birth: int
    step: str
    """Where in the network: place and operator."""
    live_bytes: int
    """What is alive just before."""
    other_bytes: int
    """What the message's allocated bytes hold above it: other models, or nothing. 0 where allocated was not told."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The jobs that agree with a message, the likeliest first."""

    candidates: tuple[Candidate, ...] = ()

    @property
    def job(self) -> Job | None:
        """The one network and size that explains the numbers without anything else in the process; None where several do.

        Rewrites and steps that differ in nothing that the message prints count as one.
        """
        exact = {(c.job.variant, c.job.side_px, c.job.dtype) for c in self.candidates if not c.other_bytes}
        if len(exact) != 1:
            return None
        return next(c.job for c in self.candidates if not c.other_bytes)

    @property
    def side_px(self) -> int | None:
        """The size, where every candidate has the same one."""
        sides = {candidate.job.side_px for candidate in self.candidates}
        return sides.pop() if len(sides) == 1 else None


def rounding_of(printed_bytes: int) -> float:
    """How far from the number a message printed the real one may be: half of the last of two decimals, in its unit."""
    for unit in (GIB, MIB, KIB):
        if printed_bytes >= unit:
            return 0.005 * unit + 1
    return 0.5


def agrees(asked_bytes: int, printed_bytes: int) -> bool:
    """Whether an allocation prints as the message's `tried`: as it is (cudaMallocAsync), or rounded up (native)."""
    slack = rounding_of(printed_bytes)
    rounded = -(-asked_bytes // BLOCK_BYTES) * BLOCK_BYTES
    if abs(asked_bytes - printed_bytes) <= slack:
        return True
    return rounded >= OWN_SEGMENT_BYTES and abs(segment_bytes(rounded) - printed_bytes) <= slack


def tells(tried_bytes: int) -> bool:
    """Whether a request tells anything: small ones, and the segment that they are all given, come from everywhere."""
    return tried_bytes >= OWN_SEGMENT_BYTES and abs(tried_bytes - LARGE_SEGMENT_BYTES) > rounding_of(
        LARGE_SEGMENT_BYTES
    )


def candidates_of(
    traces: Mapping[tuple[str, str, str], Trace],
    tried_bytes: int,
    allocated_bytes: int | None,
    *,
    places: tuple[str, ...] = (),
    sides_px: Sequence[int] | None = None,
) -> Answer:
    """The jobs, of batch one, that agree with a message. `traces` are by variant, dtype and rewrite.

    `places` keep to parts of the network, as the traceback told them; `sides_px` to sizes.
    """
    sides = sides_px if sides_px is None or isinstance(sides_px, range) else tuple(sides_px)
    return _answer(tuple(traces.items()), tried_bytes, allocated_bytes, places, sides)


@lru_cache(maxsize=256)
def _answer(
    traces: tuple[tuple[tuple[str, str, str], Trace], ...],
    tried_bytes: int,
    allocated_bytes: int | None,
    places: tuple[str, ...],
    sides_px: Sequence[int] | None,
) -> Answer:
    """Remembered: the same failure comes again."""
    if not tells(tried_bytes):
        return Answer()
    found: list[Candidate] = []
    for (variant, dtype, rewrite), trace in traces:
        sides = sides_px if sides_px is not None else range(trace.stride_px, LARGEST_PX + 1, trace.stride_px)
        for side in _sides(trace, tried_bytes, sides):
            found += _agreeing(Job(variant, dtype, rewrite, side), trace, tried_bytes, allocated_bytes, places)
    ranked = sorted(found, key=lambda c: (c.other_bytes, c.job.dtype != "fp32", c.job.rewrite != "none", -c.live_bytes))
    return Answer(tuple(ranked))


def _sides(trace: Trace, tried_bytes: int, among_px: Iterable[int]) -> list[int]:
    """The sizes at which some allocation of the trace prints as `tried`."""
    found, slack = [], rounding_of(tried_bytes)
    for side in among_px:
        if side < trace.stride_px or side % trace.stride_px:
            continue
        sizes = _sizes(trace, side)
        first = bisect_left(sizes, tried_bytes - slack - ROUND_SEGMENT_BYTES)
        last = bisect_right(sizes, tried_bytes + slack)
        if any(agrees(size, tried_bytes) for size in sizes[first:last]):
            found.append(side)
    return found


@lru_cache(maxsize=4096)
def _sizes(trace: Trace, side_px: int) -> tuple[int, ...]:
    """The different sizes of a trace's allocations that tell something."""
    values = trace.values(side_px, side_px, 1)
    sizes = {sum(c * v for c, v in zip(row, values, strict=True)) for row in trace.polynomials}
    return tuple(sorted(size for size in sizes if size > MIB))


def _agreeing(
    job: Job, trace: Trace, tried_bytes: int, allocated_bytes: int | None, places: tuple[str, ...]
) -> Sequence[Candidate]:
    """The steps of one job at which it would print the message; of those alike in place and operator the last."""
    found: dict[str, Candidate] = {}
    for birth, size, live in _high_steps(trace, job.side_px):
        where = trace.kinds[trace.births[birth]][1]
        if agrees(size, tried_bytes) and (not places or where.startswith(places)):
            other = 0 if allocated_bytes is None else _beyond(allocated_bytes, live)
            if other is not None:
                found[trace.step(birth)] = Candidate(job, birth, trace.step(birth), live, other)
    return list(found.values())


@lru_cache(maxsize=512)
def _high_steps(trace: Trace, side_px: int) -> tuple[tuple[int, int, int], ...]:
    """The allocations at which a job of this size may die: which, what is asked for, and what is alive just before."""
    sized = trace.at(side_px, side_px)
    live = highest = trace.weights_bytes
    steps: list[tuple[int, int, int]] = []
    for event in trace.events:
        if event < 0:
            live -= sized.birth_bytes[-event - 1]
            continue
        size = sized.birth_bytes[event]
        if size > MIB and live + size >= highest * HIGH_WATER_RATIO:
            steps.append((event, size, live))
        live += size
        highest = max(highest, live)
    return tuple(steps)


def _beyond(allocated_bytes: int, live_bytes: int) -> int | None:
    """What is allocated above a job's live bytes; 0 where rounding and a workspace explain it, None where it is less."""
    slack = rounding_of(allocated_bytes)
    above = allocated_bytes - live_bytes
    if above < -slack:
        return None
    return 0 if above <= slack + UNSPLIT_BYTES + WORKSPACE_BYTES else above
