"""What a pickle says, read without running it: the operations are followed with values that stand for objects.

A pickle is a program, and loading it is running it. Here nothing it names is imported or called: a class becomes a
`Named`, a call becomes a `Made`, a tensor's storage a `Stored`. That is enough to list a checkpoint's tensors and to tell
whether anything besides tensors is in it. Operations that no checkpoint has (extension codes, out-of-band buffers) end
the reading as damage does.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["tensor", "other", "dangerous"]
MOST_OPERATIONS = 2_000_000
"""A checkpoint of 600 tensors has about 20,000."""

_MARK = object()
_TENSOR_NAMES = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.serialization", "_get_layout"),
        ("torch", "device"),
        ("torch", "Size"),
        ("torch", "Tensor"),
        ("_codecs", "encode"),
        ("builtins", "set"),
        ("__builtin__", "set"),
    }
)
_TENSOR_MAKERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
_DANGEROUS_MODULES = frozenset(
    {
        "os", "posix", "nt", "posixpath", "ntpath", "subprocess", "sys", "socket", "shutil", "runpy", "importlib", "imp",
        "pty", "code", "codeop", "ctypes", "webbrowser", "pickle", "_pickle", "marshal", "types", "operator", "_operator",
        "functools", "asyncio", "multiprocessing", "threading", "signal", "tempfile", "pathlib", "urllib", "http",
        "requests", "httpx", "aiohttp", "ssl", "smtplib", "ftplib", "commands", "pip", "site", "zipimport", "pkgutil",
        "pydoc", "bdb", "pdb", "timeit", "trace", "cProfile", "profile", "doctest", "inspect", "gc", "torch.hub", "torch.jit",
        "torch.utils.cpp_extension", "torch._inductor", "numpy.testing", "numpy.f2py", "distutils", "setuptools",
        "dill", "cloudpickle", "joblib",
    }
)  # fmt: skip
_DANGEROUS_BUILTINS = frozenset(
    {
        "eval", "exec", "execfile", "compile", "open", "__import__", "getattr", "setattr", "delattr", "globals", "locals",
        "vars", "apply", "input", "breakpoint", "map", "filter", "type", "super", "memoryview", "dir",
    }
)  # fmt: skip


_DANGEROUS_NAMES = frozenset(
    {("torch", "load"), ("torch.storage", "_load_from_bytes"), ("torch.serialization", "load"), ("numpy", "load")}
)
"""They load another pickle, with nothing held back."""


class PickleDamagedError(ValueError):
    """The bytes are no pickle, or end too early, or do what no checkpoint does."""


@dataclass(frozen=True, slots=True)
class Named:
    """A class or function that the pickle names. It was not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def kind(self) -> Kind:
        """Whether tensors need it, something else does, or it can run commands."""
        if (self.module, self.name) in _TENSOR_NAMES:
            return "tensor"
        if self.module == "torch._utils" and self.name in _TENSOR_MAKERS:
            return "tensor"
        if self.module in ("torch", "torch.storage") and self.name.endswith("Storage"):
            return "tensor"
        if self.module == "torch" and self.name in DTYPES:
            return "tensor"
        root = self.module.partition(".")[0]
        if not self.module or "." in self.name:  # a name that was put together, or one that reaches through another
            return "dangerous"
        if root in ("builtins", "__builtin__"):
            return "dangerous" if self.name in _DANGEROUS_BUILTINS else "other"
        if (self.module, self.name) in _DANGEROUS_NAMES:
            return "dangerous"
        if root in _DANGEROUS_MODULES or self.module in _DANGEROUS_MODULES:
            return "dangerous"
        return "other"


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


DTYPES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
    "bool": 1, "complex64": 8, "complex128": 16, "float8_e4m3fn": 1, "float8_e5m2": 1, "uint16": 2, "uint32": 4, "uint64": 8,
}  # fmt: skip
"""Bytes of one value."""
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
}  # fmt: skip


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


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as the file describes it; its values were not read."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    storage: str | None = None
    """The member of the archive that holds its values, where there is one."""
    storage_bytes: int | None = None
    """What that member ought to hold."""

    @property
    def values(self) -> int:
        """How many numbers it has."""
        count = 1
        for length in self.shape:
            count *= length
        return count


def tensors_in(top: Any, most: int = 100_000) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a table that a pickle gave, by name, and the names of entries that are none.

    A table of tables is looked into once more, joined by a dot: `params`, `state_dict` and the like.
    """
    tensors: dict[str, Tensor] = {}
    others: list[str] = []
    for name, value in _flat(top, most):
        tensor = _tensor(name, value)
        if tensor is None:
            others.append(name)
        else:
            tensors[name] = tensor
    return tensors, others


def entries_of(value: Any) -> list[tuple[Any, Any]] | None:
    """The pairs of a dict or an OrderedDict; None for anything else."""
    if isinstance(value, Table):
        return value.entries
    if isinstance(value, Made) and value.maker == Named("collections", "OrderedDict"):
        return value.entries
    return None


def _flat(top: Any, most: int) -> Iterator[tuple[str, Any]]:
    for seen, (key, value) in enumerate(entries_of(top) or []):
        if seen >= most:
            return
        inner = entries_of(value)
        if inner is None:
            yield _words(key), value
            continue
        for name, tensor in inner[:most]:
            yield f"{_words(key)}.{_words(name)}", tensor


def _words(key: Any) -> str:
    return key[:300] if isinstance(key, str) else f"<{type(key).__name__}>"


def _tensor(name: str, value: Any) -> Tensor | None:
    while isinstance(value, Made) and _is(value.maker, "torch._utils", "_rebuild_parameter"):
        arguments = value.arguments
        value = arguments[0] if isinstance(arguments, tuple) and arguments else None
    if not (isinstance(value, Made) and _is(value.maker, "torch._utils", *_TENSOR_MAKERS[:3])):
        return None
    arguments = value.arguments
    if not isinstance(arguments, tuple) or len(arguments) < 3 or not isinstance(arguments[0], Stored):
        return None
    key, shape = arguments[0].key, arguments[2]
    if isinstance(shape, Made):  # torch.Size
        shape = shape.arguments[0] if isinstance(shape.arguments, tuple) and shape.arguments else None
    if not isinstance(key, tuple) or len(key) < 5 or not isinstance(key[1], Named) or not isinstance(shape, tuple):
        return None
    if not all(type(length) is int and 0 <= length < 1 << 40 for length in shape):
        return None
    dtype = STORAGES.get(key[1].name, "?")
    if key[1].name == "UntypedStorage" and len(arguments) > 6 and isinstance(arguments[6], Named):
        dtype = arguments[6].name
    length = key[4] if type(key[4]) is int else None
    unit = 1 if key[1].name == "UntypedStorage" else DTYPES.get(dtype)
    return Tensor(name, dtype, shape, str(key[2])[:80], length * unit if length is not None and unit else None)


def _is(maker: Any, module: str, *names: str) -> bool:
    return isinstance(maker, Named) and maker.module == module and maker.name in names
