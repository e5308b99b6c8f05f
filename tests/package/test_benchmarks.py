"""The benchmarks' own parts, and the page that shows a run of them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from benchmarks.__main__ import BEGIN, END, PARTS, main, write_pages
from benchmarks.logs import write_log
from benchmarks.measuring import Sample, Table, machine_line, run
from benchmarks.scanning import LITERALS

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import FailureCounted
from gpuwatch.core.observations import LogChunk

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
TWIN = ROOT / "docs" / "benchmarks.zh-CN.md"


def test_the_log_is_the_same_on_every_run(tmp_path: Path) -> None:
    first = write_log(tmp_path / "first.log", 200_000, failure_ratio=0.01)
    again = write_log(tmp_path / "again.log", 200_000, failure_ratio=0.01)
    other = write_log(tmp_path / "other.log", 200_000, failure_ratio=0.01, seed=2)
    content = first.path.read_bytes()
    assert content == again.path.read_bytes()
    assert content != other.path.read_bytes()
    assert (first.size_bytes, first.lines) == (len(content), content.count(b"\n"))
    assert first.size_bytes >= 200_000
    assert first.failures > 0
    assert b"\r" in content


def test_a_log_without_failures_has_none_of_the_literals(tmp_path: Path) -> None:
    calm = write_log(tmp_path / "calm.log", 200_000, failure_ratio=0)
    failing = write_log(tmp_path / "failing.log", 200_000, failure_ratio=1)
    assert calm.failures == 0
    assert not [literal for literal in LITERALS if literal.encode() in calm.path.read_bytes()]
    assert [literal for literal in LITERALS if literal.encode() in failing.path.read_bytes()]


def test_the_engine_finds_the_failures_that_the_log_was_given(tmp_path: Path) -> None:
    log = write_log(tmp_path / "some.log", 300_000, failure_ratio=0.02)
    engine = Engine(load_rules())
    at = datetime(2026, 1, 1, tzinfo=UTC)
    events = [*engine.feed(LogChunk(at, "some.log", log.path.read_bytes())), *engine.end(at)]
    labels = {event.label: event for event in events if isinstance(event, FailureCounted)}
    counted = sum(event.failures for event in events if isinstance(event, FailureCounted))
    assert {"cuda_oom", "xid", "dtype_mismatch"} <= labels.keys()
    assert counted == pytest.approx(log.failures, rel=0.1)


def test_a_sample_tells_its_middle_and_its_ends() -> None:
    slow, fast = Sample((0.3, 0.2, 0.4)), Sample((0.1, 0.1, 0.1))
    assert str(slow) == "300.0 ms (200.0 ms..400.0 ms)"
    assert slow.over(fast).as_ratio() == "3x (2..4)"
    assert str(Sample((2.0,))) == "2.00 s (2.00 s..2.00 s)"


def test_a_table_is_markdown() -> None:
    assert str(Table("Head", ("a", "b"), (("1", "2"),), ("Note.",))) == (
        "### Head\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nNote."
    )


def test_the_machine_is_named_in_one_line() -> None:
    assert "cores" in machine_line()
    assert "\n" not in machine_line()


def test_a_child_is_timed_and_its_failure_is_told() -> None:
    ended = run([sys.executable, "-c", "print('done')"])
    assert ended.out == "done\n"
    assert ended.seconds > 0
    with pytest.raises(SystemExit, match="broken"):
        run([sys.executable, "-c", "import sys; sys.exit('broken')"])


def test_only_what_stands_between_the_marks_is_written_in_both_languages(tmp_path: Path) -> None:
    page, twin = tmp_path / "page.md", tmp_path / "page.zh-CN.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_pages(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert not twin.exists()
    twin.write_text(f"前\n{BEGIN}\n{END}\n后\n", "utf-8")
    write_pages(page, "newer")
    assert twin.read_text("utf-8") == f"前\n{BEGIN}\n\nnewer\n\n{END}\n后\n"
    twin.write_text("no marks\n")
    with pytest.raises(SystemExit, match="no lines"):
        write_pages(page, "newest")
    assert "newer" in page.read_text(), "neither is written where one cannot be"


def test_the_pages_of_both_languages_show_the_same_run() -> None:
    shown = [page.read_text("utf-8").partition(BEGIN)[2].partition(END)[0] for page in (PAGE, TWIN)]
    assert shown[0] == shown[1]


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nonsense"])
    words = capsys.readouterr().err
    assert all(part in words for part in PARTS)


def test_the_page_shows_a_run_and_how_to_repeat_it() -> None:
    page = PAGE.read_text()
    _, _, rest = page.partition(BEGIN)
    measured, end, _ = rest.partition(END)
    assert end
    headings = ("Scanning a calm log", "Following a log", "DDColor on the CPU", "DDColor's memory", "Starting")
    assert [heading for heading in headings if f"### {heading}" not in measured] == []
    assert "make bench" in page
    assert "make gpu" in page
    results = [path for path in (ROOT / "runner" / "measured").iterdir() if path.suffix == ".json"]
    assert results or "not measured yet" in page
