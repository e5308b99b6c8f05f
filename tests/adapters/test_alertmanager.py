"""Where Alertmanager's webhook arrives: one path, one method, bounded."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gpuwatch.adapters import alertmanager
from gpuwatch.adapters.alertmanager import MOST_BYTES, AlertReceiver
from gpuwatch.errors import UsageError
from gpuwatch.texts import text


@contextmanager
def receiving(token: str | None = None, *, room: bool = True) -> Iterator[tuple[str, list[Any]]]:
    taken: list[Any] = []

    def take(document: Any) -> bool:
        if document == "wrong":
            raise UsageError(text("that is wrong"))
        taken.append(document)
        return room

    receiver = AlertReceiver("127.0.0.1", 0, take, token)
    try:
        yield receiver.address, taken
    finally:
        receiver.close()


def ask(
    address: str, method: str = "POST", path: str = "/alerts", body: bytes = b"{}", **headers: str
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address.split("/")[2], timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    told = answer.status, answer.read().decode()
    connection.close()
    return told


def test_a_message_is_taken() -> None:
    with receiving() as (address, taken):
        assert address.endswith("/alerts")
        assert ask(address, body=b'{"a": 1}') == (200, "ok\n")
    assert taken == [{"a": 1}]


def test_where_there_is_no_room_alertmanager_is_to_try_again() -> None:
    with receiving(room=False) as (address, _taken):
        assert ask(address)[0] == 503


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({"path": "/"}, 404),
        ({"path": "/alerts/more"}, 404),
        ({"method": "GET"}, 405),
        ({"method": "PUT"}, 405),
        ({"body": b"not json"}, 400),
        ({"body": b"[" * 100_000}, 400),
        ({"body": b"\xff\xfe"}, 400),
        ({"body": b'"wrong"'}, 400),
        ({"Content_Length": "many"}, 411),
        ({"Content_Length": "-1"}, 411),
        ({"Content_Length": str(MOST_BYTES + 1)}, 413),
        ({"Content_Length": "9" * 30}, 413),
    ],
)
def test_anything_else_is_refused_and_the_next_is_taken(words: dict[str, Any], status: int) -> None:
    with receiving() as (address, taken):
        told, said = ask(address, **words)
        assert told == status
        assert said.strip()
        assert ask(address) == (200, "ok\n")
    assert taken == [{}]


def test_a_message_that_does_not_come_whole_is_not_taken() -> None:
    with receiving() as (address, taken):
        host, port = address.split("/")[2].split(":")
        with socket.create_connection((host, int(port))) as there:
            there.sendall(b"POST /alerts HTTP/1.1\r\nContent-Length: 100\r\n\r\n{}")
            there.shutdown(socket.SHUT_WR)
            assert b" 408 " in there.recv(1 << 16)
    assert taken == []


def test_a_page_of_another_site_cannot_write_here() -> None:
    with receiving() as (address, taken):
        assert ask(address, Origin="https://evil.example", Content_Type="text/plain")[0] == 403
        assert ask(address, Origin="null")[0] == 403
    assert taken == []


def test_a_token_is_wanted_where_there_is_one() -> None:
    with receiving("open-sesame") as (address, taken):
        assert ask(address)[0] == 401
        assert ask(address, Authorization="Bearer open-sesam")[0] == 401
        assert ask(address, Authorization="Basic open-sesame")[0] == 401
        assert ask(address, Authorization="Bearer é")[0] == 401
        assert ask(address, Authorization="Bearer open-sesame")[0] == 200
    assert len(taken) == 1


def test_a_port_that_is_taken_is_named() -> None:
    with receiving() as (address, _taken), pytest.raises(UsageError, match="cannot listen"):
        AlertReceiver("127.0.0.1", int(address.split("/")[2].split(":")[1]), json.loads)


def test_senders_that_hang_do_not_keep_others_out() -> None:
    with receiving() as (address, taken):
        host, port = address.split("/")[2].split(":")
        hanging = [socket.create_connection((host, int(port))) for _ in range(8)]
        assert ask(address)[0] == 200
        for each in hanging:
            each.close()
    assert len(taken) == 1


def test_who_sends_too_slowly_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alertmanager, "_REQUEST_SECONDS", 0.3)
    with receiving() as (address, taken):
        host, port = address.split("/")[2].split(":")
        slow = [socket.create_connection((host, int(port)), timeout=60) for _ in range(3)]
        slow[0].sendall(b"POST /alerts HTTP/1.1\r\nContent-Len")
        slow[1].sendall(b"POST /alerts HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        for each in slow:
            while each.recv(1 << 16):
                pass
            each.close()
        assert ask(address)[0] == 200
    assert len(taken) == 1


def test_more_than_it_takes_at_once_are_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alertmanager, "_MOST_CONNECTIONS", 2)
    with receiving() as (address, _taken):
        host, port = address.split("/")[2].split(":")
        waiting = [socket.create_connection((host, int(port)), timeout=60) for _ in range(2)]
        with socket.create_connection((host, int(port)), timeout=60) as third:
            assert third.recv(1) == b""
        for each in waiting:
            each.close()
