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

from gpuwatch.adapters.traces.intake import DictTaken, Intake, ListTaken, TooMuchError
from gpuwatch.adapters.traces.opening import pieces_of, what_is_read
from gpuwatch.core.traces.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, plain, text

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


def read_pickled(path: Path) -> Snapshot:
    """Read a snapshot; a UsageError where it is none, is cut off, or wants to run something."""
    return _Walk(path).snapshot()


class _Walk:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = Intake()
        self._strings: dict[str, str] = {}
        self._string_bytes = 0

    def snapshot(self) -> Snapshot:
        try:
            top = self._walk(pieces_of(self._path))
        except TooMuchError:
            self._too_much()
        except (IndexError, TypeError, ValueError, struct.error, OverflowError) as error:
            # what an opcode needs is not there, a key is no key, text is no text
            raise self._damaged() from error
        found = self._taken.snapshot(top)
        if found is None:
            raise self._no_snapshot()
        return found

    def _walk(self, pieces: Iterator[bytes]) -> Any:  # noqa: PLR0912, PLR0915 - one branch an opcode, the frequent ones first
        data = next(pieces, b"")
        at = 0
        memo: list[Any] = []
        stack: list[Any] = []
        marks: list[int] = []
        push = stack.append
        taken = self._taken
        container, refer, set_items, append = taken.container, taken.refer, taken.set_items, taken.append
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
                if type(top) is ListTaken or type(top) is DictTaken:
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
                container()
                push(DictTaken())
            elif code == 0x5D:  # EMPTY_LIST
                container()
                push(ListTaken())
            elif code == 0x75:  # SETITEMS
                begin = marks.pop()
                items = stack[begin:]
                del stack[begin:]
                set_items(stack, memo, items)
            elif code == 0x73:  # SETITEM
                items = stack[-2:]
                del stack[-2:]
                set_items(stack, memo, items)
            elif code == 0x65:  # APPENDS
                begin = marks.pop()
                items = stack[begin:]
                del stack[begin:]
                append(stack, memo, items)
            elif code == 0x61:  # APPEND
                items = [stack.pop()]
                append(stack, memo, items)
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
                container()
                count = code - 0x84
                if len(stack) < count:
                    raise IndexError
                items = stack[-count:]
                del stack[-count:]
                push(_flat(items))
            elif code == 0x74:  # TUPLE
                container()
                begin = marks.pop()
                items = stack[begin:]
                del stack[begin:]
                refer(len(items))
                push(_flat(items))
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

    def _put(self, stack: list[Any], memo: list[Any], place: int) -> None:
        top = stack[-1]
        if place > len(memo):
            raise IndexError
        if type(top) is ListTaken or type(top) is DictTaken:
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


def _flat(items: list[Any]) -> tuple[Any, ...]:
    """A tuple; those of a snapshot hold numbers. One in another would double with each reference, and so would the time that it
    takes to be a key."""
    return tuple(None if type(item) is tuple else item for item in items)
