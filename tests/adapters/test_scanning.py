"""Looking ahead changes nothing: the same bytes come out, in order, and the same incidents."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwatch.adapters import scanning
from gpuwatch.adapters.newlines import newline_counter
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.scanning import Piece, scanned, scanned_file, whole_lines
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, IncidentChanged, RecordsRead
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.scan import Scan, count_newlines
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
        b"Traceback (most recent call last):\n" + b'  File "/opt/a.py", line 5, in run\n    return f(x)\n' * 40,
        b"Node ID: 12\nNode Type: KSampler\n",
        b"[2026-01-01 00:00:00.130] DEBUG memory: no OOM seen\n" * 3,
        b"CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 8.00 GiB total capacity; 6.10 GiB already allo\ncated)\n",
        b'  File "/opt/b.py", line 7\n',
        b"During handling of the above exception, another exception occurred:\n",
        b"torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory.\n",
        b"plain\x00words\xff (in another\n",
        b"plain words\n",
        b"\r",
    ]
)


Told = tuple[int, list[tuple[object, ...]]]


def values_of(incident: Incident) -> tuple[object, ...]:
    return (
        incident.line, incident.rule.id, incident.state, incident.count, incident.text, dict(incident.facts),
        incident.node, incident.frames, incident.excerpt,
    )  # fmt: skip


def told(pieces: Iterable[Piece], *, shows_records: bool = False) -> Told:
    """What an engine makes of the pieces; where it shows records, it reads every one and skips nothing."""
    engine = Engine(MATCHER.rules, shows_records=shows_records, ready=MATCHER)
    events: list[Event] = []
    for piece in pieces:
        ahead = isinstance(piece, Scan)
        events += engine.feed(LogChunk(AT, "log", b"" if ahead else piece, scan=piece if ahead else None))
    events += engine.end(AT)
    incidents = {e.incident.id: e.incident for e in events if isinstance(e, IncidentChanged)}
    lines = sum(e.lines for e in events if isinstance(e, RecordsRead))
    return lines, [values_of(incident) for incident in incidents.values()]


def in_chunks(log: bytes, size_bytes: int) -> list[bytes]:
    return [log[at : at + size_bytes] for at in range(0, len(log), size_bytes)]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that a test's log has many, and lines that are too long to be waited for."""
    monkeypatch.setattr(scanning, "_BLOCK_BYTES", 300)
    monkeypatch.setattr(scanning, "_OVER_BYTES", 20)
    monkeypatch.setattr(scanning, "_LONGEST_LINE_BYTES", 3000)


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, max_size=12), st.lists(st.integers(0, 4000), max_size=6))
def test_the_same_incidents_whatever_was_scanned_ahead(pieces: list[bytes], cuts: list[int]) -> None:
    log = b"".join(pieces)
    places = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    chunks = [log[begin:end] for begin, end in pairwise(places)]
    expected = told(chunks, shows_records=True)
    assert told(scanned(chunks, MATCHER)) == expected
    assert told(chunks) == expected


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, max_size=12), block_bytes=st.integers(8, 3000))
def test_a_file_in_blocks_tells_the_same(pieces: list[bytes], block_bytes: int, tmp_path: Path) -> None:
    log = b"".join(pieces)
    path = tmp_path / "log"
    path.write_bytes(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "_BLOCK_BYTES", block_bytes)
        found = list(scanned_file(str(path), MATCHER, 1))
    assert b"".join(piece.lines if isinstance(piece, Scan) else piece for piece in found) == log
    assert told(found) == told([log], shows_records=True)


@pytest.mark.usefixtures("small_blocks")
def test_which_node_failed_does_not_depend_on_where_a_repeat_is_cut() -> None:
    log = FAILURE.replace(b"/opt/ComfyUI/", b"/opt/ComfyUI/custom_nodes/pack/").partition(b"\n\n")[0] + b"\n\n"
    log += FAILURE.partition(b"\n")[2]
    expected = told([log])
    assert [(told_of[3], told_of[6].pack) for told_of in expected[1]] == [(2, "pack")]  # type: ignore[attr-defined]
    for size in (64, 150, 301):
        assert told(in_chunks(log, size)) == told(scanned(in_chunks(log, size), MATCHER)) == expected


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.parent.name}-{path.parent.name}")
def test_recordings_tell_the_same(path: Path) -> None:
    chunks = in_chunks(path.read_bytes(), 3000)
    expected = told(chunks, shows_records=True)
    assert told(scanned(chunks, MATCHER)) == expected
    assert told(scanned_file(str(path), MATCHER, 1)) == expected
    assert told(scanned_file(str(path), MATCHER, 3)) == expected


@pytest.mark.parametrize("end", [b"", b"no line end", b"\r", b"x" * 9000])
@pytest.mark.usefixtures("small_blocks")
def test_processes_that_help_change_nothing(end: bytes, tmp_path: Path) -> None:
    log = (b"line\n" * 90 + FAILURE) * 30 + b"y" * 2500 + b"\n" + b"\x1b[31m" + FAILURE + end
    path = tmp_path / "log"
    path.write_bytes(log)
    assert told(scanned_file(str(path), MATCHER, 2)) == told([log], shows_records=True)


@pytest.mark.usefixtures("small_blocks")
def test_a_process_that_dies_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = (b"line\n" * 90 + FAILURE) * 30
    path = tmp_path / "log"
    path.write_bytes(log)
    found, here = scanning._Blocks._found, os.getpid()

    def deadly(self: scanning._Blocks, number: int) -> scanning._Found:
        if number == 21 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return found(self, number)

    monkeypatch.setattr(scanning._Blocks, "_found", deadly)
    assert told(scanned_file(str(path), MATCHER, 2)) == told([log], shows_records=True)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_a_file_in_another_encoding(encoding: str, tmp_path: Path) -> None:
    text = FAILURE.decode() * 3 + "模型加载完成，正在生成图像\n" * 40 + FAILURE.decode()
    path = tmp_path / "log"
    path.write_bytes(text.encode(encoding))
    assert told(scanned_file(str(path), MATCHER, 2)) == told([text.encode()], shows_records=True)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("after", [b"line\n", b"", b"\0" * 12_000, b"other words " * 1000])
def test_a_file_that_is_written_anew_meanwhile_does_no_harm(
    after: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_bytes((b"line\n" * 90 + FAILURE) * 30)

    def all_before(make: Callable[[int], scanning._Found], _workers: int) -> list[scanning._Found]:
        """As if helpers had looked through all of it, and only then it was written anew."""
        made = [make(0)]
        while not made[-1][-1]:
            made.append(make(len(made)))
        make.__self__._kept = b""  # type: ignore[attr-defined]  # a bound method, in a process that read nothing itself
        path.write_bytes(after)
        return made

    monkeypatch.setattr(scanning, "in_order", all_before)
    lines, _ = told(scanned_file(str(path), MATCHER, 2))
    assert lines


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


def test_what_came_before_a_failing_input_is_given() -> None:
    def failing() -> Iterator[bytes]:
        yield b"first\nsec"
        yield b"ond\nhalf"
        raise UsageError(plain("damaged"))

    given_bytes = bytearray()

    def take() -> None:
        for piece in scanned(failing(), MATCHER):
            given_bytes.extend(piece.lines if isinstance(piece, Scan) else piece)

    with pytest.raises(UsageError):
        take()
    assert given_bytes == b"first\nsecond\nhalf"


@pytest.mark.parametrize("installed", [True, False])
def test_newlines_are_counted_alike(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if installed:
        pytest.importorskip("stringzilla", reason="there is no wheel of it for this machine")
    else:
        monkeypatch.setitem(sys.modules, "stringzilla", None)
    count = newline_counter()
    assert (count is count_newlines) is not installed
    assert [count(data, 0, len(data)) for data in (b"a\nb", b"\n\n", b"\n" * 600_000, b"")] == [1, 2, 600_000, 0]
    assert count(b"\na\n\n", 1, 3) == 1
    assert count(b"\n\n", 2, 2) == 0


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("workers", [1, 2])
def test_who_stops_taking_leaves_nothing_behind(workers: int, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"line\n" * 90_000)
    pieces = scanned_file(str(path), MATCHER, workers)
    assert next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator, whatever it is declared as
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
