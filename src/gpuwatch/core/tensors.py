"""The tensors of a checkpoint's pickle: names, types, shapes, and where their values stand. No value is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from gpuwatch.core.pickled_names import DTYPES, STORAGES, TENSOR_MAKERS, Named
from gpuwatch.core.pickles import Made, Stored, Table

_MOST_WRAPPERS = 4
"""Parameters around a tensor that are looked through: real files have one."""
MOST_DIMENSIONS = 64
"""PyTorch's own limit."""


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

    A table of tables is looked into once more, joined by a dot: `params`, `state_dict` and the like. At most so many entries
    are looked at in all: a short pickle may hold one table any number of times.
    """
    tensors: dict[str, Tensor] = {}
    others: list[str] = []
    for name, value in islice(_flat(top), most):
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


def _flat(top: Any) -> Iterator[tuple[str, Any]]:
    for key, value in entries_of(top) or []:
        inner = entries_of(value)
        if inner is None:
            yield _words(key), value
            continue
        for name, tensor in inner:
            yield f"{_words(key)}.{_words(name)}", tensor


def _words(key: Any) -> str:
    return key[:300] if isinstance(key, str) else f"<{type(key).__name__}>"


def _tensor(name: str, value: Any) -> Tensor | None:
    for _ in range(_MOST_WRAPPERS):
        if not (isinstance(value, Made) and _is(value.maker, "torch._utils", "_rebuild_parameter")):
            break
        arguments = value.arguments
        value = arguments[0] if isinstance(arguments, tuple) and arguments else None
    if not (isinstance(value, Made) and _is(value.maker, "torch._utils", *TENSOR_MAKERS[:3])):
        return None
    arguments = value.arguments
    if not isinstance(arguments, tuple) or len(arguments) < 3 or not isinstance(arguments[0], Stored):
        return None
    key, shape = arguments[0].key, arguments[2]
    if isinstance(shape, Made):  # torch.Size
        shape = shape.arguments[0] if isinstance(shape.arguments, tuple) and shape.arguments else None
    if not isinstance(key, tuple) or len(key) < 5 or not isinstance(key[1], Named) or not isinstance(shape, tuple):
        return None
    if len(shape) > MOST_DIMENSIONS or not all(type(length) is int and 0 <= length < 1 << 40 for length in shape):
        return None
    # Anything else in the name's place may be larger in words than memory is: references double.
    storage = key[2][:80] if isinstance(key[2], str) else None
    dtype = STORAGES.get(key[1].name, "?")
    if key[1].name == "UntypedStorage" and len(arguments) > 6 and isinstance(arguments[6], Named):
        dtype = arguments[6].name
    length = key[4] if type(key[4]) is int else None
    unit = 1 if key[1].name == "UntypedStorage" else DTYPES.get(dtype)
    return Tensor(name, dtype, shape, storage, length * unit if length is not None and unit else None)


def _is(maker: Any, module: str, *names: str) -> bool:
    return isinstance(maker, Named) and maker.module == module and maker.name in names
