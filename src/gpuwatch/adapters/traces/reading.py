"""A trace or a snapshot file as a value of the core. What came before a damaged place is kept, and the damage told beside it."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuwatch.adapters.traces.json_items import Items, items_of
from gpuwatch.adapters.traces.opening import kind_of, what_is_read
from gpuwatch.adapters.traces.pickle_walk import read_pickled
from gpuwatch.core.traces.snapshot import Actions, Block, Snapshot, block_of, segment_of, settings_of
from gpuwatch.core.traces.trace import Trace
from gpuwatch.errors import UsageError
from gpuwatch.texts import text

MOST_DEVICES = 1_000
MOST_SEGMENTS = 1_000_000
MOST_BLOCKS = 3_000_000
_MOST_FRAMES = 1_000


@dataclass(slots=True)
class Read:
    """What a file held, and what kept it from being read to its end."""

    path: Path
    size_bytes: int
    trace: Trace | None = None
    snapshot: Snapshot | None = None
    damage: UsageError | None = None


def read_trace(path: Path) -> Read:
    """Read a Chrome trace; a UsageError where the file is none."""
    read = None if kind_of(path) == "pickle" else _read_json(path)
    if read is None or read.trace is None:
        raise UsageError(
            text("{path}: is a memory snapshot.", path=str(path)),
            text("Read it with: gpuwatch trace memory {path}", path=str(path)),
        )
    return read


def read_memory(path: Path) -> Read:
    """Read a memory snapshot, or a Chrome trace for its memory."""
    return _read_pickle(path) if kind_of(path) == "pickle" else _read_json(path)


def _read_pickle(path: Path) -> Read:
    with _no_collecting():
        return Read(path, path.stat().st_size, snapshot=read_pickled(path))


def _read_json(path: Path) -> Read:
    read = Read(path, path.stat().st_size)
    trace, snapshot = Trace(), _SnapshotJson()
    seen: set[str] = set()
    with _no_collecting():
        try:
            for items in items_of(path):
                seen.add(items.key)
                if items.key in {"traceEvents", ""}:
                    for event in items.values:
                        trace.take(event)
                elif items.key in {"segments", "device_traces", "allocator_settings"}:
                    snapshot.take(items)
        except UsageError as error:
            read.damage = error
    if "segments" in seen and "traceEvents" not in seen:
        read.snapshot = snapshot.found
    elif trace.spans or trace.memory or trace.counters:
        read.trace = trace
    elif read.damage is not None:
        raise read.damage
    elif seen & {"traceEvents", ""}:
        raise UsageError(
            text("{path}: has no events with times.", path=str(path)),
            text("Profile again; with torch.profiler, call step() often enough that its active part is reached."),
        )
    else:
        raise UsageError(text("{path}: is JSON, but no trace: it has no traceEvents.", path=str(path)), what_is_read())
    return read


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Without the collector of cycles: millions of dicts come and go here, and none has a cycle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _SnapshotJson:
    """Takes a snapshot's JSON in."""

    def __init__(self) -> None:
        self.found = Snapshot()
        self._blocks_kept = 0

    def take(self, items: Items) -> None:
        found = self.found
        if items.key == "allocator_settings":
            found.settings = settings_of(items.values[0] if items.values else None)
        elif items.key == "segments":
            for value in items.values:
                segment = segment_of(value, self._blocks(value)) if type(value) is dict else None
                if segment is None or len(found.segments) >= MOST_SEGMENTS:
                    found.unusable += 1
                else:
                    found.segments.append(segment)
        elif 0 <= items.outer < MOST_DEVICES:
            while len(found.actions) <= items.outer:
                found.actions.append(Actions())
            for value in items.values:
                if type(value) is not dict or not found.actions[items.outer].add(value, self._stack(value)):
                    found.unusable += 1

    def _blocks(self, segment: Mapping[str, Any]) -> list[Block]:
        blocks = segment.get("blocks")
        if type(blocks) is not list:
            return []
        made = (block_of(each, self._stack(each)) for each in blocks if type(each) is dict)
        kept = [block for block in made if block is not None][: max(MOST_BLOCKS - self._blocks_kept, 0)]
        self._blocks_kept += len(kept)
        return kept

    def _stack(self, details: Mapping[str, Any]) -> int:
        frames = details.get("frames")
        if type(frames) is not list:
            history = details.get("history")
            first = history[0] if type(history) is list and history else None
            frames = first.get("frames") if type(first) is dict else None
        if type(frames) is not list:
            return self.found.stacks.stack(())
        stacks = self.found.stacks
        return stacks.stack(tuple(stacks.frame(each) for each in frames[:_MOST_FRAMES] if type(each) is dict))
