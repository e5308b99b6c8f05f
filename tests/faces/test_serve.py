"""What `serve` gives besides the page: files for node_exporter and for Prometheus, JSON lines, and words about mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpuwatch.adapters.loopback import is_loopback
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.faces import cli
from gpuwatch.faces.exporter import Page
from gpuwatch.faces.exporter.files import PAGE, Discovery, Textfile
from tests.faces.web import HASH, SECONDS, Said

GPUWATCH = [sys.executable, "-m", "gpuwatch.faces.cli"]
OOM = b"torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)\n"
RULES = load_rules()


@contextmanager
def serve(*words: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        [*GPUWATCH, "serve", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def lines(child: subprocess.Popen[str], wanted: str) -> Iterator[str]:
    """What it says on stderr, up to the line that holds the word."""
    assert child.stderr is not None
    for line in child.stderr:
        yield line
        if wanted in line:
            return
    raise AssertionError(f"it ended without {wanted}")


def ended(child: subprocess.Popen[str]) -> int:
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=SECONDS)
    return child.returncode


def test_a_lost_terminal_ends_what_was_started() -> None:
    with serve("cmd:tail -f /dev/null", "--listen", "127.0.0.1:0", "--no-journal") as child:
        while not (started := psutil.Process(child.pid).children()):
            assert child.poll() is None
        child.send_signal(signal.SIGHUP)
        child.communicate(timeout=SECONDS)
        _ended, left = psutil.wait_procs(started, timeout=SECONDS)
        for process in left:
            process.kill()
    assert (child.returncode, left) == (0, [])


def test_every_line_is_json_on_both_streams(tmp_path: Path) -> None:
    log = tmp_path / "comfyui.log"
    log.write_bytes(OOM)
    with serve(str(log), "--from-start", "--listen", "127.0.0.1:0", "--log-format", "json") as child:
        told = [json.loads(line) for line in lines(child, '"failure"')]
        assert child.stdout is not None
        incident = json.loads(child.stdout.readline())
        assert ended(child) == 0
    assert all({"time", "level", "event", "message"} <= each.keys() for each in told)
    serving = next(each for each in told if each["event"] == "serving")
    assert serving["address"].endswith("/metrics")
    assert told[-1]["label"] == incident["label"] == "cuda_oom"
    assert told[-1]["incident"] == incident["id"]
    assert told[-1]["level"] == "error"


def test_the_page_is_written_for_node_exporter_and_taken_away(tmp_path: Path) -> None:
    log = tmp_path / "comfyui.log"
    log.write_bytes(OOM)
    with serve(str(log), "--textfile", str(tmp_path)) as child:
        assert str(tmp_path) in list(lines(child, "metrics: "))[-1]
        names = {family.name for family in text_string_to_metric_families((tmp_path / PAGE).read_text())}
        assert "gpuwatch_incidents" in names
        assert (tmp_path / PAGE).stat().st_mode & 0o777 == 0o644, "node_exporter is another user"
        assert not [name for name in names if name.startswith("process_")]
        assert ended(child) == 0
    assert sorted(tmp_path.iterdir()) == [log]


def test_prometheus_finds_the_address(tmp_path: Path) -> None:
    log, found = tmp_path / "comfyui.log", tmp_path / "found.json"
    log.touch()
    with serve(str(log), "--listen", "127.0.0.1:0", "--file-sd", str(found)) as child:
        address = list(lines(child, "metrics: "))[-1].partition("http://")[2].partition("/")[0]
        ((target,),) = ([each["targets"] for each in json.loads(found.read_text())],)
        assert target == [address]
        assert ended(child) == 0
    assert not found.exists()


def test_an_address_that_somebody_else_wrote_since_is_left_alone(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    first, second = Discovery(found, "127.0.0.1", 1, "http"), Discovery(found, "127.0.0.1", 2, "http")
    first.close()
    assert "127.0.0.1:2" in found.read_text()
    second.close()
    second.close()
    assert not found.exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--textfile", "no/such/folder"], "no folder"),
        (["--textfile", "no/such/page.prom"], "no folder"),
        (["--textfile", "page.txt"], ".prom"),
        (["--listen", "127.0.0.1:0", "--otlp", "localhost:4318"], "http://HOST:4318"),
        (["--textfile", ".", "--file-sd", "x.json"], "--file-sd"),
        (["--textfile", ".", "--web.config.file", "x.yml"], "--web.config.file"),
        (["--listen", "127.0.0.1:0", "--file-sd", "x.txt"], ".yaml"),
        (["--listen", "127.0.0.1:0", "--web.config.file", "missing.yml"], "missing.yml"),
        (["--listen", "127.0.0.1:0", "--web-config-file", "broken.yml"], "broken.yml:2"),
        (["--listen", "127.0.0.1:0", "--log-format", "xml"], "json"),
        (["--listen", "127.0.0.1:99999"], "99999"),
    ],
    ids=range(11),
)
def test_wrong_use_is_two_and_leaves_nothing(
    tmp_path: Path,
    words: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.log").touch()
    (tmp_path / "broken.yml").write_text("tls_server_config:\n  cert_file: a\n  key_file: b\n")
    before = sorted(tmp_path.iterdir())
    assert cli.main(["serve", "a.log", *words]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert "metrics: " not in told
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("users", [True, False])
def test_beyond_loopback_without_a_password_there_is_a_warning(tmp_path: Path, *, users: bool) -> None:
    (tmp_path / "a.log").touch()
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  a: {HASH}\n" if users else "")
    words = [str(tmp_path / "a.log"), "--listen", "0.0.0.0:0", "--web.config.file", str(config)]
    with serve(*words) as child:
        assert ("warning" in "".join(lines(child, "metrics: "))) == (not users)


@pytest.mark.parametrize(
    ("host", "only_ours"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("127.evil.example", False),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False)],  # noqa: S104 - only looked at
)  # fmt: skip
def test_which_addresses_only_this_machine_reaches(host: str, *, only_ours: bool) -> None:
    assert is_loopback(host) == only_ours


def test_a_wildcard_address_is_found_by_the_machines_name(tmp_path: Path) -> None:
    Discovery(tmp_path / "a.json", "::", 9877, "https")
    (entry,) = json.loads((tmp_path / "a.json").read_text())
    assert entry["labels"]["__scheme__"] == "https"
    assert entry["targets"][0] not in {"[::]:9877", ":::9877"}
    Discovery(tmp_path / "a.json", "fe80::1", 9877, "http")
    assert json.loads((tmp_path / "a.json").read_text())[0]["targets"] == ["[fe80::1]:9877"]


def test_a_folder_that_cannot_be_written_any_more_is_told_once(tmp_path: Path) -> None:
    said = Said()
    folder = tmp_path / "textfile"
    folder.mkdir()
    writer = Textfile(folder, Page(Snapshot, RULES), every_seconds=0.005, say=said)
    folder.rename(tmp_path / "away")
    deadline = time.monotonic() + SECONDS
    while not said.words and time.monotonic() < deadline:
        os.sched_yield()
    folder.mkdir()
    while not (folder / PAGE).exists() and time.monotonic() < deadline:
        os.sched_yield()
    writer.close()
    assert len(said.words) >= 1
    assert "cannot be written" in said.words[0]
    assert not list(folder.iterdir())


def test_the_first_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / PAGE).mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        Textfile(tmp_path, Page(Snapshot, RULES))
    assert [path.name for path in tmp_path.iterdir()] == [PAGE]
