"""A log is read and followed in whatever encoding and packing it comes: what comes out is UTF-8, whole."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import json
import lzma
import os
import tracemalloc
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gpuwatch.adapters.sources.file import CHUNK_BYTES, read_file_chunks
from gpuwatch.core.observations import LogRestarted
from gpuwatch.errors import UsageError
from gpuwatch.faces.cli import main
from tests.adapters.following import append, follow

RECORDING = Path(__file__).parents[1] / "data" / "recordings" / "comfyui-0.24.0-oom-stderr.log"
ZSTD_HELLO = bytes.fromhex("28b52ffd6458016d00003068656c6c6f0a01004f529522ff258c8a")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "comfyui.log"
    path.write_bytes(b"one\ntwo\n")
    return path


CHINESE = "显存不足，请降低分辨率\n"
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": partial(lzma.compress, preset=0),
    "bz2": partial(bz2.compress, compresslevel=1),
}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "gb18030", "utf-8-sig"])
def test_a_log_in_another_encoding_is_read_and_followed_in_utf8(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "powershell.log"
    written = ("[1] " + CHINESE).encode(encoding)
    path.write_bytes(written)
    assert b"".join(read_file_chunks(str(path))).decode() == "[1] " + CHINESE
    if encoding == "utf-16-be":
        return  # a NUL at the very begin of a file that is followed is the hole that emptying leaves
    with follow(path) as watched:
        watched.until_lives(("[1] " + CHINESE).encode())
        later = CHINESE.encode({"utf-16": "utf-16-le", "utf-8-sig": "utf-8"}.get(encoding, encoding))
        append(path, later[:7])
        append(path, later[7:])
        watched.until_lives(("[1] " + CHINESE * 2).encode())


def test_a_new_life_has_its_own_encoding_and_the_old_one_its_last_half_line(log: Path) -> None:
    log.write_bytes(("\ufeff" + CHINESE).encode("utf-16-le") + b"x")
    with follow(log) as watched:
        watched.until_lives(CHINESE.encode())
        os.truncate(log, 0)
        watched.until(lambda: isinstance(watched.observations[-1], LogRestarted))
        append(log, CHINESE.encode() + b"\xc4")
        watched.until_lives((CHINESE + "\ufffd").encode(), CHINESE.encode() + b"\xc4")
        log.rename(log.with_name("old.log"))
        log.write_bytes(CHINESE.encode("gb18030") + b"\xb4")
        watched.until_lives((CHINESE + "\ufffd").encode(), CHINESE.encode() + b"\xc4", CHINESE.encode())


@pytest.mark.parametrize("half", [b"", b"x"])
def test_following_from_the_end_of_a_utf16_log_keeps_its_characters_whole(log: Path, half: bytes) -> None:
    log.write_bytes(("\ufeff" + CHINESE).encode("utf-16-le") + half)
    with follow(log, from_start=False) as watched:

        def is_read_once_more_is_written() -> bool:
            append(log, b"\0" * len(half) + "new\n".encode("utf-16-le") + half)
            return b"new\n" in watched.lives()[0]

        watched.until(is_read_once_more_is_written)
    assert set(watched.data(fresh=True).replace(b"x", b"").splitlines()) == {b"new"}


@pytest.mark.parametrize("packer", PACKERS)
def test_a_packed_log_is_read_whatever_its_name(tmp_path: Path, packer: str) -> None:
    path = tmp_path / "packed.log"
    pack = PACKERS[packer]
    path.write_bytes(pack(("\ufeff" + CHINESE * 50_000).encode("utf-16-le")) + pack("end\n".encode("utf-16-le")))
    pieces = list(read_file_chunks(str(path)))
    assert b"".join(pieces).decode() == CHINESE * 50_000 + "end\n"
    assert max(map(len, pieces)) <= 2 * CHUNK_BYTES


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
@pytest.mark.parametrize("packer", PACKERS)
def test_a_damaged_packed_log_gives_what_it_holds(tmp_path: Path, packer: str, damage: str) -> None:
    path = tmp_path / "packed.log"
    content = b"".join(b"line %d\n" % number for number in range(100_000))
    packed = PACKERS[packer](content)
    rest = b"" if damage == "cut" else b"\xa5" * (len(packed) // 3)
    path.write_bytes(packed[: len(packed) * 2 // 3] + rest)
    got = bytearray()
    with pytest.raises(UsageError, match=r"packed\.log: ends early"):
        deque(map(got.extend, read_file_chunks(str(path))))
    assert len(got) > CHUNK_BYTES
    if damage == "cut":
        assert content.startswith(got)


def test_a_bomb_unpacks_in_small_pieces(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(64):
            file.write(b" " * (1 << 20))
    tracemalloc.start()
    try:
        assert sum(map(len, read_file_chunks(str(path)))) == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_what_is_packed_must_be_a_log(tmp_path: Path) -> None:
    path = tmp_path / "model.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 20))
    with pytest.raises(UsageError, match="binary data"):
        list(read_file_chunks(str(path)))


def test_zstandard_is_read_where_python_can_and_sent_through_a_pipe_where_not(tmp_path: Path) -> None:
    path = tmp_path / "packed.log"
    path.write_bytes(ZSTD_HELLO)
    if any(_can_import(name) for name in ("compression.zstd", "zstandard")):
        assert b"".join(read_file_chunks(str(path))) == b"hello\n" * 100
        path.write_bytes(ZSTD_HELLO[:-1])
        with pytest.raises(UsageError, match="ends early"):
            list(read_file_chunks(str(path)))
    else:
        with pytest.raises(UsageError, match="cannot unpack") as refused:
            list(read_file_chunks(str(path)))
        assert f"zstdcat {path} | gpuwatch diagnose -" in str(refused.value.hint)


def _can_import(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(
    ("encoding", "packer"),
    [("utf-16", ""), ("gb18030", ""), ("utf-8", "gz"), ("utf-8", "xz"), ("utf-8", "bz2"), ("gb18030", "gz")],
)
def test_a_recording_tells_the_same_in_any_wrapping(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str, packer: str
) -> None:
    said = RECORDING.read_bytes().decode()
    path, told = tmp_path / "comfyui.log", []
    for written in ((CHINESE + said).encode(), PACKERS.get(packer, bytes)((CHINESE + said).encode(encoding))):
        path.write_bytes(written)
        assert main(["diagnose", "--json", str(path)]) == 1
        told.append(json.loads(capsys.readouterr().out))
        for incident in told[-1]["incidents"]:
            del incident["id"]
    assert told[0]["incidents"]
    assert told[0] == told[1]
