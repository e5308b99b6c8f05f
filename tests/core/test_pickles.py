"""Pickles are followed, never run: every protocol, every way to hide a call, and bytes that are none."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.core import pickles
from gpuwatch.core.pickled_names import Named
from gpuwatch.core.pickles import Made, Pickle, Table, read_pickle
from gpuwatch.core.tensors import tensors_in


def read(content: bytes) -> Pickle:
    return read_pickle(io.BytesIO(content))


def names(content: bytes) -> list[str]:
    return [str(name) for name in read(content).names]


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/was-run",)


class WithState:
    def __init__(self) -> None:
        self.inner = [Payload()]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_payload_is_named_in_every_protocol(protocol: int) -> None:
    found = read(pickle.dumps({"weights": [1, 2.5, "x", b"y", (), None, True], "hidden": Payload()}, protocol))
    assert found.damaged is None
    assert isinstance(found.top, Table)
    assert [key for key, _ in found.top.entries] == ["weights", "hidden"]
    assert isinstance(found.top.entries[1][1], Made)
    assert {str(name): name.kind for name in found.names if name.module == "posix"} == {"posix.system": "dangerous"}
    deep = read(pickle.dumps({"a": WithState()}, protocol))
    assert "posix.system" in [str(name) for name in deep.names]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"(S'ls'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'ls'\no.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x12eval.__self__.exec\x93.", "builtins.eval.__self__.exec"),
        # the name is put together while the pickle runs
        (b"\x80\x04]\x8c\x06system\x93.", ".?"),
        (b"cos\nsystem\n(S'ls'\ntR.", "os.system"),
        # found although what follows is damaged, and although it is thrown away at once
        (b"cos\nsystem\n0\xff", "os.system"),
    ],
)
def test_hidden_calls(content: bytes, name: str) -> None:
    found = read(content)
    assert [str(each) for each in found.names] == [name]
    assert [each.kind for each in found.names] == ["dangerous"]


@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        ("torch._utils", "_rebuild_tensor_v2", "tensor"),
        ("torch", "FloatStorage", "tensor"),
        ("torch", "bfloat16", "tensor"),
        ("collections", "OrderedDict", "tensor"),
        ("torch", "load", "dangerous"),
        ("torch.storage", "_load_from_bytes", "dangerous"),
        ("torch._utils", "_import_dotted_name", "other"),
        ("numpy.core.multiarray", "scalar", "other"),
        ("builtins", "getattr", "dangerous"),
        ("__builtin__", "eval", "dangerous"),
        ("builtins", "list", "other"),
        ("os.path", "join", "dangerous"),
        ("torch.nn.modules.linear", "Linear", "other"),
        ("torch", "FloatStorage.x", "dangerous"),
        ("osmium", "File", "other"),
    ],
)
def test_kinds(module: str, name: str, kind: str) -> None:
    assert Named(module, name).kind == kind


def test_ordered_dicts_and_inner_tables_are_looked_into() -> None:
    found = read(pickle.dumps({"params": OrderedDict(a=1), "epoch": 3}, 2))
    assert tensors_in(found.top) == ({}, ["params.a", "epoch"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"N",
        b"\x80\x02",
        b"t.",
        b"u.",
        b"R.",
        b"h\x05.",
        b"(.",
        b"\x80\x02}s.",
        b"\x82\x01.",
        b"\x97.",
        b"Q.",
    ],
)
def test_damage_is_told(content: bytes) -> None:
    assert read(content).damaged


def test_a_length_beyond_the_end_takes_no_memory() -> None:
    assert read(b"\x80\x04\x8d" + (1 << 60).to_bytes(8, "little") + b"x").damaged
    assert read(b"\x80\x02\x8b" + ((1 << 31) - 1).to_bytes(4, "little") + b"x").damaged


def test_growing_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_OPERATIONS", 1000)
    assert "more operations" in str(read(b"N" + b"2" * 2000 + b".").damaged)


def test_references_that_double_are_not_followed() -> None:
    doubling = b"]" + b"2\x86" * 5000 + b"."
    found = read(doubling)
    assert found.damaged is None
    assert tensors_in(found.top) == ({}, [])


def name(module: str, word: str) -> bytes:
    return f"c{module}\n{word}\n".encode()


def word(letters: bytes) -> bytes:
    return b"X" + len(letters).to_bytes(4, "little") + letters


def table(*entries: bytes) -> bytes:
    return name("collections", "OrderedDict") + b")R(" + b"".join(entries) + b"u"


def tensor(storage: bytes, shape: bytes = b"K\x01\x85") -> bytes:
    """One of four floats, whose storage is named by what these operations make."""
    stored = b"(" + word(b"storage") + name("torch", "FloatStorage") + storage + word(b"cpu") + b"K\x04tQ"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + stored + b"K\x00" + shape + shape + b"tR"


def test_a_storage_whose_name_doubles_without_end_has_none() -> None:
    doubling = word(b"x") + b"2\x86" * 100
    found, others = tensors_in(read(b"\x80\x02" + table(word(b"a"), tensor(doubling)) + b".").top)
    assert (found["a"].shape, found["a"].storage, found["a"].storage_bytes, others) == ((1,), None, 16, [])


def test_a_tensor_of_more_dimensions_than_any_is_none() -> None:
    found = tensors_in(
        read(b"\x80\x02" + table(word(b"a"), tensor(word(b"0"), b"(" + b"K\x09" * 65 + b"t")) + b".").top
    )
    assert found == ({}, ["a"])


def test_a_parameter_is_looked_through_and_one_in_another_without_end_is_not() -> None:
    def wrapped(times: int) -> bytes:
        maker = name("torch._utils", "_rebuild_parameter")
        return maker * times + tensor(word(b"0")) + b"\x85R" * times

    found = tensors_in(read(b"\x80\x02" + table(word(b"a"), wrapped(1), word(b"b"), wrapped(2000)) + b".").top)
    assert (list(found[0]), found[1]) == (["a"], ["b"])


def test_one_table_that_stands_in_another_many_times_is_looked_into_so_often_at_most() -> None:
    inner = table(*(word(b"%d" % number) + b"N" for number in range(300)))
    outer = table(word(b"first"), inner + b"q\x07", *(word(b"o%d" % number) + b"h\x07" for number in range(300)))
    _tensors, others = tensors_in(read(b"\x80\x02" + outer + b".").top, most=1000)
    assert len(others) == 1000


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    found = read(content)
    tensors_in(found.top)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 400))
def test_a_checkpoint_with_bytes_changed(noise: bytes, place: int) -> None:
    whole = pickle.dumps({"params": OrderedDict(a=(1, 2), b=[3.5, "x"] * 20), "x": {"y": Payload()}}, 2)
    found = read(whole[:place] + noise + whole[place + len(noise) :])
    tensors_in(found.top)
