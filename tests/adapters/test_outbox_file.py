"""Notices that wait are there for the next run: private, bounded, each once, and no run takes another's."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.outbox import Outbox, Pace
from gpuwatch.adapters.outbox_file import LONGEST_KEPT, OutboxFile, notice_from_json, notice_to_json
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.webhook import Carrier, target_of
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged
from gpuwatch.core.notices import Notice
from gpuwatch.core.observations import FixTried, LogChunk
from gpuwatch.faces.notice_page import notice_json
from gpuwatch.faces.notice_shapes import OWN
from gpuwatch.texts import Text, render, text
from tests.adapters.receiver import SECONDS, Hook, hook
from tests.adapters.test_webhook import NOTICE

OOM = (
    b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.99 GiB\n"
)
QUICK, SLOW = Pace(0.001, 0.002), Pace(600.0, 600.0)
AWAY: dict[str, Any] = {"always": (503, {}, b"")}
NOW = datetime.now(UTC)


def notice(number: int) -> Notice:
    return replace(NOTICE, id=f"n{number}", at=NOW + timedelta(seconds=number))


def file_for(folder: Path, address: str, **more: Any) -> OutboxFile:
    return OutboxFile(folder / "notices", target_of(address), OWN.name, **more)


@contextmanager
def run(folder: Path, address: str, pace: Pace = QUICK, **more: Any) -> Iterator[tuple[Outbox, list[str]]]:
    """One gpuwatch that sends to an address."""
    said: list[str] = []

    def say(words: Text) -> None:
        said.append(render(words, "en"))

    box = Outbox(Carrier(target_of(address), OWN), say, pace=pace, kept=file_for(folder, address), **more)
    try:
        yield box, said
    finally:
        box.close()
        assert not [words for words in said if "SECRET" in words]


def ids(there: Hook) -> list[str]:
    return [got.headers["webhook-id"] for got in there.got]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "notices").glob("*") if path.is_file())


def test_what_was_not_delivered_is_by_the_next_run_once_and_in_order(tmp_path: Path) -> None:
    with hook(**AWAY) as there:
        address = there.address + "/SECRET"
        with run(tmp_path, address, SLOW) as (box, said):
            for number in range(3):
                box.post(notice(number))
            there.wait(1)
        assert "dropped" not in box.counts
        assert said[-1].endswith(": 3; the next gpuwatch that sends there takes them along.")
        (kept,) = files(tmp_path)
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
        assert b"SECRET" not in kept.read_bytes()
        assert "SECRET" not in kept.name
        there.got.clear()
        there.always = None
        with run(tmp_path, address) as (box, said):
            there.wait(3)
            box.post(notice(3))
            assert box.settle(SECONDS)
        assert ids(there) == ["n0", "n1", "n2", "n3"]
        assert [got.json["incident"] for got in there.got] == [notice_json(NOTICE)["incident"]] * 4
        assert said == []
        assert files(tmp_path) == []
        with run(tmp_path, address) as (box, _said):
            assert box.settle(SECONDS)
        assert len(there.got) == 4, "nothing is sent twice"


def test_what_waits_when_a_run_is_killed_is_delivered_by_the_next(tmp_path: Path) -> None:
    script = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from tests.adapters.test_outbox_file import SLOW, notice, run\n"
        "with run(Path(sys.argv[1]), sys.argv[2], SLOW) as (box, said):\n"
        "    for number in range(3):\n"
        "        box.post(notice(number))\n"
        "    threading.Event().wait()\n"
    )
    with hook(**AWAY) as there:
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), there.address], cwd=Path(__file__).parents[2]
        )
        try:
            there.wait(1)
            assert soon(lambda: any(path.read_bytes().count(b"\n") == 3 for path in files(tmp_path)))
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        there.got.clear()
        there.always = None
        with run(tmp_path, there.address) as (box, _said):
            there.wait(3)
            assert box.settle(SECONDS)
        assert ids(there) == ["n0", "n1", "n2"]


def soon(holds: Callable[[], bool]) -> bool:
    waits = threading.Event()
    return any(holds() or waits.wait(0.02) for _ in range(int(SECONDS / 0.02)))


def test_a_run_that_lives_keeps_its_own(tmp_path: Path) -> None:
    with hook(**AWAY) as there, run(tmp_path, there.address, SLOW) as (one, _said):
        one.post(notice(1))
        there.wait(1)
        with run(tmp_path, there.address) as (two, _also):
            assert two.settle(SECONDS)
            assert two.counts == {}
        assert ids(there) == ["n1"]
        other = file_for(tmp_path, there.address + "/another")
        assert other.take_over() == []
        other.close()


def test_what_several_runs_left_is_taken_by_one(tmp_path: Path) -> None:
    address = "http://127.0.0.1:1/hook"
    one, two = file_for(tmp_path, address), file_for(tmp_path, address)
    assert one.take_over() == two.take_over() == []
    assert one.keep([notice(1), notice(4)])
    assert two.keep([notice(2), notice(1)])
    one.close()
    two.close()
    three = file_for(tmp_path, address)
    assert [each.id for each in three.take_over()] == ["n1", "n2", "n4"]
    assert len([path for path in files(tmp_path) if path.suffix == ".jsonl"]) == 1
    three.close()


def test_more_runs_than_have_a_file_keep_nothing_and_say_what_is_lost(tmp_path: Path) -> None:
    with hook(**AWAY) as there:
        held = [file_for(tmp_path, there.address) for _ in range(8)]
        for each in held:
            each.take_over()
        with run(tmp_path, there.address, SLOW) as (box, said):
            box.post(notice(1))
            there.wait(1)
        assert box.counts == {"dropped": 1}
        assert said[-1].startswith("Notices that did not reach")
        for each in held:
            each.close()


def test_what_is_too_old_is_no_news_and_is_counted(tmp_path: Path) -> None:
    with hook() as there:
        before = file_for(tmp_path, there.address)
        before.take_over()
        before.keep([replace(NOTICE, id="old", at=NOW - LONGEST_KEPT * 2), notice(1)])
        before.close()
        with run(tmp_path, there.address) as (box, _said):
            there.wait(1)
            assert box.settle(SECONDS)
            assert box.counts == {"failed": 1, "delivered": 1}
        assert ids(there) == ["n1"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"[]\n",
        b"{}\n",
        b'{"id": 5}\n',
        b"[" * 100_000,
        b'{"at": "x", "incident": {"rule": 1}}\n',
        b"\xff\n",
    ],
)
def test_a_damaged_file_is_passed_over(content: bytes, tmp_path: Path) -> None:
    with hook() as there:
        before = file_for(tmp_path, there.address)
        before.take_over()
        before.keep([notice(1)])
        (kept,) = (path for path in files(tmp_path) if path.suffix == ".jsonl")
        kept.write_bytes(content + kept.read_bytes())
        before.close()
        with run(tmp_path, there.address) as (box, said):
            box.post(notice(2))
            there.wait(1)
            assert box.settle(SECONDS)
        assert ids(there)[-1] == "n2"
        assert said == []


def test_a_folder_that_others_write_to_is_neither_read_nor_written(tmp_path: Path) -> None:
    with hook(**AWAY) as there:
        before = file_for(tmp_path, there.address)
        before.take_over()
        before.keep([notice(1)])
        before.close()
        (tmp_path / "notices").chmod(0o777)
        with run(tmp_path, there.address, SLOW) as (box, _said):
            box.post(notice(2))
            there.wait(1)
        assert ids(there)[0] == "n2"
        assert len(files(tmp_path)) == 1


def test_a_place_that_cannot_be_written_is_said_once_and_notices_arrive(tmp_path: Path) -> None:
    (tmp_path / "notices").write_text("a file")
    with hook() as there, run(tmp_path, there.address) as (box, said):
        for number in range(3):
            box.post(notice(number))
        assert box.settle(SECONDS)
        assert ids(there) == ["n0", "n1", "n2"]
    assert len([words for words in said if "not kept on disk" in words]) == 1


def test_no_more_is_kept_than_waits_and_the_newest_stay(tmp_path: Path) -> None:
    with hook(**AWAY) as there:
        with run(tmp_path, there.address, SLOW, most_waiting=3) as (box, _said):
            for number in range(10):
                box.post(notice(number))
            there.wait(1)
        there.got.clear()
        there.always = None
        with run(tmp_path, there.address) as (box, _said):
            there.wait(3)
            assert box.settle(SECONDS)
        assert ids(there) == ["n7", "n8", "n9"]


def test_a_notice_is_told_as_before_after_it_was_kept() -> None:
    tried = FixTried(
        NOW, "i", "shrink_size", "held", "host:8188", "DDColor", {"size": 1280}, {"size": 960}, "new", "old"
    )
    engine = Engine(load_rules())
    events = [*engine.feed(LogChunk(NOW, "log", OOM)), *engine.end(NOW)]
    incident = [event.incident for event in events if isinstance(event, IncidentChanged)][-1]
    assert incident.diagnosis is not None
    assert incident.diagnosis.fixes
    for each in (
        NOTICE,
        replace(NOTICE, incident=incident),
        replace(NOTICE, event="fix_held", fix=tried, details=(text("{count} more", count=3),)),
        replace(NOTICE, incident=None, held_back={"cuda_oom": 4}, alert={"labels": {"a": "b"}, "starts_at": None}),
    ):
        assert notice_json(notice_from_json(notice_to_json(each))) == notice_json(each)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_users_folder_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "notices").mkdir(mode=0o700)
    os.chown(tmp_path / "notices", 12345, -1)
    file = file_for(tmp_path, "http://127.0.0.1:1/hook")
    assert file.take_over() == []
    assert not file.keep([notice(1)])
    assert files(tmp_path) == []
