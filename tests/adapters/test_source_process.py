"""A child process is read, named by how it ended, and ended with all that it started."""

from __future__ import annotations

import os
import select
import sys
import threading
from pathlib import Path

import pytest

from gpuwatch.adapters.sources import open_source
from gpuwatch.adapters.sources.process import ProcessSource
from gpuwatch.errors import UsageError
from tests.adapters.watching import DEADLINE_SECONDS, Watched


def shell(script: str) -> Watched:
    return Watched(ProcessSource(["sh", "-c", script], name="job"))


def test_a_word_on_the_command_line_opens_it() -> None:
    source = open_source("cmd:python3 'my main.py' --lowvram", from_start=False, show_history=False)
    assert (source.name, source.kind) == ("python3 'my main.py' --lowvram", "cmd")


def test_a_long_command_has_a_short_name() -> None:
    assert len(ProcessSource(["sh", *["--lowvram"] * 20]).name) == 40


def test_both_streams_come_in_the_order_they_were_printed() -> None:
    with shell("echo one; echo two >&2; printf three") as watched:
        assert str(watched.ended()) == "job ended with exit code 0"
    assert watched.lives() == [b"one\ntwo\nthree"]
    assert {(each.source, each.kind) for each in watched.observations} == {("job", "cmd")}


def test_the_exit_code_is_told() -> None:
    with shell("exit 3") as watched:
        assert str(watched.ended()) == "job ended with exit code 3"


def test_the_signal_is_told_by_name() -> None:
    with shell("kill -KILL $$") as watched:
        assert str(watched.ended()) == "job was ended by SIGKILL"


def test_a_real_time_signal_is_told_by_number() -> None:
    with shell("kill -40 $$") as watched:
        assert str(watched.ended()) == "job was ended by 40"


def test_words_are_never_read_by_a_shell(tmp_path: Path) -> None:
    with Watched(ProcessSource.from_words(f"echo $HOME '*' > {tmp_path}/out; true")) as watched:
        watched.ended()
    assert watched.lives() == [f"$HOME * > {tmp_path}/out; true\n".encode()]
    assert not (tmp_path / "out").exists()


def test_its_environment_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with shell("echo $CUDA_VISIBLE_DEVICES ${PYTHONUNBUFFERED-unset}") as watched:
        watched.ended()
    assert watched.lives() == [b"3 unset\n"]


def test_stopping_asks_politely_first(tmp_path: Path) -> None:
    farewell = tmp_path / "farewell"
    with shell(f"trap 'echo bye > {farewell}; exit 0' TERM; echo ready; while :; do sleep 0.05; done") as watched:
        watched.until_seen(b"ready")
        watched.stop()
    assert str(watched.reason) == "stopped"
    assert farewell.read_text() == "bye\n"


def test_stopping_ends_one_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.adapters.sources.process._POLITE_SECONDS", 0.2)
    deaf = "import os, signal; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); signal.pause()"
    with Watched(ProcessSource([sys.executable, "-c", deaf])) as watched:
        watched.until_seen(b"\n")
        gone = _watch_for_its_end(int(watched.lives()[0]))
        watched.stop()
    _assert_ended(gone)


def test_stopping_ends_what_it_started_too() -> None:
    with shell("sleep 1000 & echo $!; wait") as watched:
        watched.until_seen(b"\n")
        gone = _watch_for_its_end(int(watched.lives()[0]))
        watched.stop()
    _assert_ended(gone)


def test_stopping_does_not_hang_on_one_that_never_stops_printing() -> None:
    with Watched(ProcessSource(["yes"])) as watched:
        watched.until_seen(b"y\n")
        watched.stop()
    assert str(watched.reason) == "stopped"


def test_one_that_closes_its_output_is_waited_for() -> None:
    reader, writer = os.pipe()
    with Watched(
        ProcessSource(["sh", "-c", f"exec >&- 2>&-; read word < /proc/{os.getpid()}/fd/{reader}; exit 4"])
    ) as watched:
        os.write(writer, b"go\n")
        assert str(watched.ended()).endswith("ended with exit code 4")
    os.close(reader)
    os.close(writer)


def test_one_that_closes_its_output_can_be_stopped() -> None:
    with shell("echo ready; exec >&- 2>&-; exec sleep 1000") as watched:
        watched.until_seen(b"ready")
        watched.stop()
    assert str(watched.reason) == "stopped"


def test_what_it_leaves_behind_does_not_hide_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.adapters.sources.process._ORPHAN_SECONDS", 0.0)
    with shell("sleep 1000 & echo $!; exit 5") as watched:
        assert str(watched.ended()) == "job ended with exit code 5"
    os.kill(int(watched.lives()[0]), 15)


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(UsageError, match="no such command") as refused:
        ProcessSource.from_words("no-such-command --flag")
    assert "env NAME=VALUE" in str(refused.value.hint)


@pytest.mark.parametrize("words", ["", "   "])
def test_no_command_is_refused(words: str) -> None:
    with pytest.raises(UsageError, match="needs a command"):
        ProcessSource.from_words(words)


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(UsageError, match="quotes"):
        ProcessSource.from_words("sh -c 'echo")


def test_a_file_that_is_no_program_is_refused_when_it_is_started(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x00\x01\x02")
    program.chmod(0o755)
    with pytest.raises(UsageError, match="cannot be started"):
        ProcessSource([str(program)]).run(lambda _: True, threading.Event())


def _watch_for_its_end(pid: int) -> int:
    return os.pidfd_open(pid)


def _assert_ended(process: int) -> None:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    assert poll.poll(DEADLINE_SECONDS * 1000), "the process lives on"
    os.close(process)
