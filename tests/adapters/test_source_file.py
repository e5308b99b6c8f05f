"""A followed file delivers every byte once, whatever its program does to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from gpuwatch.adapters.sources import open_source
from gpuwatch.adapters.sources.decoding import Decoder
from gpuwatch.adapters.sources.file import CHUNK_BYTES, FileSource
from gpuwatch.core.observations import LogChunk, LogRestarted
from tests.adapters.following import append, follow
from tests.adapters.watching import Watched

HANZI = "显存不足".encode("gb18030")


def in_utf8(written: bytes) -> bytes:
    """A log as it is when it is read at once: bytes that can be nothing but GB18030 are that, also where chance made them."""
    decoder = Decoder()
    return decoder.feed(written) + decoder.flush()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "comfyui.log"
    path.write_bytes(b"one\ntwo\n")
    return path


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
@example(pieces=[HANZI], before=b"", from_start=False)
@example(pieces=[b"\xb0"], before=HANZI, from_start=False)
def test_random_pieces_come_out_as_when_read_at_once(pieces: list[bytes], before: bytes, *, from_start: bool) -> None:
    before = b"##" + before + b"\n"  # NULs at the very begin are a hole or UTF-16; half a line may wait for its rest
    pieces = [*pieces, b"\n"]
    history, new = in_utf8(before), in_utf8(before + b"".join(pieces))[len(in_utf8(before)) :]
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.log")
        path.write_bytes(before)
        source = FileSource(path, from_start=from_start, show_history=True)
        with Watched(source) as watched, path.open("ab", buffering=0) as writer:
            watched.until_lives(history)
            for piece in pieces:
                writer.write(piece)
            watched.until_lives(history + new)
    assert watched.data(fresh=from_start).startswith(history)
    if not from_start:
        assert watched.data(fresh=True) == new


@settings(max_examples=30, deadline=None)
@given(
    lives=some.lists(some.lists(some.binary(min_size=1, max_size=200), min_size=1, max_size=5), min_size=1, max_size=5)
)
@example(lives=[[HANZI], [b"\xb0\xa1"], [HANZI[:3], HANZI[3:]]])
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
                watched.until_lives(*map(in_utf8, said))
