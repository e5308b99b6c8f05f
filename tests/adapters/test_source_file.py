"""A followed file delivers every byte once, whatever its program does to it."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import json
import lzma
import os
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gpuwatch.adapters.sources import open_source
from gpuwatch.adapters.sources.file import CHUNK_BYTES, FileSource, read_file_chunks
from gpuwatch.core.observations import LogChunk, LogRestarted
from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.faces.cli import main
from tests.adapters.watching import Watched

NOBODY = 65534
RECORDING = Path(__file__).parents[1] / "data" / "recordings" / "comfyui-0.24.0-oom-stderr.log"
ZSTD_HELLO = bytes.fromhex("28b52ffd6458016d00003068656c6c6f0a01004f529522ff258c8a")


def follow(path: Path, *, from_start: bool = True, show_history: bool = False) -> Watched:
    return Watched(FileSource.from_path(str(path), from_start=from_start, show_history=show_history))


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "comfyui.log"
    path.write_bytes(b"one\ntwo\n")
    return path


@contextmanager
def someone_who_may_not(path: Path) -> Iterator[None]:
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder where another user may look and rename; pytest's own are closed to others."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


def test_a_word_on_the_command_line_opens_it(log: Path) -> None:
    source = open_source(str(log), from_start=False, show_history=True)
    assert (source.name, source.kind) == ("comfyui.log", "file")


def test_from_start_counts_what_is_there(log: Path) -> None:
    with follow(log) as watched:
        watched.until_seen(b"two\n")
        append(log, b"three\n")
        watched.until_lives(b"one\ntwo\nthree\n")
        assert watched.data(fresh=False) == b""
        chunk = watched.observations[0]
        assert isinstance(chunk, LogChunk)
        assert (chunk.source, chunk.kind) == ("comfyui.log", "file")
        assert chunk.at.tzinfo is not None


def test_history_is_shown_and_not_counted(log: Path) -> None:
    with follow(log, from_start=False, show_history=True) as watched:
        watched.until_seen(b"two\n")
        append(log, b"three\n")
        watched.until_seen(b"three\n")
    assert watched.data(fresh=False) == b"one\ntwo\n"
    assert watched.data(fresh=True) == b"three\n"
    assert str(watched.reason) == "stopped"


def test_without_history_it_begins_at_the_end(log: Path) -> None:
    with follow(log, from_start=False) as watched:

        def is_read_once_more_is_written() -> bool:
            append(log, b"new\n")
            return b"new\n" in watched.lives()[0]

        watched.until(is_read_once_more_is_written)
    assert watched.data(fresh=False) == b""
    assert set(watched.data(fresh=True).splitlines()) == {b"new"}


def _has_open(path: Path) -> bool:
    """Whether this process holds the file open."""
    for link in Path("/proc/self/fd").iterdir():
        try:
            if link.readlink() == path:
                return True
        except OSError:
            continue
    return False


def test_history_longer_than_a_chunk_is_cut_where_it_ends(log: Path) -> None:
    history = b"x" * (CHUNK_BYTES + 1000) + b"\n"
    log.write_bytes(history)
    with follow(log, from_start=False, show_history=True) as watched:
        watched.until_lives(history)
        append(log, b"new\n")
        watched.until_seen(b"new\n")
    assert watched.data(fresh=False) == history
    assert watched.data(fresh=True) == b"new\n"
    assert all(len(each.data) <= CHUNK_BYTES for each in watched.observations if isinstance(each, LogChunk))


def test_what_is_written_while_history_is_read_counts(log: Path) -> None:
    history = b"x" * (CHUNK_BYTES + 1000) + b"\n"
    log.write_bytes(history)
    news = [b"new\n"]

    def clock() -> datetime:
        append(log, news.pop() if news else b"")
        return datetime.now(UTC)

    with Watched(FileSource(log, from_start=False, show_history=True, clock=clock)) as watched:
        watched.until_lives(history + b"new\n")
    assert watched.data(fresh=False) == history
    assert watched.data(fresh=True) == b"new\n"


def test_half_lines_come_as_they_are_written(log: Path) -> None:
    with follow(log) as watched:
        append(log, b"\r 10%|#")
        watched.until_seen(b"10%|#")
        append(log, b"   | 1/10")
        watched.until_lives(b"one\ntwo\n\r 10%|#   | 1/10")


def test_bytes_that_are_no_text_are_untouched(log: Path) -> None:
    odd = b"\xff\xfe \0 device \0\n\xe6\x98\x1b[31m"
    with follow(log) as watched:
        append(log, odd)
        watched.until_lives(b"one\ntwo\n" + odd)


class WatchedPath(type(Path())):  # type: ignore[misc]
    """A path that tells when it is looked at: the source looks once it has read all there is."""

    looks = 0
    before_look: Callable[[], None] | None = None

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        type(self).looks += 1
        if (act := type(self).before_look) is not None:
            type(self).before_look = None
            act()
        return super().stat(follow_symlinks=follow_symlinks)


@pytest.fixture
def looked_at(log: Path) -> Iterator[WatchedPath]:
    yield WatchedPath(log)
    WatchedPath.before_look = None


def test_the_old_file_is_read_until_there_is_something_in_the_new_one(log: Path, looked_at: WatchedPath) -> None:
    source = FileSource(looked_at, from_start=True, show_history=False)
    with Watched(source) as watched, log.open("ab", buffering=0) as writer:
        watched.until_seen(b"two\n")
        log.rename(log.with_name("comfyui.prev.log"))
        writer.write(b"late 1\n")
        watched.until_seen(b"late 1\n")
        log.touch()
        looks = WatchedPath.looks
        watched.until(lambda: WatchedPath.looks > looks + 2)
        writer.write(b"late 2\n")
        watched.until_seen(b"late 2\n")
        log.write_bytes(b"new\n")
        watched.until_lives(b"one\ntwo\nlate 1\nlate 2\n", b"new\n")


def test_what_came_into_the_old_file_just_before_the_new_one_is_not_lost(log: Path, looked_at: WatchedPath) -> None:
    with log.open("ab", buffering=0) as writer:

        def rotate() -> None:
            log.rename(log.with_name("comfyui.prev.log"))
            writer.write(b"last words\n" * CHUNK_BYTES)
            log.write_bytes(b"new\n")

        WatchedPath.before_look = rotate
        with Watched(FileSource(looked_at, from_start=True, show_history=False)) as watched:
            watched.until_lives(b"one\ntwo\n" + b"last words\n" * CHUNK_BYTES, b"new\n")


def test_truncation_begins_anew(log: Path) -> None:
    with follow(log) as watched:
        watched.until_seen(b"two\n")
        os.truncate(log, 0)
        append(log, b"new\n")
        watched.until_lives(b"one\ntwo\n", b"new\n")


def test_a_log_emptied_and_not_written_again_has_begun_anew(log: Path) -> None:
    with follow(log) as watched:
        watched.until_seen(b"two\n")
        os.truncate(log, 0)
        watched.until(lambda: isinstance(watched.observations[-1], LogRestarted))


def test_rewriting_in_place_with_more_than_before_begins_anew(log: Path) -> None:
    with follow(log) as watched:
        watched.until_seen(b"two\n")
        log.write_bytes(b"another and longer log\n" * 10)
        watched.until_seen(b"another and longer log\n" * 10)
        assert watched.lives()[-1] == b"another and longer log\n" * 10


def test_a_restart_under_the_same_banner_is_seen(log: Path) -> None:
    banner = b"Total VRAM 24106 MB, total RAM 64106 MB\npytorch version: 2.9.1+cu128\n" * 2
    log.write_bytes(banner + b"first run: a little\n")
    with follow(log) as watched:
        watched.until_seen(b"a little\n")
        log.write_bytes(banner + b"second run: a good deal more than the first\n")
        watched.until(lambda: b"second run" in watched.lives()[-1])
        assert watched.lives()[-1] == banner + b"second run: a good deal more than the first\n"


def test_copytruncate_under_a_writer_that_keeps_its_place_leaves_no_hole(log: Path) -> None:
    before = b"before\n" * 3000
    with log.open("wb", buffering=0) as writer:
        writer.write(before)
        with follow(log) as watched:
            watched.until_lives(before)
            os.truncate(log, 0)
            writer.write(b"after\n")  # at its old place: the file now begins with a hole
            watched.until_lives(before, b"after\n")
            writer.write(b"later\n")
            watched.until_lives(before, b"after\nlater\n")
            os.truncate(log, 0)
            writer.write(b"again\n")
            watched.until_lives(before, b"after\nlater\n", b"again\n")


def test_a_hole_of_gibibytes_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "hole.log"
    with path.open("wb") as file:
        file.seek(8 << 30)
        file.write(b"words\n")
    with follow(path) as watched:
        watched.until_lives(b"words\n")


def test_history_behind_a_hole_ends_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "hole.log"
    history = b"history\n" * (CHUNK_BYTES // 8)
    with path.open("wb") as file:
        file.seek(CHUNK_BYTES - 10)
        file.write(history)
    with follow(path, from_start=False, show_history=True) as watched:
        watched.until_lives(history)
        append(path, b"new\n")
        watched.until_lives(history + b"new\n")
    assert watched.data(fresh=False) == history


def test_a_log_with_the_same_words_at_our_place_but_not_at_its_head_has_begun_anew(log: Path) -> None:
    heartbeat = b"alive and waiting for prompts\n" * 10
    log.write_bytes(b"first\n" + heartbeat)
    with follow(log) as watched:
        watched.until_lives(b"first\n" + heartbeat)
        with log.open("r+b") as file:
            file.write(b"other\n")
        watched.until_lives(b"first\n" + heartbeat, b"other\n" + heartbeat)


def test_delete_and_recreate_is_waited_for(log: Path) -> None:
    with follow(log) as watched:
        watched.until_seen(b"two\n")
        log.unlink()
        log.write_bytes(b"new\n")
        watched.until_lives(b"one\ntwo\n", b"new\n")


def test_a_deleted_log_is_let_go_so_that_its_room_is_freed(log: Path) -> None:
    source = FileSource(log, from_start=True, show_history=False, let_go_seconds=0.0)
    with Watched(source) as watched:
        watched.until_seen(b"two\n")
        log.unlink()
        watched.until(lambda: not _has_open(log.with_name("comfyui.log (deleted)")))
        log.write_bytes(b"")
        watched.until_lives(b"one\ntwo\n", b"")
        append(log, b"new\n")
        watched.until_lives(b"one\ntwo\n", b"new\n")


def test_a_folder_in_the_place_of_the_log_is_waited_out(log: Path) -> None:
    with follow(log) as watched:
        watched.until_seen(b"two\n")
        log.unlink()
        log.mkdir()
        log.rmdir()
        log.write_bytes(b"new\n")
        watched.until_lives(b"one\ntwo\n", b"new\n")


def test_a_link_that_points_elsewhere_is_followed(tmp_path: Path, log: Path) -> None:
    link, other = tmp_path / "current.log", tmp_path / "other.log"
    link.symlink_to(log)
    other.write_bytes(b"other\n")
    with follow(link) as watched:
        watched.until_seen(b"two\n")
        new_link = tmp_path / "new"
        new_link.symlink_to(other)
        new_link.replace(link)
        watched.until_lives(b"one\ntwo\n", b"other\n")


def test_it_ends_when_the_pipeline_does(log: Path) -> None:
    with follow(log) as watched:
        watched.until_seen(b"two\n")
        watched.stop()
    assert str(watched.reason) == "stopped"


def test_the_clock_is_the_given_one(log: Path) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    source = FileSource.from_path(str(log), from_start=True, show_history=False, clock=lambda: noon)
    with Watched(source) as watched:
        watched.until_seen(b"two\n")
    assert {each.at for each in watched.observations} == {noon}


@settings(max_examples=30, deadline=None)
@given(
    pieces=some.lists(some.binary(max_size=400), max_size=12),
    before=some.binary(max_size=300),
    from_start=some.booleans(),
)
def test_random_pieces_come_out_as_the_same_bytes(pieces: list[bytes], before: bytes, *, from_start: bool) -> None:
    before = b"##" + before + b"\n"  # NULs at the very begin are a hole or UTF-16; half a line may wait for its rest
    pieces = [*pieces, b"\n"]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.log")
        path.write_bytes(before)
        source = FileSource(path, from_start=from_start, show_history=True)
        with Watched(source) as watched, path.open("ab", buffering=0) as writer:
            watched.until_lives(before)
            for piece in pieces:
                writer.write(piece)
            watched.until_lives(before + b"".join(pieces))
    assert watched.data(fresh=from_start).startswith(before)
    if not from_start:
        assert watched.data(fresh=True) == b"".join(pieces)


@settings(max_examples=30, deadline=None)
@given(
    lives=some.lists(some.lists(some.binary(min_size=1, max_size=200), min_size=1, max_size=5), min_size=1, max_size=5)
)
def test_rotation_loses_and_repeats_nothing(lives: list[list[bytes]]) -> None:
    lives = [[b"##", *pieces, b"\n"] for pieces in lives]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.log")
        said = [b"begin"]
        path.write_bytes(said[0])
        with follow(path) as watched:
            watched.until_lives(*said)
            for number, pieces in enumerate(lives):
                if number:
                    path.rename(path.with_name(f"a.log.{number}"))
                    said.append(b"")
                for piece in pieces:
                    append(path, piece)
                    said[-1] += piece
                watched.until_lives(*said)


# -- other encodings and packed files ----------------------------------------------------------------------------------------

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


# -- refusals --------------------------------------------------------------------------------------------------------------


def refusal(path: Path | str) -> UsageError:
    with pytest.raises(UsageError) as following:
        FileSource.from_path(str(path), from_start=True, show_history=False)
    with pytest.raises(UsageError) as reading:
        list(read_file_chunks(str(path)))
    assert str(following.value) == str(reading.value)
    assert str(path) in str(following.value)
    assert following.value.hint is not None
    assert following.value.exit_code == 2
    return following.value


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in str(refusal(tmp_path / "nothing.log"))


def test_a_file_below_a_file_is_missing(log: Path) -> None:
    assert "no such file" in str(refusal(log / "nothing.log"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "folder" in str(refusal(tmp_path))


def test_an_unreadable_file_is_refused() -> None:
    with open_folder() as folder:
        path = folder / "mine.log"
        path.write_bytes(b"mine\n")
        with someone_who_may_not(path):
            assert "may not read" in str(refusal(path))


def test_binary_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x08\x01\0\0\0\0\0\0{}" + bytes(range(11, 256)) * 20)
    assert "does not look like a log" in str(refusal(path))


def test_packed_data_is_refused_with_the_way_to_read_it(tmp_path: Path) -> None:
    path = tmp_path / "comfyui.log.gz"
    path.write_bytes(gzip.compress(b"one\n"))
    with pytest.raises(UsageError, match="is compressed") as refused:
        follow(path)
    assert f"gpuwatch diagnose {path}" in str(refused.value.hint)


@pytest.mark.parametrize(
    "begin",
    [
        b"device \0 is a NUL\n",
        b"\0" * 5000 + b"after a hole",
        b"\xff\x00 no\x00",
        b"",
        b"no line end",
    ],
)
def test_odd_logs_are_not_refused(tmp_path: Path, begin: bytes) -> None:
    path = tmp_path / "odd.log"
    path.write_bytes(begin)
    FileSource.from_path(str(path), from_start=True, show_history=False)
    assert b"".join(read_file_chunks(str(path))) == begin


def test_a_named_pipe_is_not_followed_but_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(UsageError) as refused:
        FileSource.from_path(str(path), from_start=True, show_history=False)
    assert "watch - <" in str(refused.value.hint)
    with Watched(_Writer(path, b"through the pipe\n" * 10_000)) as writer:
        assert b"".join(read_file_chunks(str(path))) == b"through the pipe\n" * 10_000
        writer.ended()


class _Writer:
    """Something that writes into a pipe from another thread."""

    name = "writer"
    kind = "file"

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._data = data

    def run(self, *_: object) -> None:
        self._path.write_bytes(self._data)


def test_reading_once_gives_the_whole_file_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "big.log"
    content = os.urandom(64) + b"\n" + b"line\n" * 200_000
    path.write_bytes(content)
    pieces = list(read_file_chunks(str(path)))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= CHUNK_BYTES


def test_a_log_replaced_by_an_unreadable_one_fails_when_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.adapters.sources.file._REFUSED_SECONDS", 0.0)
    with open_folder() as folder:
        path, new = folder / "mine.log", folder / "new.log"
        path.write_bytes(b"old\n")
        new.write_bytes(b"new\n")
        with follow(path) as watched:
            watched.until_seen(b"old\n")
            with someone_who_may_not(new):
                new.replace(path)
                with pytest.raises(GpuwatchError, match="may not read"):
                    watched.ended()


def test_a_log_replaced_by_one_that_becomes_readable_is_followed() -> None:
    with open_folder() as folder:
        path, new = folder / "mine.log", folder / "new.log"
        path.write_bytes(b"old\n")
        new.write_bytes(b"new\n")
        with follow(path) as watched:
            watched.until_seen(b"old\n")
            with someone_who_may_not(new):
                new.replace(path)
            path.chmod(0o600)
            watched.until_lives(b"old\n", b"new\n")
