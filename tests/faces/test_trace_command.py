"""`gpuwatch trace`: its pages, its JSON, its exit codes, and what it says of files that it cannot read."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.traces import opening
from gpuwatch.faces import cli
from gpuwatch.faces.trace_table import duration
from tests.adapters.traces.test_pickle_walk import Payload
from tests.core.traces.test_allocator import a_run
from tests.core.traces.test_summary import EVENTS, span

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "run.pt.trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"schemaVersion": 1, "traceEvents": EVENTS}).encode()))
    return str(path)


@pytest.fixture
def snapshot(tmp_path: Path) -> str:
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps(a_run().snapshot()))
    return str(path)


def run(*words: str) -> int:
    return cli.main(["trace", *words])


def test_the_page_of_a_trace(trace: str, capsys: Captured) -> None:
    assert run("summary", trace) == 0
    page, narration = capsys.readouterr()
    assert narration == ""
    for words in (
        "The recorded step took 1 ms.",
        "GPU 0: idle for 48 % of it; the longest pause is 350 µs, at 550 µs.",
        "conv_kernel",
        "aten::conv2d",
        "cuda:0: peak 6.00 KiB at 520 µs; 0 B at the begin, 6.00 KiB at the end.",
        "GPU power watts",
    ):
        assert words in page
    stage = next(line for line in page.splitlines() if line.startswith("encoder"))
    assert re.split(r"\s{2,}", stage.strip()) == ["encoder", "1", "400 µs", "40.0 %", "400 µs", "5.00 KiB"]
    assert max(map(len, page.splitlines()[1:])) <= 100


def test_long_names_are_cut_and_numbers_are_not(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "a.json"
    events = [span("void kernel<" + "float, " * 100 + ">", "kernel", at, 5.25, args={"device": 0}) for at in (0, 10)]
    path.write_text(json.dumps(events))
    assert run("summary", str(path)) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("void kernel"))
    assert line.rstrip().endswith("…      2   10.5 µs  100.0 %  5.25 µs  5.25 µs")


def test_a_trace_as_json(trace: str, capsys: Captured) -> None:
    assert run("summary", trace, "--json", "--top", "1") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["steps"], told["gpu"], told["damage"], told["events"]) == (1, True, None, len(EVENTS))
    assert told["kernels"] == [
        {"name": "conv_kernel", "kind": "kernel", "count": 1, "total_seconds": 0.0003, "self_seconds": 0.0003,
         "longest_seconds": 0.0003}
    ]  # fmt: skip
    assert told["memory"][0]["peak_bytes"] == 6144
    assert told["idle"][0]["idle_ratio"] == pytest.approx(0.475)
    assert {each["name"] for each in told["stages"]} == {"encoder", "refine"}


def test_two_traces_compared(trace: str, tmp_path: Path, capsys: Captured) -> None:
    other = tmp_path / "other.json"
    slower: list[Any] = [
        {**event, "dur": event["dur"] * 2} if event.get("name") == "conv_kernel" else event
        for event in EVENTS
        if event.get("name") != "Memcpy DtoH (Device -> Pageable)"
    ]
    other.write_text(json.dumps([*slower, span("new_kernel", "kernel", 700, 10, args={"device": 0})]))
    assert run("summary", trace, str(other)) == 0
    page = capsys.readouterr().out
    assert "A step took 1 ms, then 1 ms: × 1." in page
    rows = [re.split(r"\s{2,}", line.strip()) for line in page.splitlines()]
    assert ["conv_kernel", "1", "300 µs", "600 µs", "+300 µs", "× 2"] in rows
    assert ["Memcpy DtoH (Device -> Pageable)", "1 → 0", "50 µs", "−50 µs", "gone"] in rows
    assert ["new_kernel", "0 → 1", "10 µs", "+10 µs", "new"] in rows

    assert run("summary", trace, str(other), "--json") == 0
    first, second, comparison = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["file"] == trace
    assert second["file"] == str(other)
    assert comparison["kernels"][0]["times"] == pytest.approx(2)


def test_the_page_of_a_snapshot(snapshot: str, capsys: Captured) -> None:
    assert run("memory", snapshot) == 0
    page = capsys.readouterr().out
    for words in (
        "cuda:0: peak 50.00 MiB asked for, 50.00 MiB with rounding, 60.00 MiB reserved then;",
        "At the end: 60.00 MiB reserved in 3 segments, 33.00 MiB in use",
        "20.00 MiB could be given back with empty_cache()",
        "load  app/weights.py:12",
        "refused (out of memory)",
    ):
        assert words in page
    row = next(line for line in page.splitlines() if "64.00 MiB" in line)
    assert re.split(r"\s{2,}", row.strip())[1:5] == ["64.00 MiB", "50.00 MiB", "60.00 MiB", "7.00 MiB"]


def test_a_snapshot_as_json(snapshot: str, capsys: Captured) -> None:
    assert run("memory", snapshot, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    (device,) = told["devices"]
    assert (told["kind"], device["device"], device["peak_bytes"]) == ("snapshot", "cuda:0", 50 * 2**20 - 100)
    assert device["holders"][0]["stack"] == [{"function": "load", "file": "/app/weights.py", "line": 12}]
    assert device["refusals"][0]["asked_bytes"] == 64 * 2**20
    assert device["fragments"]["inactive_split_bytes"] == 7 * 2**20


def test_the_memory_of_a_trace(trace: str, capsys: Captured) -> None:
    assert run("memory", trace) == 0
    rows = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["4.00 KiB", "66.7 %", "1", "aten::conv2d", "encoder"] in rows
    assert run("memory", trace, "--json") == 0
    (device,) = json.loads(capsys.readouterr().out)["devices"]
    assert device["holders"][1] == {"operator": "aten::relu", "stage": "refine", "bytes": 2048, "count": 1}


def test_chinese(trace: str, snapshot: str, capsys: Captured) -> None:
    assert run("summary", trace, "--lang", "zh") == 0
    assert run("memory", snapshot, "--lang", "zh") == 0
    page = capsys.readouterr().out
    assert "kernels by time" not in page
    assert re.search(r"[\u4e00-\u9fff]{4}", page)
    assert "peak" not in page.replace("peak_", "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b"some text", "neither a JSON trace nor a memory snapshot"),
        (b"PK\x03\x04\x00\x00", "is a zip archive, as checkpoints are"),
        (b'{"traceEvents": []}', "has no events with times"),
        (b"[]", "has no events with times"),
        (b'{"displayTimeUnit": "ms"}', "it has no traceEvents"),
        (b'{"traceEvents": [{"ph": "X", "name": "a", "cat": "b", "ts": 1}]}', "has no events with times"),
        (gzip.compress(b'{"traceEvents": [1, 2, 3')[:-4], "ends early: its packed data is cut off"),
        (b"\x1f\x8b\x08garbage", "ends early: its packed data is cut off or damaged"),
        (gzip.compress(b'{"traceEvents": [' + b" " * 3_000_000), "unpacks to more than 200 times its size"),
        (pickle.dumps({"a": 1}), "is a memory snapshot"),
    ],
    ids=range(12),
)
def test_files_that_are_no_trace(
    content: bytes, words: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "FREELY_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert run("summary", str(path)) == 2
    page, narration = capsys.readouterr()
    assert page == ""
    assert words in narration
    assert "Traceback" not in narration


def test_what_came_before_the_damage_is_shown(tmp_path: Path, capsys: Captured) -> None:
    whole = json.dumps({"traceEvents": EVENTS})
    path = tmp_path / "cut.json"
    path.write_text(whole[: whole.index("conv_kernel") - 30])
    assert run("summary", str(path)) == 2
    page, narration = capsys.readouterr()
    assert "aten::relu" in page
    assert "its JSON is cut off" in narration
    assert run("summary", str(path), "--json") == 2
    assert "cut off" in json.loads(capsys.readouterr().out)["damage"]


def test_folders_missing_files_and_traces_without_memory(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([span("a", "cpu_op", 0, 5)]))
    for words, told in (
        (("summary", str(tmp_path)), "is a folder"),
        (("summary", str(tmp_path / "none")), "there is no such file"),
        (("memory", str(path)), "has no memory events"),
        (("summary", str(path), "--top", "0"), "write a number from 1 to"),
        (("summary", str(path), "--top", "many"), "write a number from 1 to"),
        (("nothing", str(path)), "invalid choice"),
    ):
        assert run(*words) == 2
        assert told in capsys.readouterr().err


def test_a_payload_is_not_run(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "s.pickle"
    path.write_bytes(pickle.dumps({"segments": [Payload(tmp_path / "done")]}))
    assert run("memory", str(path)) == 2
    assert f"asks to load {os.name}.system" in capsys.readouterr().err.replace("posix.", f"{os.name}.")
    assert not (tmp_path / "done").exists()


def test_what_a_terminal_obeys_becomes_signs(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([span("\x1b[2Jevil\u202e", "cpu_op", 0, 5), span("a\nb", "user_annotation", 0, 5)]))
    assert run("summary", str(path)) == 0
    assert run("summary", str(path), "--json") == 0
    page = capsys.readouterr().out
    assert "\x1b" not in page
    assert "\u202e" not in page


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (1.5e-9, "0.0015 µs"), (1.5e-6, "1.5 µs"), (0.0123, "12.3 ms"), (0.468, "468 ms"), (1.8, "1.8 s"),
        (99.94, "99.9 s"), (1234, "1,234 s"),
    ],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
