"""What is written is what is read; what cannot be used is refused with its file and line."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from gpuwatch.adapters import recording
from gpuwatch.adapters.recording import Entry, read_recording, write_recording
from gpuwatch.core.observations import (
    FixTried,
    GpuProcess,
    GpuSample,
    HostSample,
    JobEnded,
    JobProgress,
    JournalSeen,
    LogChunk,
    LogGap,
    LogRestarted,
    LogResumed,
    Observation,
    QueueState,
    RunEvent,
    ServerSeen,
    SourceDown,
    SourceUp,
    Tick,
)
from gpuwatch.errors import UsageError
from gpuwatch.texts import plain, text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEAD = '{"gpuwatch_recording": 1, "made_from": "a test"}\n'
ONE_OF_EACH: Sequence[Observation] = (
    SourceUp(EPOCH, "comfyui.log", "file"),
    LogChunk(EPOCH, "comfyui.log", "显存不足\r 10%|█".encode()),
    LogChunk(EPOCH, "stdin", b"cut in a \xe6\x98 character \0", "stdin", fresh=False),
    LogRestarted(EPOCH, "comfyui.log"),
    LogGap(EPOCH, "kernel", "kernel"),
    GpuSample(EPOCH, "GPU-1", 0, "NVIDIA GeForce RTX 3060 Ti", "580.95", 8 << 30, 2 << 30, 0.37, 61.0, 121.5, 200.0,
              (GpuProcess(1, "python", 5, "comfyui"), GpuProcess(2, None, None)), 12.5, throttled=("power_cap",)),
    GpuSample(EPOCH, "GPU-2", 1, "Tesla T4"),
    GpuSample(EPOCH, "PCI-0000:03:00.0", 2, "AMD GPU 0x73bf", vendor="amd"),
    HostSample(EPOCH, 1 << 36, 1 << 35, 0, 0.25),
    QueueState(EPOCH, "127.0.0.1:8188", 3, 1),
    ServerSeen(EPOCH, "127.0.0.1:8188", "0.24.0", ("main.py", "--lowvram"), "cuda:0", 8 << 30, 1),
    JobEnded(EPOCH, "127.0.0.1:8188", "id", "error", "4", "DDColor", "torch.OutOfMemoryError", "Allocation on device ",
             {"model_input_size": 1024, "checkpoint": "a.pth"}, 3.5, 0.5, "ddcolor", {"KSampler": 2.0}),
    JobProgress(EPOCH, "127.0.0.1:8188", "j-1", "3", 1.0, 20.0),
    LogResumed(EPOCH, "comfyui.log", "file", 120, 1),
    FixTried(EPOCH, "i-1", "shrink_size", "held", failed_job_id="j-1", kept=True),
    JournalSeen(EPOCH, 4096, 3, 1, EPOCH, kept=False),
    RunEvent(EPOCH, {"event": "stage", "stages": [1, 2.5, None, True], "of": {"a": "b"}}),
    SourceDown(EPOCH, "nvml", "nvml", text("GPU {index} is lost", index=0), failed=True),
    SourceDown(EPOCH, "nvml", "nvml", plain("磁盘")),
    Tick(EPOCH),
)  # fmt: skip


def test_this_test_knows_every_observation() -> None:
    assert {type(each) for each in ONE_OF_EACH} == set(get_args(Observation))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_every_observation_comes_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    entries = [(number / 4, each) for number, each in enumerate(ONE_OF_EACH)]
    write_recording(path, entries, made_from="a test")
    assert list(read_recording(path)) == [
        (after_seconds, replace(each, at=EPOCH + timedelta(seconds=after_seconds))) for after_seconds, each in entries
    ]
    assert (path.read_bytes()[:2] == b"\x1f\x8b") is (name.endswith(".gz"))


def test_a_recording_can_be_read_and_written_by_a_person(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_recording(path, [(1.25, LogChunk(EPOCH, "comfyui.log", "显存不足\n".encode()))], made_from="a test")
    assert path.read_text("utf-8") == HEAD + (
        '{"after_seconds": 1.25, "observation": "LogChunk", "source": "comfyui.log", "data": "显存不足\\n"}\n'
    )


def test_bytes_that_are_no_text_stand_as_base64(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_recording(path, [(0, LogChunk(EPOCH, "a", b"\xff"))])
    line = json.loads(path.read_text().splitlines()[1])
    assert base64.b64decode(line["data_base64"]) == b"\xff"
    assert "data" not in line


def test_a_name_with_bytes_that_are_no_text_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    name = b"odd \xff.log".decode("utf-8", "surrogateescape")
    write_recording(path, [(0, LogRestarted(EPOCH, name))])
    assert list(read_recording(path)) == [(0, LogRestarted(EPOCH, name))]


def test_the_same_recording_gives_the_same_packed_file(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_recording(tmp_path / name, [(0, Tick(EPOCH))])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_values_that_json_lacks_become_words(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    reason = text("{path}: {why}", path=Path("/a"), why=text("{free_bytes} free", free_bytes=1024))
    write_recording(path, [(0, SourceDown(EPOCH, "a", "file", reason))])
    ((_, read),) = read_recording(path)
    assert isinstance(read, SourceDown)
    assert str(read.reason) == str(reason) == "/a: 1.00 KiB free"


@settings(max_examples=100, deadline=None)
@given(pieces=some.lists(some.binary(max_size=60)), packed=some.booleans())
def test_any_bytes_come_back(pieces: list[bytes], *, packed: bool) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl.gz" if packed else "a.jsonl")
        entries: list[Entry] = [(0.0, LogChunk(EPOCH, "a", piece)) for piece in pieces]
        write_recording(path, entries)
        assert list(read_recording(path)) == entries


# -- refusals --------------------------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as refused:
        list(read_recording(path))
    return f"{refused.value} {refused.value.hint or ''}"


def tick(**fields: Any) -> str:
    return json.dumps({"after_seconds": 0, "observation": "Tick"} | fields)


def chunk(**fields: Any) -> str:
    return tick(observation="LogChunk", source="a", **fields)


def test_a_log_in_place_of_a_recording_is_sent_to_who_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "comfyui.log"
    path.write_text("got prompt\nCUDA out of memory.\n")
    assert "comfyui.log:1: is not JSON" in refusal(path)
    assert "`gpuwatch diagnose`" in refusal(path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ('"words"', "is not a JSON object"),
        ("[" * 100_000, "is not JSON: it is nested too deep"),
        (tick(observation="HostSample", cpu_ratio=10**400), "cpu_ratio cannot be 1000"),
        ("\xff", "is not JSON"),
        (tick(after_seconds=-1), "after_seconds is not a number"),
        (tick(after_seconds=True), "after_seconds is not a number"),
        (tick(after_seconds=float("inf")), "after_seconds is not a number"),
        (tick(after_seconds=1e300), "after_seconds is not a number"),
        ('{"observation": "Tick"}', "after_seconds is not a number"),
        (
            tick(observation="GpuSampel"),
            "the observation GpuSampel is not known. Known are: FixTried, GpuSample, HostSample",
        ),
        (tick(observation=None), "is not known"),
        (tick(at="now"), "Tick has no field at"),
        (chunk(data="a", dta="b"), "LogChunk has no field dta. Known are: source, data, kind, fresh"),
        (chunk(data="a", data_base64="YQ=="), "has no field data_base64"),
        (chunk(data="a", source_base64="YQ=="), "has no field source_base64"),
        (chunk(data_base64="?"), "data_base64 cannot be"),
        (chunk(data_base64=1), "data_base64 cannot be 1"),
        (chunk(data=1), "data cannot be 1"),
        (chunk(data="\ud800"), "data cannot be"),
        (chunk(data="a", kind="files"), 'kind cannot be "files"'),
        (chunk(data="a", fresh=1), "fresh cannot be 1"),
        (chunk(), "LogChunk needs the field data"),
        (tick(observation="QueueState", server="a", pending=1.5, running=0), "pending cannot be 1.5"),
        (tick(observation="HostSample", memory_total_bytes=True), "memory_total_bytes cannot be true"),
        (tick(observation="HostSample", memory_total_bytes=10**400), "memory_total_bytes cannot be 1000"),
        (tick(observation="ServerSeen", server="a", argv="main.py"), 'argv cannot be "main.py"'),
        (tick(observation="RunEvent", event=[]), "event cannot be []"),
        (tick(observation="SourceDown", source="a", kind="file", reason="words"), "reason cannot be"),
        (tick(observation="SourceDown", source="a", kind="file", reason={}), "reason cannot be {}"),
        (tick(observation="GpuSample", uuid="a", index=0, name="b", processes=[{"pids": 1}]), "processes cannot be"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes((HEAD + tick() + "\n\n" + line + "\n").encode("latin-1", "surrogatepass"))
    assert f"{path}:4: " in refusal(path)
    assert says in refusal(path)


def test_time_does_not_go_back(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(HEAD + tick(after_seconds=2) + "\n" + tick(after_seconds=1))
    assert f"{path}:3: after_seconds goes back" in refusal(path)


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(tick())
    assert f"{path}:1: is not the head of a recording" in refusal(path)
    path.write_text('{"gpuwatch_recording": 2}')
    assert "version 2" in refusal(path)
    path.write_text("")
    assert "is empty" in refusal(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "a.jsonl")
    packed = tmp_path / "a.jsonl.gz"
    packed.write_text(HEAD)
    assert "Not a gzipped file" in refusal(packed)
    whole = gzip.compress((HEAD + (tick() + "\n") * 100).encode())
    packed.write_bytes(whole[:-20])
    assert "cannot be read" in refusal(packed)
    packed.write_bytes(whole[:30] + b"\xff" * 20 + whole[50:])
    assert str(packed) in refusal(packed)


def test_what_unpacks_to_more_than_a_recording_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_LONGEST_LINE_BYTES", 1000)
    monkeypatch.setattr(recording, "_MOST_BYTES", 3000)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(HEAD.encode() + b" " * 100_000))
    assert "has a line longer than 1000 B" in refusal(path)
    path.write_bytes(gzip.compress((HEAD + (tick() + "\n") * 100_000).encode()))
    assert "is longer than 2.93 KiB" in refusal(path)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_recording(tmp_path / "nothing" / "a.jsonl", [])
