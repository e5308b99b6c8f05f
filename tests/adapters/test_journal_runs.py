"""Measured runs on disk: kept over restarts, bounded, and no reason to stop where they are damaged."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuwatch.adapters.journal import runs as journal_runs
from gpuwatch.adapters.journal.runs import read_learned
from gpuwatch.adapters.journal.writing import Journal
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.cli import main
from gpuwatch.texts import render
from tests.core.learned.samples import AT, run


def kept(path: Path, *sides: int) -> None:
    journal = Journal(path, lambda words: pytest.fail(render(words)), clock=lambda: AT)
    journal([run(side, at=number) for number, side in enumerate(sides)], Snapshot())
    journal.close()


def test_what_was_learned_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    kept(path, 512, 768)
    kept(path, 1024)
    (known,) = read_learned(path).every()
    assert list(known.runs) == [run(512, at=0), run(768, at=1), run(1024, at=0)]


def test_rows_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    kept(path, 512, 768, 1024)
    with closing(sqlite3.connect(path)) as connection, connection:
        ((good,),) = connection.execute("SELECT body FROM runs LIMIT 1").fetchall()
        value = json.loads(good)
        for body in (
            "", "[]", "{", "null", "x" * 100_000, "[" * 9000, json.dumps({**value, "peak_bytes": "much"}),
            json.dumps({**value, "peak_bytes": -1}), json.dumps({**value, "bound": "sideways"}),
            json.dumps({**value, "at": "2026-11-21T00:00:00"}), json.dumps({**value, "ran": None}),
            json.dumps({**value, "ran": {**value["ran"], "pixels": 10**30}}), b"\xff\x00",
            *(json.dumps({**value, "ran": {**value["ran"], "sized": {**value["ran"]["sized"], **wrong}}})
              for wrong in ({"sizes": {"width": "x"}}, {"sizes": {"width": 0}}, {"settings": {"a": 1}}, {"sizes": []})),
        ):  # fmt: skip
            connection.execute("INSERT INTO runs VALUES ('', '', 0, '', 0, ?)", (body,))
    assert [len(known.runs) for known in read_learned(path).every()] == [3]


def test_no_journal_a_damaged_one_and_one_from_before_teach_nothing(tmp_path: Path) -> None:
    damaged, older = tmp_path / "damaged.db", tmp_path / "older.db"
    damaged.write_bytes(b"SQLite format 3\0" + bytes(5000))
    with closing(sqlite3.connect(older)) as connection, connection:
        connection.execute("CREATE TABLE incidents (id TEXT)")
    for path in (None, tmp_path / "none.db", tmp_path, damaged, older):
        assert not read_learned(path).kinds


def test_the_oldest_runs_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_runs, "MOST_RUNS", 5)
    path = tmp_path / "journal.db"
    for _ in range(3):
        kept(path, 512, 768, 1024)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (5,)


def test_runs_age_as_the_rest_of_the_journal_does(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    kept(path, 512)
    later = Journal(path, lambda words: pytest.fail(render(words)), clock=lambda: datetime(2027, 11, 21, tzinfo=UTC))
    later.close()
    assert not read_learned(path).kinds


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "learned", "zzz", "--size", "512"], "zzz names no kind of job"),
        (["predict", "learned", "", "--size", "512"], "at least 3 sizes"),
        (["predict", "learned", "a", "--size", "0"], "no size of a picture"),
        (["predict", "learned", "a", "--size", "9x9x9"], "no size of a picture"),
        (["predict", "learned", "a", "--size", "512", "--batch", "-1"], "write a number from 1 to"),
        (["predict", "learned", "a"], "--size is missing"),
        (["fit", "learned", "zzz", "--gpu-memory", "8GiB"], "zzz names no kind of job"),
    ],
)
def test_what_cannot_be_answered_is_said(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal.db"
    kept(path, 512, 768)
    try:
        code = main([*arguments, "--journal", str(path)])
    except SystemExit as end:
        code = end.code
    assert code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["predict", "learned"], ["fit", "learned", "a", "--gpu-memory", "8GiB"]])
def test_a_damaged_journal_is_no_empty_one(verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"no journal at all" * 100)
    assert main([*verb, "--journal", str(path)]) == 2
    assert "cannot be read as a journal" in capsys.readouterr().err
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE other (a)")
    assert main(["predict", "learned", "--journal", str(tmp_path / "other.db")]) == 0, "an older journal has no runs"


def test_the_page_says_what_it_rests_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal.db"
    assert main(["predict", "learned", "--journal", str(path)]) == 0
    assert "Nothing is known yet" in capsys.readouterr().err
    kept(path, 512, 768, 1024)
    assert main(["predict", "learned", "--journal", str(path)]) == 0
    told = capsys.readouterr().out
    assert "GWPainter (brush.safetensors)" in told
    assert "3 jobs measured here, 0.26 to 1.05 megapixels, within 2 %" in told
    assert main(["predict", "learned", told[:8], "--size", "900", "--gpu-memory", "8GiB", "--journal", str(path)]) == 0
    assert "the whole process" in capsys.readouterr().out
    assert main(["fit", "learned", told[:8], "--gpu-memory", "3GiB", "--journal", str(path)]) == 0
    assert "megapixels (8" in capsys.readouterr().out
