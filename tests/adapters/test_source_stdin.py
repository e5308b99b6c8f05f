"""A pipe is read to its end; the terminal takes its place for the keys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gpuwatch.adapters.sources import open_source
from gpuwatch.adapters.sources.stdin import StdinSource
from tests.adapters.watching import Watched

# Reads one key from fd 0 and one word from the pipe, as the screen and the source do at the same time.
TAKES_THE_TERMINAL = """
import os, sys
if sys.argv[1:]:
    os.open(sys.argv[1], os.O_RDWR)  # the first terminal that a session opens becomes its own
from gpuwatch.adapters.sources.stdin import take_terminal
pipe = take_terminal()
assert "textual" not in sys.modules
if pipe is None:
    print("none", os.read(0, 100))
else:
    print(os.isatty(0), os.isatty(pipe), os.read(0, 100), os.read(pipe, 100), os.get_inheritable(pipe))
"""


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    keyboard, terminal = os.openpty()
    yield keyboard, terminal
    os.close(keyboard)
    os.close(terminal)


def test_a_dash_on_the_command_line_opens_it() -> None:
    source = open_source("-", from_start=False, show_history=False)
    assert (source.name, source.kind) == ("stdin", "stdin")


def test_it_reads_to_the_end_of_the_pipe() -> None:
    reader, writer = os.pipe()
    with Watched(StdinSource(reader)) as watched:
        os.write(writer, b"one\ntw")
        watched.until_seen(b"one\ntw")
        os.write(writer, b"o\n\xff\0")
        os.close(writer)
        assert str(watched.ended()) == "the pipe ended"
    assert watched.lives() == [b"one\ntwo\n\xff\0"]
    assert watched.data(fresh=False) == b""


def test_what_powershell_sends_comes_in_utf8() -> None:
    reader, writer = os.pipe()
    with Watched(StdinSource(reader)) as watched:
        said = "\ufeff显存不足\r\nhalf".encode("utf-16-le")
        os.write(writer, said[:5])
        watched.until_seen("显".encode())
        os.write(writer, said[5:] + b"x")
        os.close(writer)
        assert str(watched.ended()) == "the pipe ended"
    assert watched.lives() == ["显存不足\r\nhalf\ufffd".encode()]


def test_stopping_closes_the_pipe_so_that_the_producer_ends() -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE, bufsize=0) as producer:
        assert producer.stdout is not None
        try:
            with Watched(StdinSource(os.dup(producer.stdout.fileno()))) as watched:
                producer.stdout.close()
                watched.until_seen(b"y\ny\n")
                watched.stop()
            assert str(watched.reason) == "stopped"
            assert producer.wait(20) == -signal.SIGPIPE
        finally:
            producer.kill()


def test_it_stops_while_the_pipe_is_silent() -> None:
    reader, writer = os.pipe()
    with Watched(StdinSource(reader)) as watched:
        watched.stop()
    os.close(writer)
    assert str(watched.reason) == "stopped"


def test_a_pipe_that_does_not_block_is_read_as_well() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with Watched(StdinSource(reader)) as watched:
        os.write(writer, b"one\n")
        watched.until_seen(b"one\n")
        os.close(writer)
        assert str(watched.ended()) == "the pipe ended"


def test_a_file_given_as_standard_input_is_read_to_its_end() -> None:
    read = "import sys, threading; from gpuwatch.adapters.sources.stdin import StdinSource\n"
    read += "print(StdinSource().run(lambda o: print(o.data) is None, threading.Event()))"
    with subprocess.Popen(
        [sys.executable, "-c", read], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.communicate("one\n", 60)[0] == "b'one\\n'\nthe pipe ended\n"


def test_a_terminal_that_hangs_up_ends_it() -> None:
    keyboard, mine = os.openpty()
    with Watched(StdinSource(mine)) as watched:
        os.write(keyboard, b"one\n")
        watched.until_seen(b"one\n")
        os.close(keyboard)
        assert str(watched.ended()) == "the pipe ended"


def test_the_terminal_takes_the_place_of_the_pipe(terminal: tuple[int, int]) -> None:
    keyboard, screen = terminal
    result = _run_with_pipe(keyboard, os.ttyname(screen))
    assert result == "True False b'key\\n' b'log line\\n' False\n"


def test_without_a_controlling_terminal_the_screen_is_taken(terminal: tuple[int, int]) -> None:
    keyboard, screen = terminal
    os.write(keyboard, b"key\n")
    with subprocess.Popen(
        [sys.executable, "-c", TAKES_THE_TERMINAL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=screen, start_new_session=True, text=True,
    ) as child:  # fmt: skip
        assert child.communicate("log line\n", 60)[0] == "True False b'key\\n' b'log line\\n' False\n"


def test_a_terminal_as_standard_input_is_left_alone(terminal: tuple[int, int]) -> None:
    keyboard, screen = terminal
    os.write(keyboard, b"key\n")
    done = subprocess.run(
        [sys.executable, "-c", TAKES_THE_TERMINAL], stdin=screen, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "none b'key\\n'\n"


def test_with_no_terminal_at_all_the_pipe_stays() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TAKES_THE_TERMINAL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    ) as child:  # fmt: skip
        assert child.communicate("log line\n", 60)[0] == "none b'log line\\n'\n"


def _run_with_pipe(keyboard: int, terminal_name: str) -> str:
    os.write(keyboard, b"key\n")
    with subprocess.Popen(
        [sys.executable, "-c", TAKES_THE_TERMINAL, terminal_name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    ) as child:  # fmt: skip
        return child.communicate("log line\n", 60)[0]
