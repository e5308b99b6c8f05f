"""A pickled memory snapshot, walked opcode by opcode: nothing in it is imported, called or built.

Python's own unpickler would make some six times the file of objects, and can be told to run code. This one knows only what
plain dicts, lists, tuples, strings and numbers are made of; any opcode that names a class or a function ends the reading. What
the allocator did goes into columns as soon as its dict is complete, and call stacks are kept once, so memory stays below the
file's size.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from gpuwatch.adapters.traces.opening import pieces_of, what_is_read
from gpuwatch.core.traces.snapshot import NO_STACK, Actions, Block, Segment, Snapshot, block_of, segment_of
from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, plain, text

MOST_CONTAINERS = 3_000_000
"""Dicts, lists and tuples that are neither an action, a frame nor a stack."""
MOST_REFERENCES = 20_000_000
"""Elements of those; an entry of a dict counts as eight."""
MOST_STRINGS = 2_000_000
LONGEST_STRING_BYTES = 1 << 20
MOST_STRING_BYTES = 256 << 20
MOST_MEMO = 200_000_000
MOST_WAITING = 1_000_000
"""Values on the stack; the pickler hands them over by the thousand."""
DEEPEST = 200
_LOOKED_AHEAD_BYTES = 64
"""Longer than any opcode with its numbers."""
_ROW = re.compile(rb"(?:j.{4}){2,200}", re.DOTALL).match
_DOING = {
    b"c": "GLOBAL", b"i": "INST", b"o": "OBJ", b"\x81": "NEWOBJ", b"\x92": "NEWOBJ_EX", b"\x93": "STACK_GLOBAL",
    b"R": "REDUCE", b"b": "BUILD", b"P": "PERSID", b"Q": "BINPERSID", b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4",
}  # fmt: skip


class _List(list[Any]):
    """A list, with its place in the memo and how many actions it took in."""

    __slots__ = ("actions", "slot")

    def __init__(self) -> None:
        super().__init__()
        self.slot = -1
        self.actions = 0


class _Dict(dict[Any, Any]):
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


def read_pickled(path: Path) -> Snapshot:
    """Read a snapshot; a UsageError where it is none, is cut off, or wants to run something."""
    return _Walk(path).snapshot()


class _Walk:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._found = Snapshot()
        self._actions = Actions()
        self._frames: list[_Frame] = []
        self._stacks: dict[int, _Stack] = {}
        self._containers = 0
        self._references = 0
        self._strings: dict[str, str] = {}
        self._string_bytes = 0

    def snapshot(self) -> Snapshot:
        try:
            top = self._walk(pieces_of(self._path))
        except (IndexError, TypeError, ValueError, struct.error, OverflowError) as error:
            # what an opcode needs is not there, a key is no key, text is no text
            raise self._damaged() from error
        found = self._found
        segments: Any
        traces: Any
        if type(top) is _List:  # PyTorch 1.x saved the segments alone
            segments, traces = top, _List()
        elif type(top) is _Dict:
            segments, traces = top.get("segments"), top.get("device_traces", _List())
            settings = top.get("allocator_settings")
            if type(settings) is _Dict:
                found.settings = {str(name)[:100]: str(value)[:200] for name, value in list(settings.items())[:100]}
        else:
            raise self._no_snapshot()
        if type(segments) is not _List or type(traces) is not _List:
            raise self._no_snapshot()
        found.segments = [segment for segment in segments if type(segment) is Segment]
        found.unusable += len(segments) - len(found.segments)
        at = 0
        for trace in traces:
            taken = trace.actions if type(trace) is _List else 0
            found.actions.append(self._actions.part(at, at + taken) if len(traces) > 1 else self._actions)
            at += taken
        return found

    def _walk(self, pieces: Iterator[bytes]) -> Any:  # noqa: PLR0912, PLR0915 - one branch an opcode, the frequent ones first
        data = next(pieces, b"")
        at = 0
        memo: list[Any] = []
        stack: list[Any] = []
        marks: list[int] = []
        push = stack.append
        ended = False
        safe = len(data) - _LOOKED_AHEAD_BYTES
        while True:
            if at > safe and not ended:
                piece = next(pieces, None)
                ended = piece is None
                data, at = data[at:] + (piece or b""), 0
                safe = len(data) - _LOOKED_AHEAD_BYTES
                if len(stack) > MOST_WAITING or len(memo) > MOST_MEMO:
                    self._too_much()
                continue
            code = data[at]
            at += 1
            if code == 0x68:  # BINGET
                push(memo[data[at]])
                at += 1
            elif code == 0x6A:  # LONG_BINGET; a call stack is a row of them
                if data[at + 4] == 0x6A and (row := _ROW(data, at - 1)) is not None:
                    count = (row.end() - at + 1) // 5
                    stack.extend([memo[place] for place in struct.unpack_from("<" + "xI" * count, data, at - 1)])
                    at = row.end()
                else:
                    push(memo[int.from_bytes(data[at : at + 4], "little")])
                    at += 4
            elif code == 0x94:  # MEMOIZE
                top = stack[-1]
                if type(top) is _List or type(top) is _Dict:
                    top.slot = len(memo)
                memo.append(top)
            elif code == 0x4B:  # BININT1
                push(data[at])
                at += 1
            elif code == 0x8A:  # LONG1
                length = data[at]
                push(int.from_bytes(data[at + 1 : at + 1 + length], "little", signed=True) if length <= 9 else None)
                at += 1 + length
                if at > len(data):
                    raise IndexError
            elif code == 0x4A:  # BININT
                push(struct.unpack_from("<i", data, at)[0])
                at += 4
            elif code == 0x4D:  # BININT2
                push(struct.unpack_from("<H", data, at)[0])
                at += 2
            elif code == 0x28:  # MARK
                marks.append(len(stack))
                if len(marks) > DEEPEST:
                    self._too_much()
            elif code == 0x7D:  # EMPTY_DICT
                self._container()
                push(_Dict())
            elif code == 0x5D:  # EMPTY_LIST
                self._container()
                push(_List())
            elif code == 0x75:  # SETITEMS
                begin = marks.pop()
                items = stack[begin:]
                del stack[begin:]
                self._set(stack, memo, items)
            elif code == 0x73:  # SETITEM
                items = stack[-2:]
                del stack[-2:]
                self._set(stack, memo, items)
            elif code == 0x65:  # APPENDS
                begin = marks.pop()
                items = stack[begin:]
                del stack[begin:]
                self._append(stack, memo, items)
            elif code == 0x61:  # APPEND
                items = [stack.pop()]
                self._append(stack, memo, items)
            elif code == 0x8C:  # SHORT_BINUNICODE
                length = data[at]
                end = at + 1 + length
                if end > len(data):
                    data, at, ended = self._longer(data, at, 1 + length, pieces)
                    safe = len(data) - _LOOKED_AHEAD_BYTES
                    end = at + 1 + length
                push(self._string(data[at + 1 : end]))
                at = end
            elif code in (0x58, 0x8D):  # BINUNICODE, BINUNICODE8
                width = 4 if code == 0x58 else 8
                length = int.from_bytes(data[at : at + width], "little")
                if length > LONGEST_STRING_BYTES:
                    self._too_much()
                data, at, ended = self._longer(data, at, width + length, pieces)
                safe = len(data) - _LOOKED_AHEAD_BYTES
                push(self._string(data[at + width : at + width + length]))
                at += width + length
            elif code == 0x4E:  # NONE
                push(None)
            elif code == 0x88:  # NEWTRUE
                push(True)
            elif code == 0x89:  # NEWFALSE
                push(False)
            elif code == 0x47:  # BINFLOAT
                push(struct.unpack_from(">d", data, at)[0])
                at += 8
            elif code == 0x29:  # EMPTY_TUPLE
                push(())
            elif code in (0x85, 0x86, 0x87):  # TUPLE1, TUPLE2, TUPLE3
                self._container()
                count = code - 0x84
                if len(stack) < count:
                    raise IndexError
                items = stack[-count:]
                del stack[-count:]
                push(tuple(items))
            elif code == 0x74:  # TUPLE
                self._container()
                begin = marks.pop()
                items = stack[begin:]
                del stack[begin:]
                self._refer(len(items))
                push(tuple(items))
            elif code == 0x71:  # BINPUT
                self._put(stack, memo, data[at])
                at += 1
            elif code == 0x72:  # LONG_BINPUT
                self._put(stack, memo, int.from_bytes(data[at : at + 4], "little"))
                at += 4
            elif code == 0x95:  # FRAME
                at += 8
            elif code == 0x80:  # PROTO
                at += 1
            elif code in (0x43, 0x42):  # SHORT_BINBYTES, BINBYTES: nothing of a snapshot's
                width = 1 if code == 0x43 else 4
                length = int.from_bytes(data[at : at + width], "little")
                if length > LONGEST_STRING_BYTES:
                    self._too_much()
                data, at, ended = self._longer(data, at, width + length, pieces)
                safe = len(data) - _LOOKED_AHEAD_BYTES
                push(None)
                at += width + length
            elif code == 0x2E:  # STOP
                if len(stack) != 1:
                    raise IndexError
                return stack[0]
            else:
                self._refuse(code, stack, data, at)

    def _longer(self, data: bytes, at: int, needed: int, pieces: Iterator[bytes]) -> tuple[bytes, int, bool]:
        """The window with so many bytes from `at` on."""
        if len(data) - at >= needed + _LOOKED_AHEAD_BYTES:
            return data, at, False
        parts = [data[at:]]
        have = len(parts[0])
        ended = False
        while have < needed + _LOOKED_AHEAD_BYTES and not ended:
            piece = next(pieces, None)
            ended = piece is None
            parts.append(piece or b"")
            have += len(parts[-1])
        if have < needed:
            raise IndexError
        return b"".join(parts), 0, ended

    def _set(self, stack: list[Any], memo: list[Any], items: list[Any]) -> None:
        """Fill the dict on top; one that is an action, a frame, a block or a segment is taken in at once."""
        target = stack[-1]
        if type(target) is not _Dict:
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
            blocks = [block for block in blocks if type(block) is Block] if type(blocks) is _List else []
            taken = segment_of(target, blocks)
            self._containers += 1
        elif "stage" in target and "time_us" in target:
            taken = _NOTE
        else:
            self._refer(8 * len(items))
            return
        self._containers -= 1
        stack[-1] = taken
        if target.slot >= 0:
            memo[target.slot] = taken

    def _append(self, stack: list[Any], memo: list[Any], items: list[Any]) -> None:
        """Lengthen the list on top; one of frames is a call stack, one of actions only counts them."""
        target = stack[-1]
        if type(target) is _List:
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
                self._refer(len(items))
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

    def _stack_of(self, details: _Dict, memo: list[Any]) -> int:
        frames = details.get("frames")
        if frames is None and type(history := details.get("history")) is _List and history:  # PyTorch 2.0
            first = history[0]
            frames = first.get("frames") if type(first) is _Dict else None
        if type(frames) is _List and not frames and frames.slot >= 0 and memo[frames.slot] is frames:
            memo[frames.slot] = _NONE  # an empty list each, a million times
            self._containers -= 1
        return int(frames) if type(frames) is _Stack else NO_STACK

    def _put(self, stack: list[Any], memo: list[Any], place: int) -> None:
        top = stack[-1]
        if place > len(memo):
            raise IndexError
        if type(top) is _List or type(top) is _Dict:
            top.slot = place
        if place == len(memo):
            memo.append(top)
        else:
            memo[place] = top

    def _string(self, content: bytes) -> str:
        """Decode, and keep a string once."""
        string = content.decode("utf-8", "surrogatepass")
        known = self._strings.get(string)
        if known is not None:
            return known
        self._string_bytes += len(content)
        if self._string_bytes > MOST_STRING_BYTES or len(self._strings) >= MOST_STRINGS:
            self._too_much()
        self._strings[string] = string
        return string

    def _container(self) -> None:
        self._containers += 1
        if self._containers > MOST_CONTAINERS:
            self._too_much()

    def _refer(self, count: int) -> None:
        self._references += count
        if self._references > MOST_REFERENCES:
            self._too_much()

    def _refuse(self, code: int, stack: list[Any], data: bytes, at: int) -> NoReturn:
        sign = bytes([code])
        if sign not in _DOING:
            raise self._damaged()
        named = ""
        if sign in (b"c", b"i"):
            module, name, *_rest = [*data[at : at + 400].split(b"\n"), b"", b""]
            named = f"{module.decode('utf-8', 'replace')}.{name.decode('utf-8', 'replace')}"
        elif sign == b"\x93" and len(stack) >= 2:
            named = ".".join(str(part)[:200] for part in stack[-2:] if type(part) is str)
        wants: Text = (
            text("{path}: is not opened: it asks to load {named}, and a memory snapshot does not.",
                 path=str(self._path), named=plain(named))
            if named
            else text("{path}: is not opened: it asks to run something ({opcode}), and a memory snapshot does not.",
                      path=str(self._path), opcode=_DOING[sign])
        )  # fmt: skip
        raise UsageError(wants, text("Nothing in it was run. It may be a checkpoint, or made to do harm."))

    def _too_much(self) -> NoReturn:
        raise UsageError(
            text("{path}: holds more than a memory snapshot can.", path=str(self._path)),
            text("Record fewer events: torch.cuda.memory._record_memory_history(max_entries=1000000)."),
        )

    def _damaged(self) -> UsageError:
        return UsageError(
            text("{path}: ends early or is damaged; it is no whole pickle.", path=str(self._path)),
            text("Dump the snapshot again: torch.cuda.memory._dump_snapshot(FILE)."),
        )

    def _no_snapshot(self) -> UsageError:
        return UsageError(
            text("{path}: is a pickle, but no memory snapshot: it has no segments.", path=str(self._path)),
            what_is_read(),
        )
