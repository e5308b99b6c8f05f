"""The websocket that is listened to, against a real server of the library's, and against one that falls silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection, serve

from gpuwatch.adapters.comfyui import listening
from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.client import Client
from gpuwatch.adapters.comfyui.listening import Socket, SocketLostError

PATIENCE_SECONDS = 30


@contextmanager
def served(play: Callable[[ServerConnection], None]) -> Iterator[Client]:
    """A client of a server that plays this on each connection."""
    with serve(play, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with closing(Client(server_of(f"http://127.0.0.1:{server.socket.getsockname()[1]}"))) as client:
            yield client
        server.shutdown()
        thread.join(PATIENCE_SECONDS)


def test_whole_messages_are_told_and_what_says_nothing_is_passed_over() -> None:
    def play(connection: ServerConnection) -> None:
        connection.send(iter(['{"type": "sta', "", 'tus", "data": "é"}']))  # in three frames
        connection.send(b"\0\0\0\1 a preview image")
        connection.send(iter([b"one in", b" two frames"]))
        connection.send("no JSON")
        connection.send("[1, 2]")
        connection.send("[" * 100_000)
        connection.send('{"type": "logs"}')

    with served(play) as client, closing(Socket(client)) as heard:
        assert heard.next(PATIENCE_SECONDS) == {"type": "status", "data": "é"}
        assert heard.next(PATIENCE_SECONDS) == {"type": "logs"}
        with pytest.raises(SocketLostError, match="was closed"):
            heard.next(PATIENCE_SECONDS)
        with pytest.raises(SocketLostError):
            heard.next(0)


def test_frames_that_came_are_given_without_waiting() -> None:
    went, all_heard = threading.Event(), threading.Event()

    def play(connection: ServerConnection) -> None:
        for number in range(3):
            connection.send(f'{{"number": {number}}}')
        went.set()
        all_heard.wait(PATIENCE_SECONDS)

    with served(play) as client, closing(Socket(client)) as heard:
        assert went.wait(PATIENCE_SECONDS)
        assert heard.next(PATIENCE_SECONDS) == {"number": 0}
        assert [heard.next(0), heard.next(0), heard.next(0)] == [{"number": 1}, {"number": 2}, None]
        all_heard.set()


def test_a_message_beyond_the_limit_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_MOST_FRAME_BYTES", 1000)

    def play(connection: ServerConnection) -> None:
        connection.send("x" * 2000)

    with served(play) as client, closing(Socket(client)) as heard, pytest.raises(SocketLostError):
        heard.next(PATIENCE_SECONDS)


def test_another_thread_ends_a_wait() -> None:
    leave = threading.Event()
    with served(lambda _: leave.wait(PATIENCE_SECONDS) and None) as client, closing(Socket(client)) as heard:
        threading.Timer(0.05, heard.abort).start()
        with pytest.raises(SocketLostError):
            heard.next(PATIENCE_SECONDS)
        leave.set()


def test_pings_are_answered() -> None:
    answered = threading.Event()

    def play(connection: ServerConnection) -> None:
        if connection.ping().wait(PATIENCE_SECONDS):
            answered.set()
        connection.send('{"type": "status"}')

    with served(play) as client, closing(Socket(client)) as heard:
        assert heard.next(PATIENCE_SECONDS) == {"type": "status"}
        assert answered.is_set()


def test_one_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_PING_SECONDS", 0.1)
    left = threading.Event()

    def agree_and_say_nothing() -> None:
        connection, _address = door.accept()
        with connection:
            protocol = ServerProtocol()
            while not (events := protocol.events_received()):
                protocol.receive_data(connection.recv(4096))
            protocol.send_response(protocol.accept(events[0]))  # type: ignore[arg-type]
            connection.sendall(b"".join(protocol.data_to_send()))
            left.wait(PATIENCE_SECONDS)

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=agree_and_say_nothing, daemon=True)
        thread.start()
        address = server_of(f"http://127.0.0.1:{door.getsockname()[1]}")
        with closing(Client(address)) as client, closing(Socket(client)) as heard, pytest.raises(SocketLostError):
            heard.next(PATIENCE_SECONDS)
        left.set()
        thread.join(PATIENCE_SECONDS)


def test_what_is_no_websocket_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]

        def answer() -> None:
            connection, _address = door.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with closing(Client(server_of(f"http://127.0.0.1:{port}"))) as client:
            with pytest.raises(SocketLostError, match=r"cannot be opened.*404"):
                Socket(client)
            thread.join(PATIENCE_SECONDS)
    with (
        closing(Client(server_of(f"http://127.0.0.1:{port}"))) as client,
        pytest.raises(SocketLostError, match="refused"),
    ):
        Socket(client)
