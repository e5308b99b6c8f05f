"""What is no log that could be followed is refused at once, with what to do instead; what only looks odd is not."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from gpuwatch.adapters.sources.file import CHUNK_BYTES, FileSource, read_file_chunks
from gpuwatch.errors import GpuwatchError, UsageError
from tests.adapters.following import follow, open_folder, someone_who_may_not
from tests.adapters.watching import Watched


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "comfyui.log"
    path.write_bytes(b"one\ntwo\n")
    return path


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
