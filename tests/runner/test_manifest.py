"""The manifest as a file: what it claims, what makes a photo be done again, and what damage it survives."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.errors import UsageError
from gpuwatch_runner.finding import Source
from gpuwatch_runner.manifest import NAME, Manifest

SETTINGS = {"variant": "tiny", "size": 512}


@pytest.fixture
def photo(tmp_path: Path) -> Source:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"photo")
    (tmp_path / "out").mkdir()
    return Source(path, Path())


def do(out: Path, source: Source, settings: dict[str, Any] = SETTINGS, **notes: Any) -> Path:
    with Manifest(out) as manifest:
        manifest.begin(settings)
        output = manifest.output_of(source, ".png")
        output.write_bytes(b"colours")
        manifest.add_done(source, source.path.stat(), output, notes)
    return output


def reason(out: Path, source: Source, settings: dict[str, Any] = SETTINGS, *, degrade: bool = False) -> str | None:
    with Manifest(out) as manifest:
        return manifest.reason(source, settings, degrade=degrade)


def test_done_is_done_until_something_changes(tmp_path: Path, photo: Source) -> None:
    out = tmp_path / "out"
    assert reason(out, photo) == "new"
    output = do(out, photo)
    assert output.name == "a-colorized.png"
    assert reason(out, photo) is None
    assert reason(out, photo, {**SETTINGS, "size": 768}) == "settings"
    output.write_bytes(b"cut")
    assert reason(out, photo) == "output_missing"
    output.unlink()
    assert reason(out, photo) == "output_missing"
    do(out, photo)
    os.utime(photo.path, ns=(1, 1))
    assert reason(out, photo) == "input_changed"


def test_the_last_word_counts_and_a_failure_is_tried_again(tmp_path: Path, photo: Source) -> None:
    out = tmp_path / "out"
    do(out, photo)
    with Manifest(out) as manifest:
        manifest.add_failed(photo, "cut short")
    assert reason(out, photo) == "failed"
    assert do(out, photo).name == "a-colorized.png"
    assert reason(out, photo) is None


def test_a_smaller_size_is_done_again_once_memory_is_expected_and_an_exact_rewrite_is_not(
    tmp_path: Path, photo: Source
) -> None:
    out = tmp_path / "out"
    do(out, photo, used={"rewrite": "fold", "size": 480, "batch": 1})
    assert reason(out, photo) == "degraded"
    assert reason(out, photo, degrade=True) is None
    do(out, photo, used={"rewrite": "fold", "size": 512, "batch": 1})
    assert reason(out, photo) is None


def test_a_tree_that_was_moved_is_still_done(tmp_path: Path, photo: Source) -> None:
    do(tmp_path / "out", photo)
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = Source(tmp_path / "moved" / "a.png", Path())
    assert reason(tmp_path / "out", moved) is None
    os.utime(moved.path, ns=(1, 1))
    assert reason(tmp_path / "out", moved) == "new"


def test_two_photos_of_one_name_keep_two_outputs_across_runs(tmp_path: Path, photo: Source) -> None:
    other = Source(tmp_path / "other" / "a.webp", Path())
    other.path.parent.mkdir()
    other.path.write_bytes(b"other")
    assert [do(tmp_path / "out", source).name for source in (photo, other, photo, other)] == [
        "a-colorized.png", "a-colorized-2.png", "a-colorized.png", "a-colorized-2.png",
    ]  # fmt: skip


@pytest.mark.parametrize("kept", range(1, 40, 3))
def test_a_line_cut_anywhere_is_not_claimed_and_costs_no_other(kept: int, tmp_path: Path, photo: Source) -> None:
    out = tmp_path / "out"
    do(out, photo)
    whole = (out / NAME).read_bytes()
    line = whole.splitlines()[-1]
    (out / NAME).write_bytes(whole + line.replace(b"a.png", b"b.png")[:kept])
    assert reason(out, photo) is None
    second = Source(photo.path.with_name("b.png"), Path())
    second.path.write_bytes(b"photo")
    assert reason(out, second) == "new"
    do(out, second)
    assert reason(out, second) is reason(out, photo) is None


@pytest.mark.parametrize(
    "line",
    [
        b"\0\0\0", b"[]", b"{}", b'{"input": 3}', b'{"settings": "x"}', b"\xff\xfe", b'{"input": "/x", "output": 1}',
        b'{"input": "/x", "output": "../../x", "size_bytes": 1, "mtime_ns": 1, "output_bytes": 1}', b"{" * 100_000,
    ],
)  # fmt: skip
def test_lines_that_are_not_ours_are_passed_over(line: bytes, tmp_path: Path, photo: Source) -> None:
    out = tmp_path / "out"
    do(out, photo)
    with (out / NAME).open("ab") as file:
        file.write(line + b"\n")
    assert reason(out, photo) is None


@pytest.mark.parametrize("output", ["../x.png", "a\0.png", "\ud800.png"])
def test_an_output_that_no_file_can_be_is_passed_over(output: str, tmp_path: Path, photo: Source) -> None:
    out = tmp_path / "out"
    do(out, photo)
    record = {"input": str(photo.path), "output": output, "size_bytes": 1, "mtime_ns": 1, "output_bytes": 1}
    with (out / NAME).open("a") as file:
        file.write(json.dumps(record) + "\n")
    assert reason(out, photo) is None


def test_one_run_at_a_time(tmp_path: Path, photo: Source) -> None:
    with Manifest(tmp_path / "out"), pytest.raises(UsageError, match="Another run is writing"):
        Manifest(tmp_path / "out")
    assert reason(tmp_path / "out", photo) == "new"


@pytest.fixture
def small_files() -> Iterator[int]:
    """A file may grow to so many bytes here and no further, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, before[1]))
    try:
        yield 400
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_line_that_does_not_fit_is_taken_back_whole(tmp_path: Path, photo: Source, small_files: int) -> None:
    with Manifest(tmp_path / "out") as manifest:
        manifest.add_failed(photo, "no reason")
        with pytest.raises(OSError, match=r".") as refused:
            manifest.add_failed(photo, "no reason " * 50)
        assert refused.value.errno in (errno.EFBIG, errno.ENOSPC)
    content = (tmp_path / "out" / NAME).read_bytes()
    assert 0 < len(content) <= small_files
    assert all(json.loads(line)["failed"] for line in content.splitlines())
