"""Who may come in to the screen in a browser."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from gpuwatch.faces.web.door import Door, cookie_name, names_for, new_token
from tests.faces.web import SECONDS
from tests.faces.web_screen import TOKEN, Serving, serving

PATHS = ("/", "/ws", "/static/page.js", "/static/textual.js", "/static/nothing", "/nothing", "/download/1")
OURS = "http://127.0.0.1:9878"


def door(address: str = "127.0.0.1") -> Door:
    return Door(TOKEN, *names_for(address, "GpuBox"))


@pytest.mark.parametrize("host", ["127.0.0.1:9878", "localhost", "LOCALHOST:1", "[::1]:9878", "gpuwatch.localhost:80"])
def test_this_machine_s_names_are_known(host: str) -> None:
    assert door().knows_host(host)
    assert door("0.0.0.0").knows_host(host)  # noqa: S104


@pytest.mark.parametrize(
    "host",
    [
        None, "", "attacker.example", "127.0.0.1.attacker.example:9878", "localhost.attacker.example", "localhost.", "gpubox",
        "10.0.0.7", "127.0.0.1:9878@attacker.example", "127.0.0.1:", "127.0.0.1:999999", "[::1", "a b", "127.0.0.1,localhost",
        "127.0.0.1;x", "evil.localhost",
    ],
)  # fmt: skip
def test_other_names_are_not(host: str | None) -> None:
    assert not door().knows_host(host)


def test_an_address_of_one_s_own_has_its_names() -> None:
    assert all(map(door("10.0.0.7").knows_host, ["10.0.0.7:9878", "gpubox", "GPUBOX:9878"]))
    assert not any(map(door("10.0.0.7").knows_host, ["10.0.0.8", "localhost", "attacker.example"]))
    assert all(map(door("::").knows_host, ["10.0.0.7:9878", "[fe80::1]:9878", "gpubox"]))
    assert not any(
        map(door("::").knows_host, ["attacker.example", "1.2.3.4.attacker.example", "gpubox.attacker.example"])
    )


@pytest.mark.parametrize(
    "origin",
    [
        None, "", "null", "http://attacker.example", "https://127.0.0.1:9878", "http://127.0.0.1", "http://127.0.0.1:8188",
        "http://localhost:9878", "http://127.0.0.1:9878/", "http://127.0.0.1:9878.attacker.example", "file://",
    ],
)  # fmt: skip
def test_only_the_very_origin_is_ours(origin: str | None) -> None:
    assert not door().is_ours(origin, "127.0.0.1:9878")
    assert door().is_ours(OURS, "127.0.0.1:9878")


def test_tokens_and_cookies_are_not_each_other() -> None:
    assert door().lets_in(TOKEN)
    assert door().remembers(door().cookie)
    wrong = (None, "", TOKEN[:-1], TOKEN + "x", door().cookie, "é" * 40, "\udcff")
    assert not any(map(door().lets_in, wrong))
    assert not any(map(door().remembers, (None, "", TOKEN, door().cookie[:-1])))
    assert door().cookie != Door(new_token(), frozenset()).cookie
    assert TOKEN not in repr(door())
    assert len({new_token() for _number in range(100)}) == 100


def test_servers_on_two_ports_keep_two_cookies() -> None:
    names = [cookie_name(host) for host in ("127.0.0.1:9878", "127.0.0.1:9879", "127.0.0.1", "[::1]:7", "x y", None)]
    assert names == ["gpuwatch-9878", "gpuwatch-9879", "gpuwatch-80", "gpuwatch-7", "gpuwatch", "gpuwatch"]


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving() as up:
        yield up


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_there_is_nothing(server: Serving, path: str) -> None:
    for asked in (path, f"{path}?token=", f"{path}?token={TOKEN}x", f"{path}?token={server.screen.door.cookie}"):
        answer = server.ask(asked)
        assert answer.status == 403
        assert b"gpuwatch web" in answer.body
        assert answer.headers["Set-Cookie"] is None
    assert server.ask(path, Cookie="gpuwatch-1=x").status == 403
    assert server.ask(path, Cookie=server.cookie.replace(str(server.port), "1")).status == 403, (
        "another server's cookie"
    )


def test_the_token_is_traded_for_a_cookie_and_leaves_the_address(server: Serving) -> None:
    answer = server.ask(f"/?token={TOKEN}")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert cookie == server.cookie
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    page = server.ask("/", Cookie=cookie)
    assert page.status == 200
    assert re.findall(rb"(?:https?:)?//[^/'\" ]+", page.body) == [b"http://www.w3.org"], "only the name of SVG's words"
    assert b"<title>gpuwatch</title>" in page.body
    assert TOKEN.encode() not in page.body + page.headers.as_bytes()
    assert server.ask("/?ping=http://attacker.example/&delay=1", Cookie=cookie).headers["Location"] == "/"


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("page.js", "text/javascript"), ("textual.js", "text/javascript"), ("page.css", "text/css"),
        ("xterm.css", "text/css"), ("upright.ttf", "font/ttf"), ("italic.ttf", "font/ttf"),
    ],
)  # fmt: skip
def test_the_files_of_the_page(server: Serving, name: str, content_type: str) -> None:
    answer = server.ask(f"/static/{name}", cookie=True)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(content_type)
    assert answer.body
    assert re.search(rb"@import|url\([\"']?(https?:)?//", answer.body) is None, "nothing is loaded from elsewhere"


def test_every_answer_keeps_the_page_to_itself(server: Serving) -> None:
    answers = [
        server.ask("/", cookie=True), server.ask("/static/page.js", cookie=True), server.ask(f"/?token={TOKEN}"),
        server.ask("/"), server.ask("/nothing", cookie=True), server.ask("/", cookie=True, method="POST"),
        server.ask("/", cookie=True, Host="attacker.example"), server.ask("/ws", cookie=True),
        server.ask("/", Sec_Fetch_Site="cross-site"),
    ]  # fmt: skip
    assert [answer.status for answer in answers] == [200, 200, 303, 403, 404, 405, 421, 403, 200]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self'; script-src 'self'; ")
        assert "frame-ancestors 'none'" in policy
        assert "sandbox allow-scripts allow-same-origin" in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "gpuwatch"
        assert "attacker" not in policy
    assert f"connect-src 'self' ws://{server.host}; " in answers[0].headers["Content-Security-Policy"]


@pytest.mark.parametrize("host", ["attacker.example", f"attacker.example:{9878}", "", "127.0.0.1.attacker.example"])
def test_another_name_gets_nothing_even_with_the_token(server: Serving, host: str) -> None:
    for path in PATHS:
        assert server.ask(f"{path}?token={TOKEN}", Host=host).status in {400, 421}
        assert (
            server.ask(path, Host=host, Cookie=f"{server.cookie}; gpuwatch-9878={server.screen.door.cookie}").status
            != 200
        )


def test_a_tunnel_s_port_is_no_other_name(server: Serving) -> None:
    answer = server.ask(f"/?token={TOKEN}", Host="localhost:1234")
    assert answer.headers["Set-Cookie"].startswith("gpuwatch-1234=")
    assert server.ask("/", Host="localhost:1234", Cookie=answer.headers["Set-Cookie"].partition(";")[0]).status == 200


@pytest.mark.parametrize("origin", [None, "null", "http://attacker.example", "http://127.0.0.1:8188", "https://{host}"])
def test_no_other_page_opens_the_websocket(server: Serving, origin: str | None) -> None:
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    given = {} if origin is None else {"Origin": origin.format(host=server.host)}
    assert server.ask("/ws", cookie=True, **upgrade, **given).status == 403
    assert server.ask(f"/ws?token={TOKEN}", **upgrade, **given).status == 403
    assert server.screen.pids == []


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static/....//server.py", "/static/",
        "/static//etc/passwd", "//etc/passwd", "/static/page.html", "/static/page.js%00", "/static/page.js/", "/download/x",
        "/static", "/%2e%2e/%2e%2e/etc/passwd", "/static/..\\server.py",
    ],
)  # fmt: skip
def test_paths_lead_to_nothing_on_the_disk(server: Serving, path: str) -> None:
    assert server.ask(path, cookie=True).status in {400, 403, 404}


def test_a_link_from_elsewhere_is_asked_again_by_a_page_of_ours(server: Serving) -> None:
    again = server.ask("/", Sec_Fetch_Site="cross-site")
    assert again.status == 200
    assert b'content="0;url=/"' in again.body
    assert b"textual" not in again.body
    assert server.ask("/", Sec_Fetch_Site="same-origin").status == 403, "there the round ends"
    assert server.ask("/static/page.js", Sec_Fetch_Site="cross-site").status == 403
    assert server.ask(f"/?token={TOKEN}x", Sec_Fetch_Site="cross-site").status == 403
    assert server.ask("/", cookie=True, Sec_Fetch_Site="cross-site").status == 200


def test_what_is_no_request_hurts_nobody(server: Serving) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"A" * 70_000,
        b"\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as raw:
            raw.sendall(garbage + b"\r\n\r\n")
            raw.shutdown(socket.SHUT_WR)
            answered = b""
            try:
                while data := raw.recv(65536):
                    answered += data
            except ConnectionResetError:
                pass
            assert b" 200 " not in answered[:20]
            assert b"Traceback" not in answered
    assert server.ask("/", cookie=True).status == 200
    assert server.said.words == []
