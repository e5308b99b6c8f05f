"""Looking ahead changes nothing: the same bytes come out, in order, and the same incidents."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.scanning import Newlines, scanned, whole_lines
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged, RecordsRead
from gpuwatch.core.observations import LogChunk
from gpuwatch.errors import UsageError
from gpuwatch.texts import plain

AT = datetime(2026, 1, 1, tzinfo=UTC)
MATCHER = load_matcher()
RECORDINGS = sorted((Path(__file__).parents[1] / "data" / "recordings").rglob("*stderr*"))
FAILURE = (
    b"got prompt\n!!! Exception during processing !!! CUDA error: an illegal memory access was encountered\n"
    b'Traceback (most recent call last):\n  File "/opt/ComfyUI/execution.py", line 5, in execute\n'
    b"RuntimeError: CUDA error: an illegal memory access was encountered\n\nPrompt executed in 1.00 seconds\n"
)
PIECES = st.sampled_from(
    [
        FAILURE,
        FAILURE.replace(b"\n", b"\r\n"),
        b"\x1b[31m" + FAILURE,
        b"got prompt\nPrompt executed in 2.00 seconds\n",
        b"[2026-01-01 00:00:00.130] Total VRAM 8000 MB, total RAM 32000 MB\n",
        b"Set vram state; Total VRAM 8000 MB, total RAM 32000 MB\n",
        b"Processing interrupted\n",
        b" 10%|\xe2\x96\x88 | 1/10 [00:01<00:05, 1.0s/it]\r 20%|\xe2\x96\x88 | 2/10 [00:01<00:05, 1.0s/it]",
        b"Stopped server\n",
        b"x" * 70_000,
        b"\n" * 60,
        b"plain words\n",
        b"\r",
    ]
)


def told(chunks: list[bytes], threads: int, *, ahead: bool = True) -> tuple[int, list[tuple[object, ...]]]:
    engine = Engine(MATCHER.rules, shows_records=False, ready=MATCHER)
    events = []
    for data, scan in scanned(chunks, MATCHER, threads) if ahead else ((chunk, None) for chunk in chunks):
        events += engine.feed(LogChunk(AT, "log", data, scan=scan))
    events += engine.end(AT)
    incidents = {e.incident.id: e.incident for e in events if isinstance(e, IncidentChanged)}
    lines = sum(e.lines for e in events if isinstance(e, RecordsRead))
    return lines, [(i.line, i.rule.id, i.state, i.count, i.text, dict(i.facts)) for i in incidents.values()]


def slowly(chunks: list[bytes]) -> tuple[int, list[tuple[object, ...]]]:
    """Every record read, nothing skipped."""
    engine = Engine(MATCHER.rules, shows_records=True, ready=MATCHER)
    events = [event for chunk in chunks for event in engine.feed(LogChunk(AT, "log", chunk))] + engine.end(AT)
    incidents = {e.incident.id: e.incident for e in events if isinstance(e, IncidentChanged)}
    lines = sum(e.lines for e in events if isinstance(e, RecordsRead))
    return lines, [(i.line, i.rule.id, i.state, i.count, i.text, dict(i.facts)) for i in incidents.values()]


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=12), st.lists(st.integers(0, 4000), max_size=6))
def test_the_same_incidents_whatever_was_scanned_ahead(pieces: list[bytes], cuts: list[int]) -> None:
    log = b"".join(pieces)
    places = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    chunks = [log[begin:end] for begin, end in pairwise(places)]
    expected = slowly(chunks)
    assert told(chunks, 0) == expected
    assert told(chunks, 2) == expected
    assert told(chunks, None, ahead=False) == expected


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.parent.name}-{path.parent.name}")
def test_recordings_tell_the_same(path: Path) -> None:
    log = path.read_bytes()
    chunks = [log[at : at + 3000] for at in range(0, len(log), 3000)]
    assert told(chunks, 2) == slowly(chunks)


@given(st.lists(st.sampled_from([b"", b"a", b"ab\n", b"\n", b"\n\nb", b"c\nd"])))
def test_whole_lines_are_the_same_bytes(chunks: list[bytes]) -> None:
    cut = list(whole_lines(chunks))
    assert b"".join(piece for piece, _ in cut) == b"".join(chunks)
    assert all(piece.endswith(b"\n") for piece, whole in cut if whole)
    assert all(b"\n" not in piece for piece, whole in cut if not whole)


def test_a_line_without_end_is_given_in_pieces() -> None:
    pieces = list(whole_lines(b"x" * 400_000 for _ in range(10)))
    assert [whole for _, whole in pieces] == [False] * len(pieces)
    assert max(len(piece) for piece, _ in pieces) < 2_000_000


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_what_came_before_a_failing_input_is_given(threads: int) -> None:
    def failing() -> Iterator[bytes]:
        yield b"first\nsec"
        yield b"ond\nhalf"
        raise UsageError(plain("damaged"))

    given_bytes = bytearray()

    def take() -> None:
        for piece, _scan in scanned(failing(), MATCHER, threads):
            given_bytes.extend(piece)

    with pytest.raises(UsageError):
        take()
    assert given_bytes == b"first\nsecond\nhalf"


def test_newlines_are_counted_alike_after_many_bytes() -> None:
    count = Newlines()
    count._left = 3
    many = b"\n" * 300_000
    assert [count(data, 0, len(data)) for data in (b"a\nb", b"\n\n", many, b"")] == [1, 2, 300_000, 0]
    assert count(b"\na\n\n", 1, 3) == 1


@pytest.mark.parametrize("threads", [0, 2])
def test_who_stops_taking_is_left_in_peace(threads: int) -> None:
    pieces = scanned((b"line\n" * 20_000 for _ in range(50)), MATCHER, threads)
    assert next(pieces)[0]
    pieces.close()  # type: ignore[attr-defined]  # a generator, whatever it is declared as
