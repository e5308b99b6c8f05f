"""What is recorded plays again as it was, and names nobody."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpuwatch.adapters.recording import read_recording
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.scrub import Scrubber
from gpuwatch.faces.cli import main
from gpuwatch.faces.commands.record import Recorder
from gpuwatch.pipeline import Pipeline
from tests.adapters.test_journal import AT

LOG = Path(__file__).parents[1] / "data" / "recordings" / "comfyui-0.24.0-oom_large_1280-stderr.log"


def told(words: str) -> list[tuple[str, str, int]]:
    return [(each["label"], each["text"], each["line"]) for each in map(json.loads, words.splitlines())]


def test_a_recording_tells_the_same_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "session.jsonl.gz"
    assert main(["record", str(file), f"cmd:cat {LOG}", "--json"]) == 0
    recorded = capsys.readouterr()
    assert f"{file}: " in recorded.err
    assert len(told(recorded.out)) == 4
    assert main(["replay", str(file), "--speed", "max", "--json"]) == 0
    assert told(capsys.readouterr().out) == told(recorded.out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["session.jsonl.gz"]


def test_what_identifies_is_not_recorded_wherever_it_is_cut(tmp_path: Path) -> None:
    words = b"token=abcdefgh12345 of /home/anna/x\r\nhalf"
    for cut in range(len(words) + 1):
        recorder = Recorder(Scrubber(users=["anna"]))
        writer = threading.Thread(target=recorder.write_to, args=(tmp_path / f"{cut}.jsonl",) * 2)
        writer.start()
        recorder([LogChunk(AT, "log", words[:cut], place="x"), LogChunk(AT, "log", words[cut:])])
        recorder.end()
        writer.join()
        chunks = [each for _, each in read_recording(tmp_path / f"{cut}.jsonl") if isinstance(each, LogChunk)]
        assert b"".join(chunk.data for chunk in chunks) == b"token=<secret> of /home/<user>/x\r\nhalf"
        assert {chunk.place for chunk in chunks} == {None}


def test_an_error_in_the_engine_ends_the_recording_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_pipeline: Pipeline, _timeout_seconds: float) -> bool:
        raise RuntimeError("the engine's fault")

    monkeypatch.setattr(Pipeline, "wait", broken)
    with pytest.raises(RuntimeError, match="the engine's fault"):
        main(["record", str(tmp_path / "session.jsonl"), "cmd:sleep 100"])
    assert [thread.name for thread in threading.enumerate() if thread.name == "recording"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["replay", "{log}"],
        ["replay", "/nope.jsonl"],
        ["replay", "{log}", "--speed", "0"],
        ["record", "{log}", "cmd:true"],
    ],
)
def test_wrong_use_is_two(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word.replace("{log}", str(LOG)) for word in words]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", str(tmp_path / "no" / "file.jsonl"), "cmd:sleep 100"]) == 2
    assert capsys.readouterr().err == f"gpuwatch: {tmp_path / 'no'} is no folder.\nName another file.\n"
    assert main(["demo", "--out", str(LOG), "--plain"]) == 2
    assert capsys.readouterr().err == f"gpuwatch: {LOG} is no folder.\nName another place with --out.\n"


@pytest.mark.parametrize("name", ["session.jsonl", "session.jsonl.gz"])
def test_a_disk_that_is_full_is_told_with_the_file_that_was_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    script = f'ulimit -f 1; exec {sys.executable} -m gpuwatch.faces.cli --lang en record {file} "cmd:cat {LOG}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert f"{file}: cannot be written: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []
