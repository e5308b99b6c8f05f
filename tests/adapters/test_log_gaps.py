"""A log that keeps only so much is read too late: what was missed is told, and nothing else is taken for it."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpuwatch.adapters.comfyui.logtail import LogTail
from gpuwatch.adapters.sources import kernel
from gpuwatch.core.engine import Engine
from gpuwatch.core.observations import LogChunk, LogGap
from gpuwatch.core.rules import RuleSet
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.printing import Printer
from tests.adapters.watching import Watched
from tests.faces.web import Said

AT = datetime(2026, 11, 21, tzinfo=UTC)


def entries(*numbers: int, words: str = "line {}\n") -> list[tuple[str, str]]:
    return [(f"at {number}", words.format(number)) for number in numbers]


@pytest.mark.parametrize(
    ("before", "now", "missed", "restarted"),
    [
        (range(10), range(5, 305), False, False),
        (range(10), range(10, 310), True, False),
        (range(300), range(299, 599), False, False),
        (range(10), range(50, 60), False, True),
        (range(0), range(300), False, False),
    ],
    ids=["met", "more than it keeps", "just met", "another process", "the first look"],
)
def test_what_a_server_no_longer_keeps_was_missed(before: range, now: range, *, missed: bool, restarted: bool) -> None:
    tail = LogTail()
    tail.kept(entries(*before))
    kept = tail.kept(entries(*now))
    assert (kept.missed, kept.restarted) == (missed, restarted)


def test_a_ring_full_of_a_bars_frames_says_nothing() -> None:
    tail = LogTail()
    tail.kept(entries(*range(10)))
    assert not tail.kept(entries(*range(10, 310), words="\r{} %")).missed


def test_the_kernel_says_that_its_ring_went_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    gone, nothing = BrokenPipeError(errno.EPIPE, "gone"), BlockingIOError()
    told = [b"6,1,1000,-;first\n", nothing, gone, gone, b"6,9,2000,-;second\n"]

    def read(_descriptor: int, _count: int) -> bytes:
        answer = told.pop(0) if told else nothing
        if isinstance(answer, Exception):
            raise answer
        return answer

    names = ("open", "close", "lseek", "O_RDONLY", "O_NONBLOCK", "O_CLOEXEC", "SEEK_END")
    monkeypatch.setattr(kernel, "os", SimpleNamespace(**{name: getattr(os, name) for name in names}, read=read))
    with Watched(kernel.KernelSource(from_start=True, path=path)) as watched, path.open("wb", buffering=0) as pipe:
        pipe.write(b"there is something to read")
        watched.until(lambda: b"second" in watched.data(fresh=True))
    kinds = [type(each) for each in watched.observations]
    assert kinds == [LogChunk, LogGap, LogChunk], "a burst is one gap, told before what comes after it"


def test_a_gap_is_counted_and_said() -> None:
    engine, snapshot, said = Engine(RuleSet(())), Snapshot(), Said()
    printer = Printer(say=said)
    for observation in (LogChunk(AT, "kernel", b"a\n", "kernel"), LogGap(AT, "kernel", "kernel")):
        events = engine.feed(observation)
        for event in events:
            snapshot = snapshot.after(event)
        printer(events, snapshot)
    assert snapshot.tallies.gaps == {"kernel": 1}
    assert said.words == ["kernel: a part of the log was missed"]
