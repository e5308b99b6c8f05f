"""What a memory snapshot is made of, taken in as soon as it is whole: an action, a frame, a stack, a block, a segment.

Each goes into columns and leaves a sign where it stood, so memory stays below the file's size. How bytes become dicts and
lists is not told here (`pickle_walk`).
"""

from __future__ import annotations

from typing import Any

from gpuwatch.core.traces.snapshot import NO_STACK, Actions, Block, Segment, Snapshot, block_of, segment_of, settings_of

MOST_CONTAINERS = 3_000_000
"""Dicts, lists and tuples that are neither an action, a frame nor a stack."""
MOST_REFERENCES = 20_000_000
"""Elements of those; an entry of a dict counts as eight."""


class TooMuchError(Exception):
    """It holds more than a memory snapshot can."""


class ListTaken(list[Any]):
    """A list, with its place in the memo and how many actions it took in."""

    __slots__ = ("actions", "slot")

    def __init__(self) -> None:
        super().__init__()
        self.slot = -1
        self.actions = 0


class DictTaken(dict[Any, Any]):
    """A dict with its place in the memo."""

    __slots__ = ("slot",)

    def __init__(self) -> None:
        super().__init__()
        self.slot = -1


class _Frame(int):
    """A frame by its place among the frames."""

    __slots__ = ()


class _Stack(int):
    """A call stack by its place among the stacks."""

    __slots__ = ()


class _Sign:
    """Stands for something that was taken in."""


_ACTION, _NOTE = _Sign(), _Sign()
_NONE = _Stack(NO_STACK)


class Intake:
    """The snapshot while it is taken in, and how much lies about meanwhile."""

    def __init__(self) -> None:
        self._found = Snapshot()
        self._actions = Actions()
        self._frames: list[_Frame] = []
        self._stacks: dict[int, _Stack] = {}
        self._containers = 0
        self._references = 0

    def snapshot(self, top: Any) -> Snapshot | None:
        """The snapshot that the outermost value makes; None where it makes none."""
        found = self._found
        segments: Any
        traces: Any
        if type(top) is ListTaken:  # PyTorch 1.x saved the segments alone
            segments, traces = top, ListTaken()
        elif type(top) is DictTaken:
            segments, traces = top.get("segments"), top.get("device_traces", ListTaken())
            found.settings = settings_of(top.get("allocator_settings"))
        else:
            return None
        if type(segments) is not ListTaken or type(traces) is not ListTaken:
            return None
        found.segments = [segment for segment in segments if type(segment) is Segment]
        found.unusable += len(segments) - len(found.segments)
        at = 0
        for trace in traces:
            taken = trace.actions if type(trace) is ListTaken else 0
            found.actions.append(self._actions.part(at, at + taken) if len(traces) > 1 else self._actions)
            at += taken
        return found

    def container(self) -> None:
        """Count a dict, a list or a tuple. Raises TooMuchError."""
        self._containers += 1
        if self._containers > MOST_CONTAINERS:
            raise TooMuchError

    def refer(self, count: int) -> None:
        """Count what one of them holds. Raises TooMuchError."""
        self._references += count
        if self._references > MOST_REFERENCES:
            raise TooMuchError

    def set_items(self, stack: list[Any], memo: list[Any], items: list[Any]) -> None:
        """Fill the dict on top; one that is an action, a frame, a block or a segment is taken in at once."""
        target = stack[-1]
        if type(target) is not DictTaken:
            raise IndexError
        target.update(zip(items[::2], items[1::2], strict=True))
        taken: Any
        if "action" in target:
            if not self._actions.add(target, self._stack_of(target, memo)):
                self._found.unusable += 1
            taken = _ACTION
        elif "filename" in target and "name" in target:
            place = self._found.stacks.frame(target)
            while place >= len(self._frames):
                self._frames.append(_Frame(len(self._frames)))
            taken = self._frames[place]
        elif "state" in target and "size" in target:
            taken = block_of(target, self._stack_of(target, memo))
            self._containers += 1
        elif "total_size" in target and "blocks" in target:
            blocks = target["blocks"]
            blocks = [block for block in blocks if type(block) is Block] if type(blocks) is ListTaken else []
            taken = segment_of(target, blocks)
            self._containers += 1
        elif "stage" in target and "time_us" in target:
            taken = _NOTE
        else:
            self.refer(8 * len(items))
            return
        self._containers -= 1
        stack[-1] = taken
        if target.slot >= 0:
            memo[target.slot] = taken

    def append(self, stack: list[Any], memo: list[Any], items: list[Any]) -> None:
        """Lengthen the list on top; one of frames is a call stack, one of actions only counts them."""
        target = stack[-1]
        if type(target) is ListTaken:
            first = items[0] if items else None
            if first is _ACTION:
                if items.count(_ACTION) != len(items):
                    raise IndexError
                target.actions += len(items)
            elif type(first) is _Frame and not target:
                self._containers -= 1
                stack[-1] = self._stack(tuple(items))
                if target.slot >= 0:
                    memo[target.slot] = stack[-1]
            else:
                self.refer(len(items))
                target.extend(items)
        elif type(target) is _Stack:
            pass  # a stack of more than a thousand frames: what is beyond is of no use to a person
        else:
            raise IndexError

    def _stack(self, frames: tuple[Any, ...]) -> _Stack:
        if {*map(type, frames)} != {_Frame}:
            raise IndexError
        place = self._found.stacks.stack(frames)
        if place == NO_STACK:
            return _NONE
        known = self._stacks.get(place)
        if known is None:
            known = self._stacks[place] = _Stack(place)
        return known

    def _stack_of(self, details: DictTaken, memo: list[Any]) -> int:
        frames = details.get("frames")
        if frames is None and type(history := details.get("history")) is ListTaken and history:  # PyTorch 2.0
            first = history[0]
            frames = first.get("frames") if type(first) is DictTaken else None
        if type(frames) is ListTaken and not frames and frames.slot >= 0 and memo[frames.slot] is frames:
            memo[frames.slot] = _NONE  # an empty list each, a million times
            self._containers -= 1
        return int(frames) if type(frames) is _Stack else NO_STACK
