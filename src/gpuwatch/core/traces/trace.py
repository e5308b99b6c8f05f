"""A profiler's trace, taken in event by event: spans, copies, counters and memory, whatever else an event carries let go.

Reads what PyTorch writes in Chrome's trace event format, old and new, and complete (X) or paired (B, E) spans of any other
program. Flows and asynchronous spans are counted and not read. An event that is none, or has no usable time, is counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from gpuwatch.core.traces.memory import MemoryLane
from gpuwatch.core.traces.spans import Lane, Names

OPERATOR, STAGE, GPU_STAGE, KERNEL, COPY, SET = (
    "cpu_op", "user_annotation", "gpu_user_annotation", "kernel", "gpu_memcpy", "gpu_memset",
)  # fmt: skip
PYTHON = "python_function"
STEP = "ProfilerStep"
ON_GPU = frozenset({KERNEL, COPY, SET})
MOST_SPANS = 20_000_000
"""Some 400 MB of columns."""
MOST_LANES = 10_000
MOST_STEPS = 100_000
MOST_BEGUN = 100_000
"""Begins of spans whose ends have not come."""
MOST_COUNTERS = 1_000
_LARGEST_SAMPLE = 1e300
"""A counter's; what is beyond is no number, or one that no float holds."""
_LATEST_MICROSECONDS = 9e15  # a nanosecond count that fits into 64 bits

_OLD_KINDS = {
    "operator": OPERATOR,
    "kernel": KERNEL,
    "memcpy": COPY,
    "memset": SET,
    "runtime": "cuda_runtime",
    "": "other",
}
_NOT_WORK = frozenset({"Trace", "trace", "overhead"})
"""Kinds of spans about the profiler itself."""
_STEP = re.compile(r"ProfilerStep\s*#\d+")
_DIRECTION = re.compile(r"\b([HDP]to[HDP])\b")
_DEVICES = {0: "cpu", 1: "cuda"}


@dataclass(slots=True)
class Copies:
    """Copies in one direction."""

    count: int = 0
    size_bytes: int = 0
    nanoseconds: int = 0


@dataclass(slots=True)
class Counter:
    """One series of counter events."""

    count: int = 0
    low: float = 0.0
    high: float = 0.0
    total: float = 0.0
    last: float = 0.0

    def add(self, value: float) -> None:
        """Take a sample in."""
        self.low, self.high = (min(self.low, value), max(self.high, value)) if self.count else (value, value)
        self.count += 1
        self.total += value
        self.last = value


@dataclass(slots=True)
class Trace:
    """What was kept of a trace."""

    events: int = 0
    spans: int = 0
    unusable: int = 0
    """Events without a usable time, length or name."""
    left_out: int = 0
    """Spans beyond MOST_SPANS, or on threads beyond MOST_LANES."""
    names: Names = field(default_factory=Names)
    host: list[Lane] = field(default_factory=list)
    """Operators, stages and runtime calls, a lane a thread."""
    python: list[Lane] = field(default_factory=list)
    """Python functions, a lane a thread."""
    gpu: dict[str, Lane] = field(default_factory=dict)
    """Kernels, copies and fills, a lane a device."""
    gpu_stages: Lane = field(default_factory=Lane)
    steps: list[tuple[int, int]] = field(default_factory=list)
    """Start and length of the profiler's steps."""
    copies: dict[str, Copies] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)
    memory: dict[str, MemoryLane] = field(default_factory=dict)
    begin: int | None = None
    """Nanoseconds on the trace's clock; None where there is no span."""
    end: int | None = None
    _lanes: dict[tuple[Any, Any], int] = field(default_factory=dict)
    _python_lanes: dict[tuple[Any, Any], int] = field(default_factory=dict)
    _begun: dict[tuple[Any, Any], list[tuple[int, Mapping[str, Any]]]] = field(default_factory=dict)
    _begun_count: int = 0

    def take(self, event: Any) -> None:
        """Take an event in."""
        self.events += 1
        if type(event) is not dict:
            self.unusable += 1
            return
        phase = event.get("ph")
        if phase == "X":
            start, length = nanoseconds(event.get("ts")), nanoseconds(event.get("dur"))
            if start is None or length is None or length < 0:
                self.unusable += 1
            else:
                self._span(event, start, length)
        elif phase in {"i", "I"}:
            if event.get("name") == "[memory]":
                self._memory(event)
        elif phase == "C":
            self._counter(event)
        elif phase in {"B", "E"}:
            self._half(event, phase)
        elif phase is None:
            self.unusable += 1

    def _span(self, event: Mapping[str, Any], start: int, length: int) -> None:
        kind = event.get("cat", "")
        name = event.get("name")
        if type(kind) is not str or type(name) is not str:
            self.unusable += 1
            return
        kind = _OLD_KINDS.get(kind.lower(), kind)[:100]
        if kind in _NOT_WORK:
            return
        if self.spans >= MOST_SPANS:
            self.left_out += 1
            return
        self.spans += 1
        if self.begin is None or start < self.begin:
            self.begin = start
        if self.end is None or start + length > self.end:
            self.end = start + length
        if kind in ON_GPU:
            self._on_gpu(event, kind, name, start, length)
            return
        if kind in {STAGE, OPERATOR} and name.startswith(STEP) and _STEP.fullmatch(name):
            if len(self.steps) < MOST_STEPS:
                self.steps.append((start, length))
            name, kind = STEP, STAGE
        number = self.names.number(kind, name)
        if kind == GPU_STAGE:
            if not name.startswith(STEP):
                self.gpu_stages.add(start, length, number)
            return
        lanes, places = (self.python, self._python_lanes) if kind == PYTHON else (self.host, self._lanes)
        place = _place(places, lanes, event)
        if place is None:
            self.left_out += 1
        else:
            lanes[place].add(start, length, number)

    def _on_gpu(self, event: Mapping[str, Any], kind: str, name: str, start: int, length: int) -> None:
        details = event.get("args")
        details = details if type(details) is dict else {}
        device = str(details.get("device", event.get("pid")))[:100]
        lane = self.gpu.get(device)
        if lane is None:
            if len(self.gpu) >= MOST_LANES:
                self.left_out += 1
                return
            lane = self.gpu[device] = Lane()
        lane.add(start, length, self.names.number(kind, name))
        if kind == COPY:
            found = _DIRECTION.search(name)
            copies = self.copies.setdefault(found[1] if found else "other", Copies())
            copies.count += 1
            copies.nanoseconds += length
            copies.size_bytes += max(whole(details.get("bytes")) or 0, 0)

    def _half(self, event: Mapping[str, Any], phase: str) -> None:
        start = nanoseconds(event.get("ts"))
        key = _lane_key(event)
        if start is None:
            self.unusable += 1
        elif phase == "B":
            if self._begun_count >= MOST_BEGUN:
                self.left_out += 1
                return
            kept = {word: event.get(word) for word in ("name", "cat", "pid", "tid")}
            if type(kept["name"]) is str:
                kept["name"] = kept["name"][: self.names.longest_characters]
            self._begun.setdefault(key, []).append((start, kept))
            self._begun_count += 1
        elif not (begun := self._begun.get(key, [])):
            self.unusable += 1
        else:
            begin, opened = begun.pop()
            self._begun_count -= 1
            if not begun:
                del self._begun[key]
            self._span(opened, begin, max(start - begin, 0))

    def _memory(self, event: Mapping[str, Any]) -> None:
        time, details = nanoseconds(event.get("ts")), event.get("args")
        if time is None or type(details) is not dict or (change := whole(details.get("Bytes"))) is None:
            self.unusable += 1
            return
        kind, index = whole(details.get("Device Type")) or 0, whole(details.get("Device Id"))
        device = _DEVICES.get(kind, f"device type {kind}") + (f":{index}" if kind and index is not None else "")
        lane = self.memory.get(device)
        if lane is None:
            if len(self.memory) >= MOST_COUNTERS:
                self.left_out += 1
                return
            lane = self.memory[device] = MemoryLane()
        if len(lane.times) >= MOST_SPANS:
            self.left_out += 1
            return
        total, reserved = whole(details.get("Total Allocated")), whole(details.get("Total Reserved"))
        if total is None:  # traces of PyTorch before 1.11 have no totals
            total = (lane.totals[-1] if lane.totals else 0) + change
        place = _place(self._lanes, self.host, event)
        lane.add(
            time,
            change,
            total=total,
            reserved=reserved or 0,
            address=whole(details.get("Addr")) or 0,
            lane=-1 if place is None else place,
        )

    def _counter(self, event: Mapping[str, Any]) -> None:
        name, series = event.get("name"), event.get("args")
        if type(name) is not str or type(series) is not dict:
            self.unusable += 1
            return
        for key, value in series.items():
            if isinstance(value, int | float) and abs(value) <= _LARGEST_SAMPLE:
                full = name[:200] if len(series) == 1 else f"{name[:200]} {key[:100]}"
                counter = self.counters.get(full)
                if counter is None:
                    if len(self.counters) >= MOST_COUNTERS:
                        self.left_out += 1
                        continue
                    counter = self.counters[full] = Counter()
                counter.add(float(value))


def _lane_key(event: Mapping[str, Any]) -> tuple[Any, Any]:
    process, thread = event.get("pid"), event.get("tid")
    if not isinstance(process, int | str | None):
        process = None
    return process, thread if isinstance(thread, int | str | None) else None


def _place(places: dict[tuple[Any, Any], int], lanes: list[Lane], event: Mapping[str, Any]) -> int | None:
    """The event's thread among the lanes; None where there are too many."""
    key = event.get("pid"), event.get("tid")
    try:
        place = places.get(key)
    except TypeError:  # a list or an object where a number belongs
        key = _lane_key(event)
        place = places.get(key)
    if place is None and len(lanes) < MOST_LANES:
        place = places[key] = len(lanes)
        lanes.append(Lane())
    return place


def nanoseconds(value: Any) -> int | None:
    """A time in microseconds, of either sign, in nanoseconds; None where it is none that can be."""
    if type(value) is float or type(value) is int:
        return round(value * 1000) if -_LATEST_MICROSECONDS < value < _LATEST_MICROSECONDS else None
    if type(value) is str and len(value) < 40:  # some programs write times as strings
        try:
            return nanoseconds(float(value))
        except ValueError:
            return None
    return None


def whole(value: Any) -> int | None:
    """A count that fits into 64 bits; None otherwise."""
    if type(value) is float and isfinite(value):
        value = int(value)
    return value if type(value) is int and -(1 << 63) <= value < 1 << 63 else None
