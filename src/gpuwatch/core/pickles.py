"""What a pickle says, read without running it: the operations are followed with values that stand for objects.

A pickle is a program, and loading it is running it. Here nothing it names is imported or called: a class becomes a
`Named`, a call becomes a `Made`, a tensor's storage a `Stored`. That is enough to list a checkpoint's tensors and to tell
whether anything besides tensors is in it. Operations that no checkpoint has (extension codes, out-of-band buffers) end
the reading as damage does. Memory snapshots are read by another walk (adapters/traces/pickle_walk.py): gigabytes in pieces, of
which nothing may be called and nothing is kept as it comes; the two have no step in common.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.core.pickled_names import Named

MOST_OPERATIONS = 2_000_000
"""A checkpoint of 600 tensors has about 20,000."""

_MARK = object()


class PickleDamagedError(ValueError):
    """The bytes are no pickle, or end too early, or do what no checkpoint does."""


@dataclass(slots=True, eq=False)
class Made:
    """What a call in the pickle would have made."""

    maker: Any
    arguments: Any
    entries: list[tuple[Any, Any]] = field(default_factory=list)
    """What was put into it afterwards, as into an OrderedDict."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What stands outside the pickle: a tensor's storage."""

    key: Any


@dataclass(slots=True, eq=False)
class Table:
    """A dict, as its pairs in their order."""

    entries: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Pickle:
    """What was read: the object that loading would give, and every name on the way to it."""

    top: Any = None
    names: dict[Named, None] = field(default_factory=dict)
    damaged: str | None = None
    """Why the reading ended before the end; None where it did not."""


def read_pickle(stream: io.BytesIO) -> Pickle:
    """Follow one pickle from where the stream stands to its STOP; what was read until then where it is damaged.

    The stream ought to be bounded by the caller: a length in the pickle is taken at its word, up to the stream's end.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in a string, which are the pickle's and not ours
            _run(machine, stream)
    except (ValueError, LookupError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        machine.result.damaged = str(error) or type(error).__name__
    return machine.result


def _run(machine: _Machine, stream: io.BytesIO) -> None:
    for count, (operation, argument, _place) in enumerate(pickletools.genops(stream)):
        if count >= MOST_OPERATIONS:
            raise PickleDamagedError("more operations than any checkpoint has")
        machine.do(operation.name, argument)
        if operation.name == "STOP":
            return
    raise PickleDamagedError("it ends early")


class _Machine:
    """The stack and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.result = Pickle()

    def do(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        else:
            action = _ACTIONS.get(name)
            if action is None:
                raise PickleDamagedError(f"no checkpoint has the operation {name}")
            action(self, argument)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise PickleDamagedError("a mark where a value belongs")
        return value

    def since_mark(self) -> list[Any]:
        place = next((i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is _MARK), None)
        if place is None:
            raise PickleDamagedError("a mark is missing")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def name(self, module: Any, name: Any) -> Named:
        known = isinstance(module, str) and isinstance(name, str)
        # A name that is itself computed is a disguise: no checkpoint has one.
        found = Named(module[:200], name[:200]) if known else Named("", "?")
        self.result.names[found] = None
        return found

    def take_global(self, argument: str) -> None:
        module, _, name = str(argument).partition(" ")
        self.stack.append(self.name(module, name))

    def take_stack_global(self, _argument: Any) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(self.name(module, name))

    def take_instance(self, argument: str) -> None:
        values = self.since_mark()
        module, _, name = str(argument).partition(" ")
        self.stack.append(Made(self.name(module, name), tuple(values)))

    def take_object(self, _argument: Any) -> None:
        maker, *values = self.since_mark()
        self.stack.append(Made(maker, tuple(values)))

    def call(self, _argument: Any) -> None:
        arguments, maker = self.pop(), self.pop()
        self.stack.append(Made(maker, arguments))

    def call_with_keywords(self, _argument: Any) -> None:
        _keywords, arguments, maker = self.pop(), self.pop(), self.pop()
        self.stack.append(Made(maker, arguments))

    def put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def memoize(self, _argument: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, key: int) -> None:
        self.stack.append(self.memo[key])

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            raise PickleDamagedError("a key without a value")
        target = self.stack[-1]
        if isinstance(target, Table | Made):
            target.entries.extend(zip(values[::2], values[1::2], strict=True))

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)

    def tuple_of(self, count: int) -> None:
        values = tuple(self.pop() for _ in range(count))[::-1]
        self.stack.append(values)

    def stop(self, _argument: Any) -> None:
        self.result.top = self.pop()


def _pair(machine: _Machine, _argument: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


def _table(machine: _Machine, _argument: Any) -> None:
    values = machine.since_mark()
    machine.stack.append(Table())
    machine.set_items(values)


_VALUES = frozenset(
    {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
        "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
        "BINBYTES8", "BYTEARRAY8",
    }
)  # fmt: skip
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda _machine, _: None,
    "FRAME": lambda _machine, _: None,
    "STOP": _Machine.stop,
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "POP": lambda machine, _: machine.stack.__delitem__(-1),
    "POP_MARK": lambda machine, _: machine.since_mark().clear(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "EMPTY_DICT": lambda machine, _: machine.stack.append(Table()),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_SET": lambda machine, _: machine.stack.append([]),
    "DICT": _table,
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "FROZENSET": lambda machine, _: machine.stack.append(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "SETITEM": _pair,
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.since_mark()),
    "GLOBAL": _Machine.take_global,
    "STACK_GLOBAL": _Machine.take_stack_global,
    "INST": _Machine.take_instance,
    "OBJ": _Machine.take_object,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "REDUCE": _Machine.call,
    "BUILD": lambda machine, _: machine.stack.__delitem__(-1),
    "PERSID": lambda machine, argument: machine.stack.append(Stored(argument)),
    "BINPERSID": lambda machine, _: machine.stack.append(Stored(machine.pop())),
}
