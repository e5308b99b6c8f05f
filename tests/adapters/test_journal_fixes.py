"""Fixes in the journal: every gpuwatch adds its own, and each is told to the others once."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gpuwatch.adapters.journal import fixes
from gpuwatch.adapters.journal.fixes import FixLedger, held_fix
from gpuwatch.adapters.journal.news import JournalNews
from gpuwatch.adapters.journal.reading import read_fixes
from gpuwatch.adapters.journal.writing import Journal
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event
from gpuwatch.core.observations import FixTried, JobEnded, JournalSeen, LogChunk
from gpuwatch.core.rules import RuleSet
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.texts import Text, render
from tests.adapters.test_journal import MATCHER, OOM

AT = datetime(2026, 11, 21, tzinfo=UTC)
TRIED = FixTried(
    AT, "i", "shrink_size", "applied", "127.0.0.1:8188", "DDColor_Colorize", {"model_input_size": 1280},
    {"model_input_size": 896}, "new", "failed",
)  # fmt: skip


class Said(list[str]):
    def __call__(self, words: Text) -> None:
        self.append(render(words))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


def test_what_one_adds_the_others_read_once_and_itself_never(path: Path) -> None:
    said = Said()
    one, two = FixLedger(path, said), FixLedger(path, said)
    one.add(TRIED)
    two.add(FixTried(AT, "j", "free_memory", "held"))
    (seen,) = two.read_on()
    assert seen == FixTried(**{name: getattr(TRIED, name) for name in TRIED.__slots__} | {"kept": True})
    assert [each.action for each in one.read_on()] == ["free_memory"]
    assert one.read_on() == two.read_on() == []
    assert FixLedger(path, said).read_on() == [], "what was there before is not told as new"
    assert [row[1:] for row in read_fixes(path, "i")] == [("shrink_size", "applied")]
    assert [row[1:] for row in read_fixes(path, "another id of it", "failed")] == [("shrink_size", "applied")]
    assert (one.rows_written, one.write_errors, said) == (1, 0, [])


def test_the_fix_that_held_for_a_job_is_found_as_long_as_it_is_the_last_word(path: Path) -> None:
    assert held_fix(path, "failed") is None, "there is no journal"
    ledger = FixLedger(path, Said())
    ledger.add(TRIED)
    assert held_fix(path, "failed") is None
    ledger.add(replace(TRIED, outcome="held"))
    assert held_fix(path, "failed") == replace(TRIED, outcome="held", kept=True)
    assert held_fix(path, "") is held_fix(path, "another") is None
    ledger.add(replace(TRIED, outcome="failed"))
    assert held_fix(path, "failed") is None
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE tries SET outcome = 'held', body = '[nonsense'")
    assert held_fix(path, "failed") is None


def test_what_others_told_is_not_written_again(path: Path) -> None:
    one, two = FixLedger(path, Said()), FixLedger(path, Said())
    one([TRIED], Snapshot())
    two([*two.read_on()], Snapshot())
    assert (two.rows_written, one.read_on(), len(read_fixes(path, "i"))) == (0, [], 1)


def test_beside_one_that_keeps_the_journal_and_many_at_once(path: Path) -> None:
    journal, reader, writers = (
        Journal(path, Said()),
        FixLedger(path, Said()),
        [FixLedger(path, Said()) for _ in range(6)],
    )
    threads = [threading.Thread(target=lambda w=w: [w.add(TRIED) for _ in range(5)]) for w in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for writer in writers:
        writer([], Snapshot())
    told = reader.read_on()
    journal.close()
    assert (len(told), sum(writer.rows_written for writer in writers)) == (30, 30)


def test_a_bounded_number_is_read_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixes, "_MOST_READ", 3)
    one, two = FixLedger(path, Said()), FixLedger(path, Said())
    for _ in range(7):
        one.add(TRIED)
    assert [len(two.read_on()) for _ in range(4)] == [3, 3, 1, 0]


def test_a_file_that_was_replaced_is_read_from_its_start(path: Path) -> None:
    one, two = FixLedger(path, Said()), FixLedger(path, Said())
    one.add(TRIED)
    assert len(two.read_on()) == 1
    for part in list(path.parent.glob("journal.db*")):
        part.rename(part.with_name(part.name.replace("journal", "damaged")))
    FixLedger(path, Said()).add(TRIED)
    assert len(two.read_on()) == 1


@pytest.mark.parametrize("content", [b"not a journal at all " * 99, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_cannot_be_written_is_said_once_and_written_later(
    path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixes, "_AGAIN_SECONDS", 0.0)
    path.parent.mkdir()
    path.write_bytes(content)
    said = Said()
    one = FixLedger(path, said)
    one.add(TRIED)
    one.add(TRIED)
    assert (len(said), one.rows_written, one.write_errors, one.read_on()) == (1, 0, 2, [])
    Journal(path, Said()).close()  # whoever keeps it moves a damaged one aside
    one([], Snapshot())
    assert (one.rows_written, len(read_fixes(path, "i"))) == (2, 2)


def test_rows_of_another_shape_are_passed_over(path: Path) -> None:
    one = FixLedger(path, Said())
    FixLedger(path, Said()).add(TRIED)
    row = ["x", "i", "", AT.isoformat(), "shrink_size", "held", "{}"]
    with closing(sqlite3.connect(path)) as connection, connection:
        for place, wrong in ((3, "soon"), (5, "perhaps"), (6, "["), (6, "[]"), (6, '{"before": 1}'), (3, None)):
            told = [*row]
            told[place] = wrong if wrong is not None else "2026-01-01"
            connection.execute(
                "INSERT INTO tries (writer, incident_id, failed_job_id, at, action, outcome, body) VALUES (?,?,?,?,?,?,?)",
                told,
            )
    assert next(each.incident_id for each in one.read_on()) == "i"
    assert one.read_on() == []


def test_a_journal_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            "CREATE TABLE fixes (incident_id TEXT NOT NULL, at TEXT NOT NULL, action TEXT NOT NULL, outcome TEXT NOT NULL);"
            "INSERT INTO fixes VALUES ('i', '2026-11-21T00:00:00+00:00', 'shrink_size', 'held'); PRAGMA user_version = 1;"
        )
    FixLedger(path, Said()).add(TRIED)
    assert [row[2] for row in read_fixes(path, "i")] == ["held", "applied"]


def test_one_of_a_later_version_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    said = Said()
    FixLedger(path, said).add(TRIED)
    assert "version 99" in said[0]


def test_how_the_journal_does_is_told_where_it_changed(path: Path) -> None:
    journal, ledger = Journal(path, Said(), clock=lambda: AT), FixLedger(path, Said())
    news, beside = JournalNews(ledger, journal, clock=lambda: AT), JournalNews(FixLedger(path, Said()))
    (first,) = news.look()
    assert isinstance(first, JournalSeen)
    assert (first.rows_written, first.oldest_at, first.kept) == (0, None, True)
    assert first.size_bytes > 0
    assert news.look() == []
    journal([JobEnded(AT, "s", "j", "success")], Snapshot())
    ledger.add(TRIED)
    (after,) = news.look()
    assert isinstance(after, JournalSeen)
    assert (after.rows_written, after.write_errors, after.oldest_at) == (2, 0, AT)
    told = beside.look()
    assert [type(each).__name__ for each in told] == ["FixTried", "JournalSeen"]
    assert isinstance(told[1], JournalSeen)
    assert told[1].kept is False
    assert Snapshot().after(after).journal == after
    journal.close()


@pytest.mark.parametrize("fix_first", [True, False])
def test_an_outcome_finds_the_incident_by_the_job_that_failed(fix_first: bool) -> None:
    """Another gpuwatch numbers the log's lines in its own way, so its incidents have other ids."""
    engine = Engine(MATCHER.rules, shows_records=False, ready=MATCHER)
    job = JobEnded(AT, "s", "failed", "error", "3", "X", None, "CUDA error: out of memory")
    held = FixTried(AT + timedelta(seconds=9), "theirs", "shrink_size", "held", failed_job_id="failed", kept=True)
    seen = Snapshot()
    steps = (
        [held, LogChunk(AT, "s", OOM, "comfyui"), job] if fix_first else [LogChunk(AT, "s", OOM, "comfyui"), job, held]
    )
    events: list[Event] = []
    for step in steps:
        events = engine.feed(step)
        for event in events:
            seen = seen.after(event)
    (incident,) = seen.incidents.values()
    assert (incident.job_id, incident.fix_outcome) == ("failed", "held")
    assert seen.tallies.fixes == {("shrink_size", "held"): 1}
    assert Engine(RuleSet(())).feed(held) == [held]
