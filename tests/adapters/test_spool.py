"""Lines on disk: every line is found again, the ring forgets the oldest, a full disk is survived."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from gpuwatch.adapters import spool as spool_module
from gpuwatch.adapters.spool import BLOCK_BYTES, Gone, Spool

LONG = 1 << 20


def filled(lines: list[bytes], most_bytes: int, folder: Path, piece: int = 7) -> Spool:
    spool = Spool(most_bytes, folder)
    for place in range(0, len(lines), piece):
        spool.append(b"".join(line + b"\n" for line in lines[place : place + piece]))
    return spool


def some_lines(count: int, seed: int) -> list[bytes]:
    chance = random.Random(seed)  # noqa: S311 - the same lines each time
    return [
        b"%d " % number + bytes(chance.choices(b"abc \x00\xff\r", k=chance.choice([0, 3, 80, 80, 200, 5000])))
        for number in range(count)
    ]


def test_every_line_is_found(tmp_path: Path) -> None:
    lines = [*some_lines(600, 1), b"x" * (3 * BLOCK_BYTES), b"", b"after"]
    spool = filled(lines, 64 << 20, tmp_path)
    assert (spool.rows, spool.first_row) == (len(lines), 0)
    for row, line in enumerate(lines):
        assert spool.line(row, LONG) == (line, len(line))
    assert spool.line(600, 10) == (b"x" * 10, 3 * BLOCK_BYTES)
    for row in range(0, len(lines), 13):
        assert spool.row_at(spool.line_start(row)) == row
    assert spool.row_at(spool.end) == len(lines)
    with pytest.raises(Gone):
        spool.line(len(lines), LONG)
    assert sum(rows for _row, rows, _e, _w in spool.tallies()) == len(lines)
    assert not list(tmp_path.iterdir()), "the file has no name"


def test_the_ring_keeps_the_newest_and_says_what_is_gone(tmp_path: Path) -> None:
    lines = some_lines(4000, 2)
    spool = filled(lines, 4 * BLOCK_BYTES, tmp_path)
    assert 0 < spool.first_row < spool.rows == len(lines)
    for row in range(spool.first_row, spool.rows):
        assert spool.line(row, LONG)[0] == lines[row]
    kept = sum(len(line) + 1 for line in lines[spool.first_row :])
    assert 2 * BLOCK_BYTES < kept <= 4 * BLOCK_BYTES
    with pytest.raises(Gone):
        spool.line(spool.first_row - 1, LONG)
    with pytest.raises(Gone):
        spool.read(0, 10)


def test_a_full_disk_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MEMORY_BYTES", 4 * BLOCK_BYTES)
    lines = some_lines(4000, 3)
    write, room = os.pwrite, [10 * BLOCK_BYTES + 100]

    def until_full(descriptor: int, data: bytes, place: int) -> int:
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        taken = write(descriptor, data[: room[0]], place)
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "pwrite", until_full)
    spool = filled(lines, 64 << 20, tmp_path)
    assert spool.trouble == "No space left on device"
    assert spool.rows == len(lines)
    assert spool.first_row > 0
    for row in range(spool.first_row, spool.rows):
        assert spool.line(row, LONG)[0] == lines[row]


def test_lines_from_before_the_disk_was_full_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = some_lines(100, 4)
    spool = filled(lines, 64 << 20, tmp_path)

    def full(*_words: object) -> int:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(os, "pwrite", full)
    spool.append(b"one more\n")
    assert spool.first_row == 0
    assert [spool.line(row, LONG)[0] for row in range(101)] == [*lines, b"one more"]


def test_no_folder_to_write_in(tmp_path: Path) -> None:
    spool = Spool(1 << 20, tmp_path / "missing")
    assert spool.trouble
    spool.append(b"a\nb\n")
    assert spool.line(1, LONG) == (b"b", 1)


def test_levels_are_counted_by_block(tmp_path: Path) -> None:
    spool = Spool(1 << 24, tmp_path, lambda piece: (piece.count(b"E"), piece.count(b"W")))
    spool.append(b"W\n" * 10 + b"x" * BLOCK_BYTES + b"\nE\n")
    assert spool.levels(0, 5) == (0, 10)
    assert spool.levels(11, 12) == (1, 0)
    assert spool.levels(0, 12) == (1, 10)


@pytest.mark.parametrize("named", [True, False])
def test_where_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    if named:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(spool_module.tempfile, "tempdir", None)
        assert spool_module.spool_folder() == tmp_path
    else:
        monkeypatch.delenv("TMPDIR", raising=False)
        assert spool_module.spool_folder().is_dir()
