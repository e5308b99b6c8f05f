"""The log as the screen keeps it: rows from bytes, incidents at their rows, and looking through all of it."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gpuwatch.adapters.spool import BLOCK_BYTES, Spool
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged, RecordsRead
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import LogChunk, LogRestarted, LogResumed, Observation, SourceDown, Tick
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.faces.tui.entry import LONGEST_LINE_BYTES, tagged_lines
from gpuwatch.faces.tui.feed import Feed
from gpuwatch.faces.tui.histogram import histogram_rows
from gpuwatch.faces.tui.hunt import Hits, Hunt, Only, Sheet, Without
from gpuwatch.faces.tui.logbook import Logbook
from gpuwatch.faces.tui.search import Search
from gpuwatch.faces.tui.times import histogram, row_for
from gpuwatch.texts import text
from tests.faces.tui_story import AT, ILLEGAL, OOM, RULES

DEADLINE_SECONDS = 30.0


def book_of(
    *pieces: bytes, source: str = "a.log", folder: Path | None = None, now: list[float] | None = None
) -> Logbook:
    times = iter(now or [])
    book = Logbook(Spool(64 << 20, folder, tagged_lines), lambda: next(times, 1_000.0))
    for piece in pieces:
        book.take([LogChunk(AT, source, piece)])
    return book


def words_of(book: Logbook) -> list[str]:
    entries = [book.at(row) for row in range(book.first, book.end)]
    return [entry.words() for entry in entries if entry is not None]


def test_rows_are_the_same_however_the_bytes_were_cut() -> None:
    data = b"one\n\r 8%|#  | 1/12 [00:00<00:01, 6.65it/s]"
    data += b"\r42%|## | 5/12 [00:01<00:01, 6.65it/s]\rprinted over it\n\nlast \xe6\x98\xbe"
    chance = random.Random(5)  # noqa: S311 - the same cuts each time
    for _ in range(20):
        cuts = sorted(chance.sample(range(len(data)), 6))
        pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        book = book_of(*pieces)
        assert words_of(book) == ["one", "printed over it", ""]
        half = book.half()
        assert half is not None
        assert half.words().startswith("last")


def test_a_line_of_bars_is_its_last_frame_and_an_open_bar_no_line() -> None:
    frames = b"".join(b"\r%3d%%|###   | %d/100 [00:01<00:01, 6.65it/s]" % (n, n) for n in range(100))
    book = book_of(frames)
    assert book.half() is None
    assert len(book) == 0
    assert book.bars()[0][1].startswith(" 99%")
    book.take([LogChunk(AT, "a.log", b"\n")])
    (shown,) = words_of(book)
    assert shown.startswith(" 99%")
    assert shown.count("%") == 1


def test_a_bar_that_runs_for_hours_takes_no_room() -> None:
    book = book_of()
    for number in range(20_000):
        book.take(
            [LogChunk(AT, "a.log", b"\r%3d%%|###   | %d/20000 [00:01<00:01, 6.65it/s]" % (number // 200, number))]
        )
    assert len(book._sources["a.log"].half) < 8 * 1024
    book.take([LogChunk(AT, "a.log", b"\rdone at last\n")])
    assert words_of(book) == ["done at last"]


def test_what_only_looks_like_a_bar_is_none() -> None:
    assert book_of(b"\x00\xff 7%|garbage\xfe with no end", b"100%|").bars() == []


def test_a_line_without_an_end_is_cut_and_the_next_one_is_whole() -> None:
    book = book_of(*[b"x" * BLOCK_BYTES] * 40, b"\nnext\n")
    assert book.spool.end <= 2 * LONGEST_LINE_BYTES
    first, second = words_of(book)
    assert first.startswith("xxx")
    assert first.endswith(" …")
    assert second == "next"


def test_several_logs_do_not_mix_their_lines() -> None:
    book = Logbook()
    book.take(
        [LogChunk(AT, "a", b"a1\na"), LogChunk(AT, "b", b"b1\n"), LogChunk(AT, "a", b"2\n"), LogChunk(AT, "b", b"b2")]
    )
    book.take([SourceDown(AT, "b", "file", text("stopped"))])
    assert [(book.source_of(row), entry) for row, entry in enumerate(words_of(book))] == [
        ("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"),
    ]  # fmt: skip


@pytest.mark.parametrize("looked_at", [True, False])
def test_an_incident_stands_at_the_row_that_tells_it(looked_at: bool) -> None:
    observations: list[Observation] = [
        LogChunk(AT, "a", b"first\nbefore\r" + OOM + b"after\nPrompt executed in 1.00 seconds\n"),
        LogChunk(AT, "b", b"other\n" * 3),
        LogRestarted(AT, "a"),
        LogChunk(AT, "a", b"anew\n" + ILLEGAL),
        LogResumed(AT, "b", "file", 500, 1),
        LogChunk(AT, "b", b"x\n" + OOM),
    ]
    book, engine = Logbook(), Engine(RULES, shows_records=looked_at)
    incidents: dict[str, Incident] = {}
    for observation in observations:
        book.take([observation])
        incidents.update(
            {e.incident.id: e.incident for e in engine.feed(observation) if isinstance(e, IncidentChanged)}
        )
    incidents.update({e.incident.id: e.incident for e in engine.end(AT) if isinstance(e, IncidentChanged)})
    for incident in incidents.values():
        book.mark(incident)
    told = {row: incident.rule.id for row, incident in book.marks.items()}
    assert told.items() >= {1: "memory", 8: "kernel"}.items()
    assert words_of(book)[8].startswith("CUDA error")


def test_an_incident_on_an_unfinished_line_waits_for_it() -> None:
    engine, book = Engine(RULES), book_of(b"a\n" + OOM.rstrip(), source="a")
    engine.feed(LogChunk(AT, "a", b"a\n" + OOM.rstrip()))
    (incident,) = [e.incident for e in engine.end(AT) if isinstance(e, IncidentChanged)][:1]
    book.mark(incident)
    assert book.marks == {}
    book.take([LogChunk(AT, "a", b"\n")])
    book.settle()
    assert list(book.marks) == [1]


def test_the_oldest_rows_go_with_their_marks() -> None:
    book = Logbook(Spool(2 * BLOCK_BYTES))
    book.take([LogChunk(AT, "a", OOM)])
    engine = Engine(RULES)
    (incident, *_rest) = [
        e.incident for e in [*engine.feed(LogChunk(AT, "a", OOM)), *engine.end(AT)] if isinstance(e, IncidentChanged)
    ]
    book.mark(incident)
    assert book.place_of(incident.id) == 0
    book.take([LogChunk(AT, "a", b"later\n" * 60_000)])
    book.settle()
    assert book.marks == {}
    assert book.place_of(incident.id) is None
    assert book.at(0) is None
    assert book.first > 0
    assert words_of(book)[0] == "later"


def test_tags_are_counted_by_line_not_by_word() -> None:
    assert tagged_lines(
        b"[ERROR] an ERROR: twice\nfine\n2026-01-01 WARNING: x\nno ERRORS here\n" + b"x" * 99 + b"ERROR: far\n"
    ) == (1, 1)


# -- looking through it ----------------------------------------------------------------------------------------------------


def hunted(book: Logbook, wanted: str | None, unwanted: str | None = None) -> Hunt:
    news = threading.Event()
    hunt = Hunt(
        book.spool, Search.of(wanted) if wanted else None, Search.of(unwanted) if unwanted else None, tell=news.set
    )
    hunt.start()
    while not hunt.done:
        assert news.wait(DEADLINE_SECONDS)
        news.clear()
    return hunt


def rows(hunt: Hunt) -> list[int]:
    return [hunt.hits.at(place) for place in range(len(hunt.hits))]


@pytest.mark.parametrize("typed", ["needle", "re:needle", "re:n.{4}e$"])
def test_every_line_is_looked_at_also_those_to_come(typed: str) -> None:
    lines = [b"hay " * (n % 90) + (b"Nee\x1b[1mdle" if n % 7 == 0 else b"") for n in range(20_000)]
    book = book_of(b"".join(line + b"\n" for line in lines))
    hunt = hunted(book, typed)
    assert rows(hunt) == list(range(0, 20_000, 7))
    assert hunt.hits.rank(700) == 100
    assert hunt.hits.holds(700)
    assert not hunt.hits.holds(701)
    more = threading.Event()
    hunt._tell = more.set
    hunt._told_at = 0.0
    book.take([LogChunk(AT, "a.log", b"no\nneedle\n")])
    hunt.wake()
    assert more.wait(DEADLINE_SECONDS)
    assert rows(hunt)[-1] == 20_001
    hunt.stop()


def test_with_and_without() -> None:
    book = book_of(b"".join(b"%d %s\n" % (n, b"odd" if n % 2 else b"even") for n in range(1_000)))
    only = hunted(book, "odd", "99")
    sheet = Only(book, only.hits)
    assert sheet.count == 486
    assert [sheet.row(place) for place in range(3)] == [1, 3, 5]
    assert sheet.rank(6) == 3
    without: Sheet = Without(book, hunted(book, None, "re:^.?.?[02468] ").hits)
    assert without.count == 500
    assert [without.row(place) for place in range(500)] == list(range(1, 1_000, 2))
    assert all(without.rank(without.row(place)) == place for place in range(500))


def test_capitals_ask_for_themselves_and_other_scripts_are_found() -> None:
    book = book_of("显存不足 Émile\nÉMILE\nemile\n".encode())
    assert rows(hunted(book, "显存")) == [0]
    assert rows(hunted(book, "émile")) == [0, 1]
    assert rows(hunted(book, "EMILE")) == []
    assert rows(hunted(book, "emile")) == [2]


def test_a_pattern_that_takes_too_long_is_given_up() -> None:
    hunt = hunted(book_of((b"a" * 60 + b"b\n") * 60), "re:(a|aa)+$")
    assert hunt.cut_short
    assert len(hunt.hits) == 0


def test_a_pattern_sees_one_line_at_a_time() -> None:
    book = book_of(b"a\nb\nab\n a\n")
    assert rows(hunted(book, r"re:a\s*b")) == [2]
    assert rows(hunted(book, "re:^a$")) == [0]
    assert rows(hunted(book, "re:$")) == [0, 1, 2, 3]


@pytest.mark.parametrize("typed", ["re:(", "re:", "re:[", "re:(?<=a+)*)"])
def test_what_is_no_pattern_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="pattern cannot be read"):
        Search.of(typed)


def test_hits_found_at_both_ends_are_in_order_and_the_oldest_go() -> None:
    hits = Hits()
    for first in range(90, -1, -10):
        hits.add_before(list(range(first, first + 10, 2)))
    hits.add_after([100, 105])
    everything = [*range(0, 100, 2), 100, 105]
    assert [hits.at(place) for place in range(len(hits))] == everything
    assert all(hits.rank(row) == sum(one < row for one in everything) for row in range(-1, 110) if row >= 0)
    hits.forget_before(51)
    assert [hits.at(place) for place in range(len(hits))] == [one for one in everything if one >= 51]
    hits.forget_before(103)
    assert [hits.at(place) for place in range(len(hits))] == [105]


# -- time ------------------------------------------------------------------------------------------------------------------


def stamped(count: int, first: int = 0) -> bytes:
    return b"".join(
        b"2026-01-15 %02d:%02d:%02d - %s - line %d\n"
        % (s // 3600, s // 60 % 60, s % 60, b"ERROR" if s % 60 == 0 else b"INFO", s)
        for s in range(first, first + count)
    )


def test_going_to_a_time_that_lines_tell() -> None:
    book = book_of(stamped(20_000))
    assert book.stamped
    assert row_for(book, "01:00") == 3_600
    assert row_for(book, "2:00:05") == 7_205
    assert row_for(book, "23:00") == 19_999
    assert row_for(book, "42") == 41
    assert row_for(book, "99999999999999999999") == 19_999


def test_going_to_a_time_at_which_lines_came() -> None:
    import time  # noqa: PLC0415

    now = time.time()
    book = book_of(b"a\n" * 10, b"b\n" * 10, b"c\n" * 10, now=[now - 600, now - 300, now - 1])
    assert row_for(book, "-8m") == 10
    assert row_for(book, "-20s") == 20
    assert row_for(book, "-1h") == 0


@pytest.mark.parametrize("typed", ["noon", "25:00", "10:99", "-", "10:42:", "١٢"])
def test_what_is_no_place_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="Type a line's number"):
        row_for(book_of(b"a\n"), typed)


@pytest.mark.parametrize("count", [600, 60_000])
def test_the_histogram_counts_by_time_and_level(count: int) -> None:
    known = histogram(book_of(stamped(count)), 20)
    assert known is not None
    assert known.stamped
    assert known.begin == 0
    assert sum(one.lines for one in known.stretches) == count
    assert sum(one.errors for one in known.stretches) == count // 60
    shown = ["".join(words for words, _ in line.spans) for line in histogram_rows(known, 20)]
    assert len(shown) == 5
    assert "✗" in shown[3]
    assert shown[4].strip().startswith("00:00:00")


@pytest.mark.parametrize("count", [600, 60_000])
def test_the_histogram_tells_where_the_failures_are(count: int) -> None:
    book = book_of(stamped(count))
    read = Engine(RULES).feed(LogChunk(AT, "a.log", OOM))
    incident = next(event.incident for event in read if isinstance(event, IncidentChanged))
    book.mark(replace(incident, line=count * 3 // 4 + 5))
    known = histogram(book, 20)
    assert known is not None
    (place,) = (number for number, one in enumerate(known.stretches) if one.failures)
    assert place == pytest.approx(15, abs=1)
    shown = ["".join(words for words, _ in line.spans) for line in histogram_rows(known, 20)]
    assert shown[3][place + 1] == "◂"


def test_no_histogram_of_no_time() -> None:
    assert histogram(book_of(b"a\nb\n"), 20) is None
    assert histogram(book_of(), 20) is None


# -- the feed --------------------------------------------------------------------------------------------------------------


def test_the_feed_wakes_the_screen_once_and_seldom_for_time_alone() -> None:
    woken: list[None] = []
    feed = Feed(lambda: woken.append(None))
    for _ in range(5):
        feed([RecordsRead(AT, "comfyui.log", "file", (), 3, 0, b"")], Snapshot(at=AT))
    assert len(woken) == 1
    feed.take()
    feed([Tick(AT)], Snapshot(at=AT))
    assert len(woken) == 1
    feed([RecordsRead(AT, "comfyui.log", "file", (), 3, 0, b"")], Snapshot(at=AT))
    assert len(woken) == 2
