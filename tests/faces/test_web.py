"""The screen in a browser: the processes behind the pages."""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from gpuwatch.faces.web import session
from gpuwatch.faces.web.session import MOST_COLUMNS, MOST_ROWS, PRELUDE
from tests.faces.web import SECONDS
from tests.faces.web_screen import Serving, closing_code, gone, received, serving

STUBBORN = [
    sys.executable,
    "-c",
    "import os, signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "child = subprocess.Popen(['sleep', '1000'])\n"
    f"os.write(1, {PRELUDE!r} + b'D' + (8).to_bytes(4, 'big') + b'%08d' % child.pid)\n"
    "time.sleep(1000)",
]
"""A program that ends neither when its input does nor when it is asked to, and has one of its own."""


def only_pid(server: Serving) -> int:
    (pid,) = server.screen.pids
    return pid


def echoed(page: ClientConnection) -> None:
    """Wait until the page has its process."""
    page.send(json.dumps(["stdin", "x"]))
    received(page, b"x")


# -- what a page and its process say to each other ---------------------------------------------------------------------------


def test_keys_sizes_and_looks_reach_the_process_and_what_it_draws_the_page() -> None:
    with serving() as server, server.open() as page:
        page.send(json.dumps(["stdin", "hé\ud800"]))
        assert received(page, b"h\xc3\xa9?") == b"D\0\0\0\4h\xc3\xa9?"
        page.send(json.dumps(["resize", {"width": 100, "height": 30}]))
        assert json.loads(received(page, b"}")[5:]) == {"type": "resize", "width": 100, "height": 30}
        page.send(json.dumps(["resize", {"width": 10**9, "height": -5}]))
        assert json.loads(received(page, b"}")[5:]) == {"type": "resize", "width": MOST_COLUMNS, "height": 1}
        page.send(json.dumps(["blur"]))
        assert json.loads(received(page, b"}")[5:]) == {"type": "blur"}
        page.send(json.dumps(["ping", "12"]))
        assert json.loads(page.recv(timeout=SECONDS)) == ["pong", "12"]


@pytest.mark.parametrize(
    ("asked", "columns", "rows"),
    [
        ("width=133&height=38", 133, 38), ("width=0&height=-1", 80, 24), ("width=99999&height=x", 80, 24), ("", 80, 24),
        (f"width={MOST_COLUMNS}&height={MOST_ROWS}", MOST_COLUMNS, MOST_ROWS), ("width=%F0%9D%9F%9A&height=1e3", 80, 24),
    ],
)  # fmt: skip
def test_the_first_size(asked: str, columns: int, rows: int) -> None:
    script = (
        "import os\nsize = (os.environ['COLUMNS'] + 'x' + os.environ['ROWS']).encode()\n"
        f"os.write(1, {PRELUDE!r} + b'D' + len(size).to_bytes(4, 'big') + size)"
    )
    with serving([sys.executable, "-c", script]) as server, server.open(size=asked) as page:
        assert page.recv(timeout=SECONDS) == f"{columns}x{rows}".encode()
        assert closing_code(page) == 4004


@pytest.mark.parametrize(
    "words",
    [
        "", "x", "{}", "[]", "null", '["stdin"]', '["stdin", 1]', '["stdin", {"a": 1}]', '["resize", {"width": "1"}]', '["quit"]',
        '["resize", {"width": 1.5, "height": 2}]', "[" * 30_000, '{"a":' * 9_000, '["deliver_chunk_request", "x"]', b"\0\xff",
        '["meta", {"type": "quit"}]', "1" * 10_000,
    ],
    ids=lambda words: repr(words[:24]),
)  # fmt: skip
def test_garbage_ends_the_page_and_its_process(words: str | bytes) -> None:
    with serving() as server, server.open() as page:
        echoed(page)
        pid = only_pid(server)
        page.send(words)
        assert closing_code(page) == 4003
        assert gone(pid)
        assert server.said.words == []


def test_a_huge_message_is_not_taken_in() -> None:
    with serving() as server, server.open() as page:
        echoed(page)
        pid = only_pid(server)
        try:
            page.send("A" * 8_000_000)
            assert closing_code(page) in {1009, 1006}
        except ConnectionClosed:
            pass
        assert gone(pid)


def test_frames_that_are_none_end_it_too() -> None:
    with serving() as server, server.open() as page:
        echoed(page)
        pid = only_pid(server)
        page.socket.sendall(b"\xff" * 64)
        assert gone(pid)


# -- how many, and how they end ----------------------------------------------------------------------------------------------


def test_no_more_than_so_many_and_another_when_one_has_left() -> None:
    with serving(most=2) as server, server.open() as first:
        echoed(first)
        pid = only_pid(server)
        with server.open() as second, server.open() as third:
            assert closing_code(third) == 4001
            echoed(second)
            first.close()
            assert gone(pid)
            with server.open() as later:
                echoed(later)


def test_a_page_that_is_loaded_again_finds_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_POLITE_SECONDS", 0.3)
    monkeypatch.setattr(session, "_TERM_SECONDS", 0.1)
    with serving(STUBBORN, most=1) as server:
        with server.open() as page:
            page.recv(timeout=SECONDS)
            pid = only_pid(server)
        assert psutil.pid_exists(pid), "it takes a moment to end"
        with server.open() as page:
            page.recv(timeout=SECONDS)
            assert only_pid(server) != pid
            assert gone(pid)


def test_fifty_at_once_are_four() -> None:
    with serving(most=4) as server, ThreadPoolExecutor(50) as people:

        def come(_number: int) -> int | None:
            with server.open() as page:
                try:
                    echoed(page)
                except ConnectionClosed:
                    return page.close_code
                leave.wait(SECONDS)
                return None

        leave = threading.Event()
        coming = [people.submit(come, number) for number in range(50)]
        for _sent_away in islice(as_completed(coming, SECONDS), 46):
            pass
        leave.set()
        codes = [each.result(SECONDS) for each in coming]
        assert codes.count(None) == 4
        assert codes.count(4001) == 46
        assert server.ask("/", cookie=True).status == 200


def test_a_connection_that_breaks_ends_the_process() -> None:
    with serving() as server, server.open() as page:
        echoed(page)
        pid = only_pid(server)
        page.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        page.socket.shutdown(socket.SHUT_RDWR)
        assert gone(pid)


def test_a_process_that_does_not_end_is_killed_with_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_POLITE_SECONDS", 0.1)
    monkeypatch.setattr(session, "_TERM_SECONDS", 0.1)
    with serving(STUBBORN) as server:
        with server.open() as page:
            grandchild = int(page.recv(timeout=SECONDS))
            pid = only_pid(server)
        assert gone(pid)
        assert gone(grandchild)


def test_a_page_that_reads_nothing_ends_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_POLITE_SECONDS", 0.1)
    script = f"import os\nos.write(1, {PRELUDE!r})\nwhile True: os.write(1, b'D' + (60000).to_bytes(4, 'big') + b'x' * 60000)"
    with serving([sys.executable, "-c", script]) as server, server.open() as page:
        page.recv(timeout=SECONDS)
        pid = only_pid(server)
        page.socket.shutdown(socket.SHUT_RDWR)
        assert gone(pid)


def test_the_end_of_the_server_is_told_and_is_every_page_s() -> None:
    with serving() as server, server.open() as one, server.open() as other:
        echoed(one)
        echoed(other)
        pids = server.screen.pids
        server.loop.call_soon_threadsafe(server.screen.stop)
        assert [closing_code(one), closing_code(other)] == [1001, 1001]
        assert all(map(gone, pids))


def test_a_program_that_fails_says_so_where_the_server_runs() -> None:
    with serving([sys.executable, "-c", "raise SystemExit('the disk\x1b[2J is full')"]) as server:
        with server.open() as page:
            assert closing_code(page) == 4002
        assert server.said.words == ["the disk␛[2J is full"]
        with server.open() as page:
            assert closing_code(page) == 4002
    with serving(["/no/such/program"]) as server, server.open() as page:
        assert closing_code(page) == 4002
        assert "/no/such/program" in server.said.words[0]


def test_packets_of_other_kinds_reach_no_page() -> None:
    told = json.dumps({"type": "open_url", "url": "http://attacker.example", "new_tab": True}).encode()
    asked = json.dumps(
        {"type": "deliver_file_start", "key": "k", "path": "/etc/passwd", "open_method": "download"}
    ).encode()
    packets = b"".join(b"M" + len(each).to_bytes(4, "big") + each for each in (told, asked, b"no json", b'["exit"]'))
    script = (
        f"import os; os.write(1, {PRELUDE + packets + b'P' + bytes(4) + b'D' + (4).to_bytes(4, 'big') + b'last'!r})"
    )
    with serving([sys.executable, "-c", script]) as server, server.open() as page:
        assert page.recv(timeout=SECONDS) == b"last"
        assert closing_code(page) == 4004
