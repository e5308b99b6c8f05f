"""`gpuwatch web`: what it serves to whom, how it ends, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from websockets.sync.client import connect

from gpuwatch.faces import cli
from gpuwatch.faces.commands import web
from gpuwatch.faces.web.screen import parser, words_for
from tests.faces.tui_story import FAILURES
from tests.faces.web import SECONDS
from tests.faces.web_screen import closing_code, gone, received, serving


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "comfyui.log"
    path.write_bytes(b"got prompt\n[ERROR] CUDA out of memory. Tried to allocate 4.00 GiB\n" + FAILURES)
    return path


@contextmanager
def command(*words: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The real command, and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gpuwatch.faces.cli", "web", "--port", "0", *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()  # or the wait for it would have no end


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_the_real_screen_ends_with_its_server(log: Path, ending: signal.Signals) -> None:
    with command(log) as (process, address):
        host, _slash, query = address.removeprefix("http://").partition("/")
        with connect(
            f"ws://{host}/ws{query}&width=100&height=30", origin=f"http://{host}", open_timeout=SECONDS
        ) as page:  # type: ignore[arg-type]  # their name for str
            received(page, b"GPU memory ran out")
            page.send(json.dumps(["stdin", "x"]))
            received(page, b"This screen only shows")
            (child,) = psutil.Process(process.pid).children()
            assert child.cmdline()[1:5] == ["-P", "-m", "gpuwatch.faces.web.screen", "--read-only"]
            assert query.partition("=")[2] not in " ".join(child.cmdline() + list(child.environ().values()))
            process.send_signal(ending)
            assert gone(child.pid)
            assert closing_code(page) == (1006 if ending is signal.SIGKILL else 1001)
        assert process.wait(SECONDS) == (-ending if ending is signal.SIGKILL else 0)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_with_actions_allowed_they_are_done(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(log.parent)
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(log.parent / "state"))
    with command(log, "--allow-actions") as (_process, address):
        host, _slash, query = address.removeprefix("http://").partition("/")
        with connect(f"ws://{host}/ws{query}", origin=f"http://{host}", open_timeout=SECONDS) as page:  # type: ignore[arg-type]  # as above
            received(page, b"GPU memory ran out")
            page.send(json.dumps(["stdin", "x"]))
            received(page, b"Written to")
    assert [path.suffix for path in log.parent.glob("gpuwatch-*")] == [".md"]


def test_quitting_the_screen_ends_the_page_and_not_the_server(log: Path) -> None:
    with command(log, "--lang", "zh") as (process, address):
        host, _slash, query = address.removeprefix("http://").partition("/")
        with connect(f"ws://{host}/ws{query}", origin=f"http://{host}", open_timeout=SECONDS) as page:  # type: ignore[arg-type]  # as above
            received(page, "显存不足".encode())
            page.send(json.dumps(["stdin", "q"]))
            assert closing_code(page) == 4004
        assert process.poll() is None
        assert [child for child in psutil.Process(process.pid).children() if not gone(child.pid)] == []


def arguments_for(*words: str) -> list[str]:
    parsed = cli.build_parser({"web": web}).parse_args(["web", *words])
    return words_for(parsed, parsed.sources, language=None)


def test_what_a_page_s_process_is_told() -> None:
    assert arguments_for("a log")[4:] == ["--read-only", "--no-journal", "--", "a log"]
    words = arguments_for("--allow-actions", "--from-start", "--gpu-memory", "8GiB", "--rules", "-x y", "--", "-a", "b")
    told = parser().parse_args(words[4:])
    assert (told.read_only, told.no_journal, told.from_start) == (False, False, True)
    assert (told.gpu_memory, told.rules, told.sources) == (8 << 30, Path("-x y"), ["-a", "b"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "x"], "write a number from 0 to 65535, not x"),
        (["--port", "65536"], "write a number from 0 to 65535, not 65536"),
        (["--sessions", "0"], "write a number from 1 to 64, not 0"),
        (["nothere.log"], "nothere.log: there is no such file."),
        (["-"], "a pipe cannot be shared"),
        (["cmd:ls"], "cmd:ls: every page would start it once more."),
        (["LOG", "--page-token-file", "nothere"], "nothere: cannot be read"),
        (["LOG", "--page-token-file", "LOG"], "holds no token: 16 to 512"),
        (["LOG", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid:9878"),
        (["LOG", "--rules", "nothere"], "nothere: there is no such rules folder."),
    ],
)
def test_what_cannot_be_served_is_told(
    words: Sequence[str], told: str, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["web", *(str(log) if word == "LOG" else word for word in words)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert told in said.err


def test_a_port_that_is_taken_is_told(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        assert cli.main(["web", str(log), "--port", str(server.port)]) == 2
    assert "choose another port with --port" in capsys.readouterr().err.lower()


def test_a_pipe_without_a_source_is_refused(log: Path) -> None:
    words = [sys.executable, "-m", "gpuwatch.faces.cli", "web"]
    with log.open() as piped:
        done = subprocess.run(
            words,
            stdin=piped,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 2
    assert "tee comfyui.log" in done.stderr


def test_a_token_of_one_s_own(tmp_path: Path, log: Path) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    with command(log, "--page-token-file", tmp_path / "token") as (_process, address):
        assert address.endswith("/?token=0123456789abcdef")


def test_without_the_extra_it_says_what_to_install(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "gpuwatch.faces.web.server", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert cli.main(["web", str(log)]) == 2
    assert "pip install 'gpuwatch[web]'" in capsys.readouterr().err


def test_the_way_to_the_browser_is_nobody_else_s_to_read() -> None:
    with web.pointing_file("http://127.0.0.1:1/?token=x&y=<z>") as path:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert "url=http://127.0.0.1:1/?token=x&amp;y=&lt;z&gt;" in path.read_text()
    assert not path.exists()


def test_a_browser_without_a_window_is_not_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    web.open_browser(Path("/nowhere"))
    assert "open the address yourself" in capsys.readouterr().err


def test_beyond_loopback_it_warns(log: Path) -> None:
    if not os.access("/proc/net", os.R_OK):
        pytest.skip("no addresses to listen on")
    with command(log, "--host", "0.0.0.0") as (process, address):  # noqa: S104
        assert f"//{socket.gethostname()}:" in address
        process.terminate()
        assert process.stderr is not None
        assert "warning: 0.0.0.0 can be reached from other machines" in process.stderr.read()
