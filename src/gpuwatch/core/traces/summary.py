"""A trace in tables: what ran and for how long, where the device stood idle, what was copied, where memory peaked.

Host spans are nested by thread, so their own times add up. Spans on a GPU do not nest; where streams overlap, the device is
busy once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpuwatch.core.traces.memory import MemoryPeak, memory_peak
from gpuwatch.core.traces.spans import Lane, Totals, nest, united
from gpuwatch.core.traces.trace import GPU_STAGE, OPERATOR, STAGE, STEP, Trace

_MOST_STAGE_SPANS = 100_000
_MOST_RUNNING = 100
"""Stages that run at a time, one in another or on several threads."""


@dataclass(frozen=True, slots=True)
class Row:
    """The spans of one name."""

    name: str
    kind: str
    count: int
    total_seconds: float
    own_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class Stage:
    """A named part of the program, marked with `record_function`."""

    name: str
    count: int
    host_seconds: float
    gpu_seconds: float | None
    """From its first kernel's start to its last one's end, each time; None where the trace has no GPU."""
    peak_bytes: int | None = None
    """The most that was allocated while it ran, on the GPU where there is one."""


@dataclass(frozen=True, slots=True)
class Idle:
    """How much of the window a device, or the host's operators, did nothing."""

    device: str
    busy_seconds: float
    ratio: float
    gaps: tuple[tuple[float, float], ...]
    """The longest pauses: when, counted from the window's begin, and how long."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Copies in one direction: HtoD, DtoH, DtoD, PtoP."""

    direction: str
    count: int
    size_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Counted:
    """A counter over the trace."""

    name: str
    samples: int
    low: float
    mean: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace, summed up. Times count from the window's begin."""

    events: int
    spans: int
    unusable: int
    left_out: int
    steps: int
    """Recorded steps of the profiler; 0 where the trace has none."""
    window_seconds: float
    """The profiler's steps, to the end of what they started on the GPU; without steps, all spans."""
    begin: int | None
    kinds: tuple[Row, ...]
    """All spans of a kind together, `name` empty."""
    kernels: tuple[Row, ...]
    operators: tuple[Row, ...]
    stages: tuple[Stage, ...]
    idle: tuple[Idle, ...]
    copies: tuple[Copied, ...]
    counters: tuple[Counted, ...]
    memory: tuple[MemoryPeak, ...]

    @property
    def has_gpu(self) -> bool:
        """Whether anything ran on a GPU."""
        return bool(self.kernels)

    @property
    def work(self) -> tuple[Row, ...]:
        """The table to look at first: kernels, or operators where there are none."""
        return self.kernels or self.operators

    def seconds_at(self, time: int) -> float:
        """A time on the trace's clock, counted from the window's begin."""
        return (time - (self.begin or 0)) / 1e9


def summarise(trace: Trace) -> Summary:
    """Sum a trace up."""
    host, device, functions, gpu_stages = Totals(), Totals(), Totals(), Totals()
    outermost, nothing = Lane(), Lane()
    for lane in trace.host:
        nest(lane, trace.names, host, outermost, OPERATOR)
    for lane in trace.python:
        nest(lane, trace.names, functions, nothing, "")
    for lane in trace.gpu.values():
        _sum(lane, trace, device)
    _sum(trace.gpu_stages, trace, gpu_stages)
    begin, end = _window(trace)
    memory = tuple(memory_peak(name, lane) for name, lane in sorted(trace.memory.items()) if lane.times)
    idle = [_idle(name, lane, begin, end) for name, lane in sorted(trace.gpu.items())] or (
        [_idle("cpu", outermost, begin, end)] if outermost.starts else []
    )
    return Summary(
        events=trace.events,
        spans=trace.spans,
        unusable=trace.unusable,
        left_out=trace.left_out,
        steps=len(trace.steps),
        window_seconds=(end - begin) / 1e9,
        begin=begin if trace.begin is not None else None,
        kinds=_by_kind((host, device, functions), trace),
        kernels=_largest(_rows(device, trace)),
        operators=_largest(row for row in _rows(host, trace) if row.kind == OPERATOR),
        stages=_stages(trace, host, gpu_stages),
        idle=tuple(idle),
        copies=tuple(
            Copied(direction, each.count, each.size_bytes, each.nanoseconds / 1e9)
            for direction, each in sorted(trace.copies.items())
        ),
        counters=tuple(
            Counted(name, each.count, each.low, each.total / each.count, each.high)
            for name, each in sorted(trace.counters.items())
        ),
        memory=memory,
    )


def _window(trace: Trace) -> tuple[int, int]:
    if not trace.steps:
        return trace.begin or 0, trace.end or 0
    begin = min(start for start, _ in trace.steps)
    end = max(start + length for start, length in trace.steps)
    ends = (lane.starts[i] + lane.lengths[i] for lane in trace.gpu.values() for i in range(len(lane.starts)))
    return begin, max(end, max(ends, default=end))


def _sum(lane: Lane, trace: Trace, totals: Totals) -> None:
    """Add spans that do not nest."""
    totals.grow(len(trace.names.names))
    for name, length in zip(lane.names, lane.lengths, strict=True):
        totals.counts[name] += 1
        totals.lengths[name] += length
        totals.owns[name] += length
        totals.longest[name] = max(totals.longest[name], length)


def _rows(totals: Totals, trace: Trace) -> Iterable[Row]:
    for number, count in enumerate(totals.counts):
        if count and trace.names.names[number] != STEP:
            yield Row(
                trace.names.names[number],
                trace.names.kinds[number],
                count,
                totals.lengths[number] / 1e9,
                max(totals.owns[number], 0) / 1e9,
                totals.longest[number] / 1e9,
            )


def _largest(rows: Iterable[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (-row.own_seconds, row.name, row.kind)))


def _by_kind(tables: Iterable[Totals], trace: Trace) -> tuple[Row, ...]:
    sums: dict[str, list[int]] = {}
    for totals in tables:
        for number, count in enumerate(totals.counts):
            if count and trace.names.names[number] != STEP:
                known = sums.setdefault(trace.names.kinds[number], [0, 0, 0, 0])
                known[0] += count
                known[1] += totals.lengths[number]
                known[2] += max(totals.owns[number], 0)
                known[3] = max(known[3], totals.longest[number])
    return _largest(
        Row("", kind, count, length / 1e9, own / 1e9, longest / 1e9)
        for kind, (count, length, own, longest) in sums.items()
    )


def _idle(device: str, lane: Lane, begin: int, end: int) -> Idle:
    busy = united(lane, begin, end)
    length = max(end - begin, 1)
    gaps = tuple(((start - begin) / 1e9, pause / 1e9) for start, pause in busy.gaps)
    return Idle(device, busy.nanoseconds / 1e9, 1 - busy.nanoseconds / length, gaps)


def _stages(trace: Trace, host: Totals, gpu: Totals) -> tuple[Stage, ...]:
    """Stages in the order in which they first began."""
    first: dict[int, int] = {}
    peaks: dict[int, int] = {}
    for lane in trace.host:
        for start, number in zip(lane.starts, lane.names, strict=True):
            if trace.names.kinds[number] == STAGE and trace.names.names[number] != STEP:
                first[number] = min(first.get(number, start), start)
    for number, peak in _stage_peaks(trace, set(first)):
        peaks[number] = max(peaks.get(number, peak), peak)
    on_gpu = {
        trace.names.names[number]: length / 1e9
        for number, length in enumerate(gpu.lengths)
        if gpu.counts[number] and trace.names.kinds[number] == GPU_STAGE
    }
    return tuple(
        Stage(
            trace.names.names[number],
            host.counts[number],
            host.lengths[number] / 1e9,
            on_gpu.get(trace.names.names[number]) if trace.gpu else None,
            peaks.get(number),
        )
        for number in sorted(first, key=lambda number: first[number])
    )


def _stage_peaks(trace: Trace, stages: set[int]) -> Iterable[tuple[int, int]]:
    """The memory's total at each instant in a stage, with the stage: on the GPU where there is one."""
    device = next((name for name in sorted(trace.memory) if name != "cpu"), "cpu")
    if device not in trace.memory or not stages:
        return
    lane = trace.memory[device]
    spans = sorted(
        (host.starts[i], host.starts[i] + host.lengths[i], host.names[i])
        for host in trace.host
        for i in range(len(host.starts))
        if host.names[i] in stages
    )
    if len(spans) > _MOST_STAGE_SPANS:
        return
    running: list[tuple[int, int]] = []  # end, name
    at = 0
    for index in lane.order():
        time = lane.times[index]
        while at < len(spans) and spans[at][0] <= time:
            if len(running) < _MOST_RUNNING:
                running.append((spans[at][1], spans[at][2]))
            at += 1
        if running:
            running = [each for each in running if each[0] >= time]
            for _end, number in running:
                yield number, lane.totals[index]
