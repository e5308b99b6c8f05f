"""Pickled snapshots: read as Python's own unpickler reads them, and nothing in them run. All are constructed, none is a GPU's."""

from __future__ import annotations

import json
import os
import pickle
import pickletools
import random
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.traces import intake, opening, pickle_walk
from gpuwatch.adapters.traces.pickle_walk import read_pickled
from gpuwatch.adapters.traces.reading import read_memory
from gpuwatch.core.traces.allocator import DeviceMemory, device_memories
from gpuwatch.errors import UsageError
from tests.snapshots import MIB, Allocator


def random_allocator(seed: int, actions: int = 600) -> Allocator:
    randomness = random.Random(seed)  # noqa: S311 - the same each time
    allocator = Allocator()
    live: list[int] = []
    for _ in range(actions):
        if live and randomness.random() < 0.45:
            allocator.free(live.pop(randomness.randrange(len(live))))
        else:
            depth = randomness.randrange(5)
            frames = allocator.frames(*((f"f{randomness.randrange(9)}", "/a/模型.py", line) for line in range(depth)))
            live.append(allocator.alloc(randomness.randrange(1, 3 * MIB), frames))
    allocator.refuse(999 * MIB, 3 * MIB, allocator.frames(("f", "/a.py", 1)))
    return allocator


def dumped(value: Any, path: Path, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def peak_by_hand(trace: list[dict[str, Any]]) -> int:
    """The plain way, over the objects that Python's unpickler makes."""
    sizes: dict[int, int] = {}
    held = peak = 0
    for entry in trace:
        if entry["action"] == "alloc":
            sizes[entry["addr"]] = entry["size"]
            held += entry["size"]
        elif entry["action"] == "free_requested":
            held -= sizes.pop(entry["addr"])
        peak = max(peak, held)
    return peak


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("piece", [101, 1 << 20])
def test_it_reads_what_python_reads(protocol: int, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PIECE_BYTES", piece)
    value = random_allocator(protocol).snapshot()
    snapshot = read_pickled(dumped(value, tmp_path / "s.pickle", protocol))
    (actions,) = snapshot.actions
    trace = value["device_traces"][0]
    assert list(actions.sizes) == [entry["size"] for entry in trace]
    assert list(actions.times) == [entry["time_us"] for entry in trace]
    assert list(actions.addresses[:-1]) == [entry["addr"] for entry in trace[:-1]]
    assert actions.addresses[-1] == trace[-1]["device_free"]
    assert [[(f.function, f.file, f.line) for f in snapshot.stacks.of(stack)] for stack in actions.stacks] == [
        [(frame["name"], frame["filename"], frame["line"]) for frame in entry["frames"]] for entry in trace
    ]
    assert [[(b.size_bytes, b.requested_bytes, b.state, b.address) for b in s.blocks] for s in snapshot.segments] == [
        [(b["size"], b["requested_size"], b["state"], b["address"]) for b in s["blocks"]] for s in value["segments"]
    ]
    assert snapshot.settings["expandable_segments"] == "False"
    (story,) = device_memories(snapshot)
    assert story.peak_bytes == peak_by_hand(trace)
    assert story.refusals_count == 1


@pytest.mark.parametrize("as_key", [False, True], ids=["as a value", "as a key"])
def test_references_that_double_come_to_an_end(as_key: bool, tmp_path: Path) -> None:
    doubling = b")\x94" + b"".join(b"h%c\x86\x94" % number for number in range(100))
    other = b"\x8c\x01a"
    path = tmp_path / "s.pickle"
    path.write_bytes(
        b"\x80\x04}(\x8c\x08segments]\x8c\x0ddevice_traces]\x8c\x12allocator_settings}("
        + (doubling + other if as_key else other + doubling)
        + b"uu."
    )
    assert read_pickled(path).settings == ({} if as_key else {"a": "[None, None]"})


def test_json_and_pickle_tell_the_same(tmp_path: Path) -> None:
    value = random_allocator(9).snapshot()
    path = tmp_path / "s.json"
    path.write_text(json.dumps(value))
    found = read_memory(path).snapshot
    assert found is not None
    assert stories(found) == stories(read_pickled(dumped(value, tmp_path / "s.pickle")))


def stories(snapshot: Any) -> list[DeviceMemory]:
    return device_memories(snapshot)


def test_the_form_of_older_versions(tmp_path: Path) -> None:
    """PyTorch 2.0 kept a block's stack in its history, and gave blocks no address; 1.x dumped the segments alone."""
    frames = [{"name": "f", "filename": "/a.py", "line": 3}]
    segments = [
        {"device": 0, "address": 4096, "total_size": 2 * MIB, "segment_type": "small", "stream": 0, "blocks": [
            {"size": MIB, "requested_size": MIB - 5, "state": "active_allocated",
             "history": [{"addr": 4096, "real_size": MIB - 5, "frames": frames}]},
            {"size": MIB, "state": "inactive"}]}
    ]  # fmt: skip
    for value in (segments, {"segments": segments, "device_traces": []}, {"segments": segments}):
        snapshot = read_pickled(dumped(value, tmp_path / "s.pickle"))
        (story,) = device_memories(snapshot)
        assert [(held.size_bytes, held.stack[0].line) for held in story.holders] == [(MIB - 5, 3)]
        assert [block.address for block in snapshot.segments[0].blocks] == [4096, 4096 + MIB]


def test_memory_stays_below_the_file_s_size(tmp_path: Path) -> None:
    """Repeated stacks are kept once, and what the allocator did is in columns."""
    snapshot = read_pickled(dumped(random_allocator(1, 3000).snapshot(), tmp_path / "s.pickle"))
    (actions,) = snapshot.actions
    columns = (actions.actions, actions.addresses, actions.sizes, actions.times, actions.stacks)
    assert sum(len(column) * column.itemsize for column in columns) < (tmp_path / "s.pickle").stat().st_size
    assert len(snapshot.stacks.stacks) == len(set(snapshot.stacks.stacks))
    assert len(snapshot.stacks.frames) <= 9 * 5 + 1


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


class Built:
    def __init__(self) -> None:
        self.a = 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_payload_is_named_and_not_run(protocol: int, tmp_path: Path) -> None:
    done = tmp_path / "done"
    path = dumped({"segments": [], "device_traces": [[Payload(done)]]}, tmp_path / "s.pickle", protocol)
    with pytest.raises(UsageError, match=r"asks to load (posix|nt)\.system") as refused:
        read_pickled(path)
    assert "Nothing in it was run" in str(refused.value.hint)
    assert not done.exists()
    assert pickle.loads(path.read_bytes())  # noqa: S301 - the payload is real: Python's own unpickler runs it
    assert done.exists()


OPCODES = {opcode.name: opcode.code.encode("latin-1") for opcode in pickletools.opcodes}
HARMLESS = {
    "BINGET", "LONG_BINGET", "MEMOIZE", "BININT1", "LONG1", "BININT", "BININT2", "MARK", "EMPTY_DICT", "EMPTY_LIST",
    "SETITEMS", "SETITEM", "APPENDS", "APPEND", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "NONE", "NEWTRUE",
    "NEWFALSE", "BINFLOAT", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "BINPUT", "LONG_BINPUT", "FRAME",
    "PROTO", "SHORT_BINBYTES", "BINBYTES", "STOP",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(OPCODES) - HARMLESS))
def test_every_other_opcode_ends_the_reading(name: str, tmp_path: Path) -> None:
    path = tmp_path / "s.pickle"
    path.write_bytes(b"\x80\x04]\x94" + b"\x8c\x05posix\x8c\x06system" + OPCODES[name] + b"os\nsystem\n)R.")
    with pytest.raises(UsageError, match=r"is not opened|no whole pickle"):
        read_pickled(path)


def test_the_classes_of_a_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"asks to load collections\.OrderedDict"):
        read_pickled(dumped(OrderedDict(a=1), tmp_path / "s.pickle"))
    with pytest.raises(UsageError, match=r"asks to load tests\.adapters"):
        read_pickled(dumped({"segments": [Built()]}, tmp_path / "s.pickle"))


def memo_bomb(count: int) -> bytes:
    return b"\x80\x04](" + b"]\x94" * count + b"e."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x04" + b"(" * 5000, "holds more than"),
        (b"\x80\x04" + b"](" * 100_000, "holds more than"),
        (memo_bomb(60_000), "holds more than"),
        (b"\x80\x04(" + b"K\x01" * 160_000 + b"t.", "holds more than"),
        (b"\x80\x04]" + b"K\x01a" * 60_000 + b".", "holds more than"),
        (b"\x80\x04}" + b"K\x01K\x02s" * 60_000 + b".", "holds more than"),
        (b"\x80\x04K\x01" + b"\x94" * 160_000 + b".", "holds more than"),
        (b"\x80\x02]" + b"".join(b"K\x01r" + struct.pack("<I", place) for place in range(60_000)), "holds more than"),
        (b"\x80\x04X" + struct.pack("<I", 0xFFFFFFFF), "holds more than"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62), "holds more than"),
        (b"\x80\x04h\x07.", "no whole pickle"),
        (b"\x80\x04j\xff\xff\xff\xff.", "no whole pickle"),
        (b"\x80\x04}](s.", "no whole pickle"),
        (b"\x80\x04}]]s.", "no whole pickle"),
        (b"\x80\x04]}K\x01e.", "no whole pickle"),
        (b"\x80\x04\x8c\x02\xff\xfe.", "no whole pickle"),
        (b"\x80\x04r\xff\xff\xff\x7f.", "no whole pickle"),
        (b"\x80\x04K\x01.", "no memory snapshot"),
        (b"\x80\x04}.", "no memory snapshot"),
        (b"\x80\x04u.", "no whole pickle"),
        (b"\x80\x04.", "no whole pickle"),
        (b"\x80\x04", "no whole pickle"),
        (b"\x80", "no whole pickle"),
    ],
    ids=range(23),
)
def test_hostile_pickles_are_refused_in_bounded_memory(
    content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PIECE_BYTES", 1 << 10)
    for name in ("MOST_CONTAINERS", "MOST_WAITING", "MOST_MEMO", "MOST_REFERENCES"):
        monkeypatch.setattr(pickle_walk if hasattr(pickle_walk, name) else intake, name, 50_000)
    path = tmp_path / "s.pickle"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_pickled(path)


def test_a_pickle_cut_anywhere_is_told_so(tmp_path: Path) -> None:
    whole = pickle.dumps(random_allocator(4, 40).snapshot())
    path = tmp_path / "s.pickle"
    for length in range(2, len(whole), 61):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError, match="ends early or is damaged"):
            read_pickled(path)


def test_damaged_bytes_never_do_more_than_be_refused(tmp_path: Path) -> None:
    whole = bytearray(pickle.dumps(random_allocator(4, 40).snapshot()))
    randomness = random.Random(11)  # noqa: S311 - the same each time
    path = tmp_path / "s.pickle"
    refused = 0
    for _ in range(400):
        place = randomness.randrange(2, len(whole))
        before, whole[place] = whole[place], randomness.randrange(256)
        path.write_bytes(whole)
        try:
            device_memories(read_pickled(path))
        except UsageError:
            refused += 1
        whole[place] = before
    assert refused > 100
