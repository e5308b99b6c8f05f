"""What is said as it goes: the same keys on every JSON line, and a priority where the journal listens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuwatch.faces import cli
from gpuwatch.faces.narration import in_json, in_words, narrator, say_line
from gpuwatch.texts import plain
from tests.faces.web import SECONDS

GPUWATCH = [sys.executable, "-m", "gpuwatch.faces.cli"]
OOM = b"torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)\n"
KEYS = {"time", "level", "event", "message"}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "comfyui.log"
    path.write_bytes(OOM)
    return path


def run(*words: str, journal: bool = False, folder: Path) -> tuple[str, str, int]:
    """A verb to its end; both streams are one file, as under systemd, where `journal` says so."""
    environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"} | {
        "LC_ALL": "C.UTF-8"
    }
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        told = os.fstat(err.fileno())
        if journal:
            environment["JOURNAL_STREAM"] = f"{told.st_dev}:{told.st_ino}"
        code = subprocess.run(
            [*GPUWATCH, *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            timeout=SECONDS,
            check=False,
        ).returncode
    return (folder / "out").read_text(), (folder / "err").read_text(), code


@pytest.mark.parametrize("verb", [["watch", "--from-start"], ["watch", "--plain", "--from-start"]])
def test_every_line_of_watch_is_json_where_that_is_asked_for(tmp_path: Path, log: Path, verb: list[str]) -> None:
    words = [*verb, "--no-journal", "--log-format", "json", f"cmd:cat {log}"]
    out, err, code = run(*words, folder=tmp_path)
    lines = [json.loads(line) for line in err.splitlines()]
    (incident,) = [json.loads(line) for line in out.splitlines()]
    (failure,) = [line for line in lines if line["event"] == "failure"]
    assert all(line.keys() >= KEYS for line in lines)
    assert (failure["incident"], failure["label"], failure["level"]) == (incident["id"], "cuda_oom", "error")
    assert code == 0


def test_the_journal_gets_each_failure_once_with_its_priority(tmp_path: Path, log: Path) -> None:
    _out, err, _code = run(
        "watch", "--plain", "--from-start", "--no-journal", f"cmd:cat {log}", folder=tmp_path, journal=True
    )
    lines = err.splitlines()
    assert all(line.startswith(("<2>", "<3>", "<4>", "<6>")) for line in lines)
    assert len([line for line in lines if line.startswith("<3>")]) == 1


def test_elsewhere_a_failure_is_not_told_twice(tmp_path: Path, log: Path) -> None:
    out, err, _code = run("watch", "--plain", "--from-start", "--no-journal", f"cmd:cat {log}", folder=tmp_path)
    assert "GPU memory ran out" in out
    assert "<" not in err
    assert "GPU memory ran out" not in err


def test_what_ends_the_program_is_json_too(tmp_path: Path) -> None:
    words = ["--no-journal", "--listen", "127.0.0.1:0", "--web.config.file", "missing.yml", "x.log"]
    for form in (["--log-format", "json"], ["--log-format=json"]):
        out, err, code = run("serve", *form, *words, folder=tmp_path)
        last = json.loads(err.splitlines()[-1])
        assert (out, code, last["event"], last["exit_code"]) == ("", 2, "ended", 2)
        assert "x.log" in last["message"]


def test_the_journals_own_address_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stream").open("w+") as stream:
        told = os.fstat(stream.fileno())
        for address in ("", "1", "x:y", f"{told.st_dev}:{told.st_ino + 1}", f"{told.st_dev}:{'9' * 400}"):
            monkeypatch.setenv("JOURNAL_STREAM", address)
            say_line("plain", stream, "error")
        monkeypatch.setenv("JOURNAL_STREAM", f"{told.st_dev}:{told.st_ino}")
        say_line("one\ntwo", stream, "warning")
    assert (tmp_path / "stream").read_text() == "plain\n" * 5 + "<4>one\n<4>two\n"
    in_words(plain("to a stream without a number"))
    assert capsys.readouterr().err == "to a stream without a number\n"


def test_a_long_value_is_cut_and_hostile_ones_stay_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    in_json()(plain("a\nb\x1b[31m"), event="failure", level="critical", text="x" * 100_000)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert told["message"].startswith("a\nb")
    assert len(line) < 8192
    assert "\x1b" not in line


def test_only_the_two_forms_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("serve", "watch", "guard"):
        assert cli.main([verb, str(tmp_path / "a"), "--log-format", "xml"]) == 2
        assert "json" in capsys.readouterr().err
    assert narrator("text") is in_words
