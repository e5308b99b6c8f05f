"""Failures as lines: with the node that their job tells, a moment later, and never held up for long."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.sources.comfyui import ComfyuiSource
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event
from gpuwatch.core.observations import JobEnded, LogChunk, Observation, SourceDown, SourceUp, Tick
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.printing import Printer
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import text
from tests.adapters.comfyui.beside import QUICK, Beside, submit
from tests.standin.server import standing

AT = datetime(2026, 11, 21, tzinfo=UTC)
SERVER, FILE = "127.0.0.1:8188", "comfyui.log"
WORDS = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which 1.00 GiB is free."
)
OOM = f"!!! Exception during processing !!! {WORDS}\nPrompt executed in 0.25 seconds\n".encode()
XID = b"NVRM: Xid (PCI:0000:08:00): 31, pid=77, name=python, Ch 00000008\n"


def after(seconds: float) -> datetime:
    return AT + timedelta(seconds=seconds)


def job(seconds: float) -> JobEnded:
    inputs = {"model_input_size": 1280}
    return JobEnded(after(seconds), SERVER, "j-1", "error", "3", "DDColor_Colorize", None, WORDS, inputs)


class Watched:
    """An engine with a printer behind it, and a server that is watched."""

    def __init__(self, *, as_json: bool = False, server: bool = True) -> None:
        matcher = load_matcher()
        self.engine = Engine(matcher.rules, load_workloads(), shows_records=False, ready=matcher)
        self.snapshot = Snapshot()
        self.printer = Printer(as_json=as_json, say=lambda *_words, **_fields: None)
        if server:
            self.see(SourceUp(AT, SERVER, "comfyui"))
        self.see(SourceUp(AT, FILE, "file"))

    def see(self, observation: Observation) -> Watched:
        return self.tell(self.engine.feed(observation))

    def tell(self, events: list[Event]) -> Watched:
        for event in events:
            self.snapshot = self.snapshot.after(event)
        self.printer(events, self.snapshot)
        return self


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


@pytest.mark.parametrize("source", [SERVER, FILE])
def test_it_waits_for_its_job_and_is_printed_once_with_the_node(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = Watched().see(LogChunk(after(0), source, OOM, "comfyui" if source == SERVER else "file"))
    watched.see(Tick(after(1)))
    assert printed(capsys) == ""
    watched.see(job(2))
    told = printed(capsys)
    assert "DDColor_Colorize #3" in told
    assert "model_input_size=1280" in told
    for seconds in (3, 9):
        watched.see(Tick(after(seconds)))
    watched.printer.flush()
    assert printed(capsys) == ""


def test_what_was_before_waits_for_its_job_too(capsys: pytest.CaptureFixture[str]) -> None:
    watched = Watched().see(LogChunk(after(0), SERVER, OOM, "comfyui", fresh=False))
    assert printed(capsys) == ""
    watched.see(replace(job(1), fresh=False))
    assert "DDColor_Colorize #3" in printed(capsys)


def test_a_job_that_comes_late_is_one_line_more(capsys: pytest.CaptureFixture[str]) -> None:
    watched = Watched().see(LogChunk(after(0), SERVER, OOM, "comfyui")).see(Tick(after(5)))
    told = printed(capsys)
    assert "2.00 GiB" in told
    assert "DDColor" not in told
    watched.see(job(6)).see(Tick(after(7)))
    (line,) = printed(capsys).splitlines()
    assert "DDColor_Colorize #3 (model_input_size=1280)" in line
    assert "j-1" in line


def test_json_has_it_twice_where_the_job_comes_late(capsys: pytest.CaptureFixture[str]) -> None:
    Watched(as_json=True).see(LogChunk(after(0), SERVER, OOM, "comfyui")).see(Tick(after(5))).see(job(6))
    first, second = map(json.loads, printed(capsys).splitlines())
    assert (first["id"], first["node"], "supplement" in first) == (second["id"], None, False)
    assert (second["node"], second["supplement"]) == ({"id": "3", "type": "DDColor_Colorize"}, True)


def test_the_end_prints_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    watched = Watched().see(LogChunk(after(0), SERVER, OOM, "comfyui"))
    assert printed(capsys) == ""
    watched.printer.flush()
    assert "2.00 GiB" in printed(capsys)
    watched.printer.flush()
    assert printed(capsys) == ""


def test_nothing_waits_where_no_server_can_tell_of_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    Watched(server=False).see(LogChunk(after(0), FILE, OOM))
    assert "2.00 GiB" in printed(capsys)
    away = SourceDown(after(0), SERVER, "comfyui", text("gone"), failed=True)
    Watched().see(away).see(LogChunk(after(0), FILE, OOM))
    assert "2.00 GiB" in printed(capsys)
    Watched().see(SourceUp(after(0), "kernel", "kernel")).see(LogChunk(after(0), "kernel", XID, "kernel")).see(
        Tick(after(1))
    )
    assert "31" in printed(capsys)


def test_many_that_wait_are_bounded_and_none_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    words = [OOM.replace(b"2.00 GiB", f"{number}.00 MiB".encode()) for number in range(1, 702)]
    watched = Watched(as_json=True)
    for each in words:
        watched.see(LogChunk(after(0), SERVER, each, "comfyui"))
    assert 0 < len(printed(capsys).splitlines()) < 701
    held = watched.printer._awaiting._held
    assert len(held) <= 501
    watched.printer.flush()
    assert not held


def test_beside_a_server_a_failure_is_printed_with_its_node(capsys: pytest.CaptureFixture[str]) -> None:
    matcher = load_matcher()
    with standing() as standin:
        source = ComfyuiSource(server_of(standin.url), pace=QUICK)
        engine = Engine(matcher.rules, load_workloads(), shows_records=False, ready=matcher)
        beside, printer = Beside(Pipeline(engine, [source])), Printer(as_json=True)
        beside.pipeline.subscribe(printer)
        beside.pipeline.subscribe(beside.listen)
        beside.pipeline.start()
        try:
            beside.heard(standin)
            submit(standin)
            beside.until(lambda: any(each.job_id for each in beside.incidents("cuda_oom")))
        finally:
            beside.pipeline.stop()
            printer.flush()
    (line,) = printed(capsys).splitlines()
    assert json.loads(line)["node"] == {"id": "3", "type": "DDColor_Colorize"}
