"""The journal loses nothing and repeats nothing, whatever ends gpuwatch, and whatever is wrong with it never stops the watching."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.incident_json import incident_from_json, incident_to_json
from gpuwatch.adapters.journal import writing
from gpuwatch.adapters.journal.reading import read_incidents
from gpuwatch.adapters.journal.writing import Journal
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.sources import Place
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, FailureCounted, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import JobEnded, LogChunk, LogResumed, Tick
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.texts import render

AT = datetime(2026, 11, 21, tzinfo=UTC)
MATCHER = Matcher(load_rules())
OOM = b"got prompt\nloading\n!!! Exception during processing !!! CUDA error: out of memory\nPrompt executed in 0.1 seconds\n"
SEEN = Snapshot()


def events_of(data: bytes = OOM, source: str = "comfyui.log", days: float = 0) -> list[Event]:
    engine = Engine(MATCHER.rules, shows_records=False, before_lines=5, ready=MATCHER)
    at = AT + timedelta(days=days)
    return [*engine.feed(LogChunk(at, source, data, place="here")), *engine.end(at)]


OPENED: list[Journal] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


class Kept:
    """A journal in a folder of its own, and what it said."""

    def __init__(self, folder: Path, days: float = 0) -> None:
        self.said: list[str] = []
        self.path = folder / "state" / "journal.db"
        self.journal = Journal(
            self.path, lambda words: self.said.append(render(words)), clock=lambda: AT + timedelta(days=days)
        )
        OPENED.append(self.journal)

    def ids(self, **wanted: Any) -> list[str]:
        return [kept.incident.id for kept in read_incidents(self.path, **wanted)]


def test_an_incident_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    events = events_of()
    kept.journal(events, SEEN)
    incident = [event.incident for event in events if isinstance(event, IncidentChanged)][-1]
    (read,) = read_incidents(kept.path)
    assert read.failures == 1
    told = incident_from_json(json.loads(json.dumps(incident_to_json(incident))))
    assert read.incident == told
    assert (told.id, told.title, told.before) == (incident.id, incident.title, ("got prompt", "loading"))
    assert told.diagnosis is not None
    assert incident.diagnosis is not None
    assert render(told.diagnosis.cause, "zh") != render(told.diagnosis.cause, "en")
    assert [render(line) for line in told.diagnosis.evidence] == [render(line) for line in incident.diagnosis.evidence]
    assert [fix.action for fix in told.diagnosis.fixes] == [fix.action for fix in incident.diagnosis.fixes]


def test_what_was_before_we_came_is_not_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    engine = Engine(MATCHER.rules, ready=MATCHER)
    kept.journal(engine.feed(LogChunk(AT, "log", OOM, fresh=False)), SEEN)
    assert kept.ids() == []


def test_jobs_are_kept_and_counted_as_rows(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.journal([JobEnded(AT, "s", "j", "error")], SEEN)
    with closing(sqlite3.connect(kept.path)) as connection:
        assert connection.execute("SELECT server, job_id, outcome FROM jobs").fetchall() == [("s", "j", "error")]
    assert (kept.journal.rows_written, kept.journal.write_errors, kept.journal.oldest_at) == (1, 0, AT)


def test_it_is_asked_by_time_label_and_beginning(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for days in (0, 1, 2):
        kept.journal(events_of(source=f"log{days}", days=days), SEEN)
    assert len(kept.ids()) == 3
    assert len(kept.ids(since=AT + timedelta(hours=1))) == 2
    assert kept.ids(label="host_oom") == []
    newest = kept.ids()[0]
    assert kept.ids(id_begins=newest[:6]) == [newest]


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_it_loses_none_and_counts_none_twice(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    log, path = tmp_path / "comfyui.log", tmp_path / "journal.db"
    log.write_bytes(b"begin\n")
    written = 0
    written += write_failures(log, chance, written)
    with child(log, path, "--from-start") as first:
        run(first, log, path, steps=chance.randint(2, 5))
    for _ in range(3):
        written += write_failures(log, chance, written)
        with child(log, path) as next_one:
            run(next_one, log, path, steps=chance.randint(1, 4))
    with log.open("ab") as file:
        file.write(b"the end\n")
    with child(log, path) as last:
        run(last, log, path, steps=1000)
    assert sum(kept.failures for kept in read_incidents(path)) == written


@contextmanager
def child(log: Path, path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A gpuwatch that waits at each commit; killed at the end of the block."""
    words = [sys.executable, "-m", "tests.adapters.journal_child", str(log), str(path), *options]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def run(process: subprocess.Popen[str], log: Path, path: Path, *, steps: int) -> None:
    """Let it take so many steps, a commit's begin and end being one each, or read to the end of the log."""
    assert process.stdin is not None
    assert process.stdout is not None
    while steps:
        word = process.stdout.readline()
        assert word, "it ended by itself"
        if word.strip() not in {"before", "after"}:
            continue
        steps -= 1
        if word.strip() == "after" and read_up_to(path) == log.stat().st_size:
            return
        if steps:
            process.stdin.write("\n")
            process.stdin.flush()


def read_up_to(path: Path) -> int:
    """How far the journal says that the log was read."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT place FROM places").fetchall()
    return int(json.loads(rows[0][0])[0]) if rows else 0


def write_failures(log: Path, chance: random.Random, before: int) -> int:
    """Append some failures, in pieces that end anywhere; how many."""
    failures = chance.randint(1, 4)
    with log.open("ab", buffering=0) as file:
        for number in range(before, before + failures):
            words = OOM.replace(b"loading", b"loading %d" % number)
            cut = chance.randint(0, len(words))
            file.write(words[:cut])
            file.write(words[cut:])
    return failures


def test_a_log_that_is_read_again_counts_only_what_is_new(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.journal.place_of("comfyui.log", "file:/comfyui.log")
    kept.journal(events_of(), SEEN)
    kept.journal.close()
    again = Kept(tmp_path)
    place = again.journal.place_of("comfyui.log", "file:/comfyui.log")
    assert place is not None
    assert (place.place, place.line, place.epoch) == ("here", 4, 0)
    engine = Engine(MATCHER.rules, shows_records=False, ready=MATCHER)
    engine.counted_before.update(again.journal.counted_before())
    engine.feed(LogResumed(AT, "comfyui.log", "file", 0, 0))
    events = [*engine.feed(LogChunk(AT, "comfyui.log", OOM)), *engine.feed(LogChunk(AT, "comfyui.log", OOM))]
    assert sum(event.failures for event in events if isinstance(event, FailureCounted)) == 1
    other = Kept(tmp_path / "other").journal
    assert other.place_of("comfyui.log", "file:/elsewhere/comfyui.log") is None


@pytest.mark.parametrize("damage", ["begin", "middle", "text"])
def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: str) -> None:
    kept = Kept(tmp_path)
    for number in range(50):
        kept.journal(events_of(source=f"log{number}"), SEEN)
    kept.journal.close()
    data = kept.path.read_bytes()
    kept.path.write_bytes(
        {"begin": b"x" * 4096 + data[4096:], "middle": data[:4096] + b"\xff" * 40_000, "text": b"not a journal"}[damage]
    )
    again = Kept(tmp_path)
    again.journal(events_of(source="new"), SEEN)
    again.journal(events_of(source="newer"), SEEN)
    assert any("damaged" in words for words in again.said), again.said
    assert len(list(kept.path.parent.glob("journal.db.damaged-*"))) >= 1
    assert len(again.ids()) >= 1


def test_a_disk_that_is_full_is_said_once_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path)
    connection = kept.journal._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    monkeypatch.setattr(writing, "_AGAIN_SECONDS", 0.0)
    for number in range(30):
        kept.journal(events_of(source=f"log{number}"), SEEN)
    assert len(kept.said) == 1
    assert "full" in kept.said[0]
    assert len(kept.ids()) < 30
    connection.execute("PRAGMA max_page_count = 100000")
    kept.journal(events_of(source="last"), SEEN)
    assert len(kept.ids()) == 31
    assert sum(each.failures for each in read_incidents(kept.path)) == 31
    assert "written again" in kept.said[1]


def test_a_second_one_keeps_no_incidents_and_says_so(tmp_path: Path) -> None:
    first, second = Kept(tmp_path), Kept(tmp_path)
    second.journal(events_of(), SEEN)
    assert first.ids() == []
    assert "another gpuwatch keeps the journal" in second.said[0]
    first.journal.close()
    assert Kept(tmp_path).journal.writes


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    kept = Kept(tmp_path)
    kept.journal(events_of(), SEEN)
    assert "there is no journal" in kept.said[0]


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.journal(events_of(), SEEN)
    files = [path for path in kept.path.parent.glob("*.db*") if path.suffix != ".lock"]
    assert kept.path in files
    assert not [path.name for path in files if path.stat().st_mode & 0o077]


def test_it_stays_within_its_age_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path)
    for number in range(40):
        kept.journal(events_of(source=f"log{number}", days=number), SEEN)
    kept.journal.close()
    aged = Kept(tmp_path, days=100)
    assert len(aged.ids()) == 30
    aged.journal.close()
    monkeypatch.setattr(writing, "_MOST_BYTES", 80_000)
    small = Kept(tmp_path, days=100)
    assert 0 < len(small.ids()) < 30
    newest: Incident = next(read_incidents(small.path)).incident
    assert newest.source == "log39"


@pytest.mark.parametrize("content", [None, b"", b"not a journal", b"SQLite format 3\0" + b"\xff" * 5000])
def test_reading_what_is_no_journal_says_so(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "journal.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"journal"):
        list(read_incidents(path))


def test_what_no_utf8_holds_and_no_64_bits_is_written_all_the_same(tmp_path: Path) -> None:
    engine, journal = Engine(MATCHER.rules, shows_records=False, ready=MATCHER), Journal(tmp_path / "journal.db", print)
    source = "\udcff.log"
    assert journal.place_of(source, f"file:/{source}") is None
    events = engine.feed(LogChunk(AT, source, b"CUDA out of memory. Tried to allocate 2.00 GiB\n", place="1"))
    events += engine.feed(Tick(AT + timedelta(minutes=1)))
    events.append(JobEnded(AT, "\ud800", "\ud800", "error", node_type="\ud800"))
    journal(events, SEEN)
    journal.close()
    (kept,) = read_incidents(journal.path)
    assert (kept.failures, journal.write_errors) == (1, 0)
    again = Journal(journal.path, print)
    assert again.place_of(source, f"file:/{source}") == Place("1", 1, 0)
    again.close()
