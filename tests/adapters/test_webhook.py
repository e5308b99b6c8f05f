"""One notice to one address: what travels, what is said of the answer, and what is never printed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gpuwatch.adapters.webhook import Carrier, Verdict, read_secret, retry_after, signature, target_of
from gpuwatch.core.notices import Notice
from gpuwatch.errors import UsageError
from gpuwatch.faces.notice_shapes import CHATS, OWN
from gpuwatch.texts import render, text
from tests.adapters.receiver import SECONDS, Hook, hook
from tests.core.cases import AT
from tests.faces.web import make_certificates

SECRET = b"0123456789abcdef0123456789abcdef"
NOTICE = Notice("one-opened", "opened", AT, "one", "error", text("GPU memory ran out"))


def carried(address: str, notice: Notice = NOTICE, **more: object) -> Verdict:
    return Carrier(target_of(address), OWN, **more).carry(notice, AT)  # type: ignore[arg-type]


# -- addresses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://hooks.slack.com/services/T0/B0/SECRET", "https://hooks.slack.com/…"),
        ("http://user:SECRET@127.0.0.1:9000/SECRET?key=SECRET", "http://127.0.0.1:9000/…"),
        ("HTTPS://Example.COM:443/SECRET", "https://example.com/…"),
        ("http://[::1]:80/SECRET", "http://[::1]/…"),
        ("https://例子.测试/SECRET", "https://xn--fsqu00a.xn--0zwm56d/…"),
    ],
)
def test_an_address_is_shown_without_what_is_secret_in_it(address: str, shown: str) -> None:
    target = target_of(address)
    assert target.shown == shown
    assert "SECRET" not in repr(target)


@pytest.mark.parametrize(
    "address",
    ["", "hooks.slack.com/SECRET", "ftp://x/SECRET", "http:///SECRET", "http://x:0/SECRET", "http://x:99999/SECRET",
     "https://[SECRET", "http://x/SECRET\nHost: y", "https://x /SECRET"],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_being_shown(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        target_of(address)
    assert "SECRET" not in render(caught.value.message) + render(caught.value.hint or "")


def test_an_address_can_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("https://example.com/SECRET\n")
    assert target_of(f"@{tmp_path / 'url'}").path == "/SECRET"
    with pytest.raises(UsageError, match="cannot be read"):
        target_of(f"@{tmp_path / 'none'}")
    (tmp_path / "big").write_text("x" * 5000)
    with pytest.raises(UsageError, match="too large"):
        target_of(f"@{tmp_path / 'big'}")


# -- secrets ---------------------------------------------------------------------------------------------------------------


def test_a_secret_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o600)
    assert read_secret(path, {}) == (SECRET, None)
    path.chmod(0o644)
    secret, warning = read_secret(path, {})
    assert secret == SECRET
    assert warning is not None
    assert "chmod 600" in render(warning, "en")
    assert read_secret(None, {"GPUWATCH_NOTIFY_SECRET": SECRET.decode()}) == (SECRET, None)
    assert read_secret(None, {}) == (None, None)
    path.write_bytes(b"whsec_" + base64.b64encode(SECRET))
    assert read_secret(path, {})[0] == SECRET


@pytest.mark.parametrize("written", [b"", b"short", b"whsec_!!!", b"whsec_c2hvcnQ=", b"x" * 5000])
def test_what_is_no_secret_is_refused(tmp_path: Path, written: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(written)
    with pytest.raises(UsageError):
        read_secret(path, {})
    with pytest.raises(UsageError, match="cannot be read"):
        read_secret(tmp_path, {})


def test_the_signature_is_that_of_standard_webhooks() -> None:
    headers = signature("msg", AT, b"{}", SECRET)
    seconds = str(int(AT.timestamp()))
    digest = base64.b64encode(hmac.new(SECRET, b"msg." + seconds.encode() + b".{}", hashlib.sha256).digest()).decode()
    assert headers == {"webhook-timestamp": seconds, "webhook-signature": f"v1,{digest}"}


# -- what travels ----------------------------------------------------------------------------------------------------------


def test_a_notice_arrives_signed_and_with_its_id() -> None:
    with hook() as there:
        assert (
            carried(there.address.replace("//", "//user:open%20sesame@") + "/in?a=b", secret=SECRET).outcome
            == "delivered"
        )
    (got,) = there.got
    assert got.path == "/in?a=b"
    assert got.json["version"] == "1"
    assert got.json["id"] == got.headers["webhook-id"] == got.headers["idempotency-key"] == "one-opened"
    assert got.headers["content-type"] == "application/json; charset=utf-8"
    assert got.headers["authorization"] == "Basic " + base64.b64encode(b"user:open sesame").decode()
    expected = signature("one-opened", AT, got.body, SECRET)
    assert {name: got.headers[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("status", "headers", "outcome", "wait"),
    [
        (200, {}, "delivered", None),
        (204, {}, "delivered", None),
        (301, {"Location": "https://example.com/"}, "refused", None),
        (307, {"Location": "/again"}, "refused", None),
        (400, {}, "refused", None),
        (404, {}, "refused", None),
        (408, {}, "later", None),
        (429, {"Retry-After": "7"}, "later", 7.0),
        (500, {}, "later", None),
        (503, {"Retry-After": "soon"}, "later", None),
    ],
)
def test_a_status_says_whether_to_come_again(
    status: int, headers: dict[str, str], outcome: str, wait: float | None
) -> None:
    with hook(always=(status, headers, b"")) as there:
        verdict = carried(there.address)
    assert (verdict.outcome, verdict.status, verdict.retry_after_seconds) == (outcome, status, wait)
    assert len(there.got) == 1, "a redirection was followed"


def test_what_the_other_side_says_is_cut_and_made_harmless() -> None:
    with hook(always=(400, {}, b"no\x1b[2J\n\xff" + b"x" * 100_000)) as there:
        words = render(carried(there.address).words, "en")
    assert "no␛[2J" in words
    assert "\x1b" not in words
    assert len(words) < 300


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (None, None), ("", None), ("3", 3.0), ("99999999999999999999", 900.0), ("-1", None), ("soon", None),
        ("Sat, 21 Nov 2026 00:00:30 GMT", 30.0), ("Sat, 21 Nov 2026 00:00:30", 30.0), ("Fri, 20 Nov 2026 00:00:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_how_long_to_wait_may_be_told_in_seconds_or_as_a_time(told: str | None, seconds: float | None) -> None:
    assert retry_after(told, AT) == seconds


def test_nobody_there_is_no_refusal() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        verdict = carried(f"http://127.0.0.1:{taken.getsockname()[1]}/SECRET")
    assert verdict.outcome == "later"
    assert "SECRET" not in render(verdict.words)


@contextmanager
def talker(words: bytes, *, closes: bool) -> Iterator[str]:
    """Says these words to whoever connects, and then hangs up or says nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def talk() -> None:
            with server.accept()[0] as there:
                there.recv(1 << 16)
                there.sendall(words)
                if not closes:
                    over.wait(SECONDS)

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    "words", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", b"\0" * 70_000]
)
def test_what_is_no_web_server_is_asked_again_later(words: bytes) -> None:
    with talker(words, closes=True) as address:
        assert carried(address).outcome in {"later", "delivered"}
    with talker(b"SSH-2.0-OpenSSH_9.2\r\n", closes=True) as address:
        assert carried(address).outcome == "later"


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 2"])
def test_a_reader_that_never_answers_is_left(words: bytes) -> None:
    with talker(words, closes=False) as address:
        assert carried(address, whole_seconds=0.3).outcome == "later"


def test_certificates_are_checked(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.path("server.crt"), made.path("server.key"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        read: list[bytes] = []

        def greet() -> None:
            there = server.accept()[0]
            with suppress(OSError), context.wrap_socket(there, server_side=True) as secured:
                read.append(secured.recv(1))

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        verdict = carried(f"https://localhost:{server.getsockname()[1]}/")
        thread.join()
    assert verdict.outcome == "refused"
    assert read in ([], [b""])
    assert "certificate" in render(verdict.words, "en")


def test_a_notice_arrives_over_tls_where_the_certificate_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.path("ca.crt")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.path("server.crt"), made.path("server.key"))
    read: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            with suppress(OSError), context.wrap_socket(server.accept()[0], server_side=True) as secured:
                while not read or not read[-1].endswith(b"}"):
                    read.append(secured.recv(1 << 16))
                secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        verdict = carried(f"https://127.0.0.1:{server.getsockname()[1]}/in")
        thread.join(SECONDS)
    assert verdict.outcome == "delivered"
    assert read[0].startswith(b"POST /in HTTP/1.1\r\n")


def test_a_proxy_is_asked_for_what_is_outside_and_never_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with talker(b"HTTP/1.1 407 no\r\n\r\n", closes=True) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        with hook() as there:
            assert carried(there.address).outcome == "delivered"
        assert carried("http://hooks.invalid/SECRET").outcome == "later"


def test_what_cannot_be_sent_at_all_is_not_tried_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    with hook() as there:
        assert carried(there.address, replace(NOTICE, id="a\r\nHost: evil")).outcome == "refused"
        assert carried(there.address, replace(NOTICE, id="显存")).outcome == "refused"
        assert there.got == []
    monkeypatch.setenv("http_proxy", "http://proxy:many")
    assert carried("http://hooks.invalid/").outcome == "refused"


# -- chats -----------------------------------------------------------------------------------------------------------------


def chat(name: str, there: Hook, notice: Notice = NOTICE, secret: bytes | None = None) -> Verdict:
    return Carrier(target_of(there.address + "/robot?token=x"), CHATS[name], secret).carry(notice, AT)


def test_feishu_and_dingtalk_have_signatures_of_their_own() -> None:
    with hook() as there:
        chat("feishu", there, secret=SECRET)
        chat("dingtalk", there, secret=SECRET)
    feishu, dingtalk = there.got
    seconds = str(int(AT.timestamp()))
    key = f"{seconds}\n{SECRET.decode()}".encode()
    assert feishu.json["timestamp"] == seconds
    assert feishu.json["sign"] == base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode()
    assert dingtalk.path.startswith(f"/robot?token=x&timestamp={seconds}000&sign=")
    assert "webhook-signature" not in feishu.headers | dingtalk.headers


@pytest.mark.parametrize(
    ("name", "answer", "outcome"),
    [
        ("feishu", b'{"code":0,"msg":"success"}', "delivered"),
        ("feishu", b'{"code":19024,"msg":"Key Words Not Found"}', "refused"),
        ("feishu", b'{"code":11232,"msg":"too many"}', "later"),
        ("dingtalk", b'{"errcode":300001,"errmsg":"token is not exist"}', "refused"),
        ("wecom", b'{"errcode":0,"errmsg":"ok"}', "delivered"),
        ("wecom", b"[" * 100_000, "delivered"),
        ("slack", b"ok", "delivered"),
    ],
)
def test_a_chat_that_refuses_with_status_200_is_understood(name: str, answer: bytes, outcome: str) -> None:
    with hook(always=(200, {}, answer)) as there:
        assert chat(name, there).outcome == outcome


@pytest.mark.parametrize("name", sorted(CHATS))
def test_no_word_of_a_log_mentions_anybody_or_gets_too_long(name: str) -> None:
    hostile = '<!channel> <@U1> <at user_id="all">x</at> @everyone \x1b]0;x\x07 \u202e & 显存' + "<" * 9000
    notice = Notice("x", "opened", AT, "x", "error", text("{words}", words=hostile), details=(text("more"),) * 50)
    with hook() as there:
        chat(name, there, notice)
    (got,) = there.got
    told = got.json
    words = told.get("text") or told.get("content")
    words = (words.get("content") or words.get("text")) if isinstance(words, dict) else words
    assert "\x1b" not in words
    assert "\u202e" not in words
    if name == "discord":
        assert told["allowed_mentions"] == {"parse": []}
        assert len(words) <= 2000
    elif name != "dingtalk":
        assert "<" not in words
    if name == "dingtalk":
        assert told["at"] == {"isAtAll": False}
    if name == "wecom":
        assert len(words.encode()) <= 2048
    assert len(got.body) < 20_000


def test_an_answer_later_than_the_whole_time_is_not_waited_for() -> None:
    with hook(hold=threading.Event()) as there:
        assert carried(there.address, whole_seconds=0.3).outcome == "later"
    assert retry_after("1", AT + timedelta(days=1)) == 1.0
