"""A file is written whole or not at all, whatever ends the writing."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwatch.adapters.whole_file import FOR_ALL, beside, write_whole
from gpuwatch.errors import UsageError


@pytest.fixture
def narrow_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("narrow_umask")
def test_a_new_file_has_what_the_umask_leaves_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    new, old, told = (tmp_path / name for name in ("new", "old", "told"))
    old.touch()
    old.chmod(0o640)
    write_whole(new, b"1")
    write_whole(old, b"2")
    write_whole(told, b"3", mode=FOR_ALL)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (new, old, told)] == [0o600, 0o640, 0o644]
    assert [path.read_bytes() for path in (new, old, told)] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("end", [OSError, KeyboardInterrupt, SystemExit])
def test_what_ends_the_writing_leaves_the_file_as_it_was_and_nothing_beside_it(
    tmp_path: Path, end: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen: list[tuple[bytes, int]] = []

    def written() -> None:
        with beside(path, b"new") as temporary:
            seen.append((temporary.read_bytes(), stat.S_IMODE(temporary.stat().st_mode)))
            raise end

    with pytest.raises(end):
        written()
    assert seen == [(b"new", 0o600)]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(path)
    write_whole(link, b"words")
    assert link.is_symlink()
    assert path.read_bytes() == b"words"


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"words")
    reader.join(30)
    assert read == [b"words"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "nowhere" / "file", tmp_path / ("n" * 300)):
        with pytest.raises(UsageError, match=path.name[:20]):
            write_whole(path, b"words")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
