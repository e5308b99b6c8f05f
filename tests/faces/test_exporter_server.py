"""The metrics server: three paths, two methods, limits, and who is let in."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import time
import urllib.error
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.faces.exporter import Exporter, server
from tests.faces.web import HASH, RULES, SECONDS, Answer, Certificates, Said, ask, make_certificates, serving


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def root(exporter: Exporter) -> str:
    return exporter.address.removesuffix("/metrics")


def password(words: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(words.encode()).decode()}


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline, "it did not come"
        threading.Event().wait(0.01)


# -- paths and methods -----------------------------------------------------------------------------------------------------


def test_the_page_is_served_in_the_format_that_is_asked_for() -> None:
    with serving() as exporter:
        plain = ask(exporter.address)
        opened = ask(exporter.address, headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"})
    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert opened.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    names = [{family.name for family in parse(each.body.decode())} for parse, each in
             ((parse_plain, plain), (parse_open, opened))]  # fmt: skip
    assert names[0] - {"gpuwatch_incidents"} >= {"gpuwatch_build_info", "process_resident_memory_bytes"}
    assert "process_cpu_seconds" in names[1]


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready", "/-/healthy?verbose=1"])
def test_it_says_that_it_is_well(path: str) -> None:
    with serving() as exporter:
        assert ask(root(exporter) + path).body == b"ok\n"


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "/metrics/../etc/passwd", "//", "/-/quit", "/%6detrics", "/debug/pprof"]
)
def test_no_other_path_exists(path: str) -> None:
    with serving() as exporter:
        assert ask(root(exporter) + path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_nothing_can_be_sent(method: str) -> None:
    with serving() as exporter:
        answer = ask(exporter.address, method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_head_has_the_length_and_not_the_page() -> None:
    with serving() as exporter:
        answer = ask(exporter.address, method="HEAD")
    assert answer.body == b""
    assert int(answer.headers["Content-Length"]) > 1000


@pytest.mark.parametrize(
    "request_bytes",
    [b"\r\n\r\n", b"garbage\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01" * 10,
     b"GET /" + b"a" * 70_000 + b" HTTP/1.0\r\n\r\n", b"GET /metrics HTTP/1.0\r\n" + b"X: y\r\n" * 200 + b"\r\n"],
    ids=["empty", "garbage", "half", "version", "tls", "long", "headers"],
)  # fmt: skip
def test_garbage_is_answered_or_hung_up_on_and_the_next_is_served(
    request_bytes: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as exporter:
        with socket.create_connection(("127.0.0.1", exporter.port), timeout=SECONDS) as connection:
            connection.sendall(request_bytes)
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass  # it hung up before it had read everything
        assert ask(root(exporter) + "/-/healthy").status == 200
    assert capsys.readouterr() == ("", "")


# -- limits ----------------------------------------------------------------------------------------------------------------


def test_two_hundred_scrapes_at_once_are_all_answered() -> None:
    with serving() as exporter, ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: ask(exporter.address), range(200)))
    assert {answer.status for answer in answers} == {200}
    assert len({len(answer.body) // 1000 for answer in answers}) == 1


def test_more_connections_than_fit_are_hung_up_on_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 2)
    with serving() as exporter:
        held = [socket.create_connection(("127.0.0.1", exporter.port), timeout=SECONDS) for _ in range(3)]
        assert held[2].recv(1) == b""
        for each in held:
            each.close()

        def refused() -> bool:
            try:
                return b'gpuwatch_scrapes_refused_total{reason="busy"}' in ask(exporter.address).body
            except OSError:  # the two have not been let go of yet
                return False

        until(refused)
        page = ask(exporter.address).body.decode()
    (line,) = [each for each in page.splitlines() if each.startswith('gpuwatch_scrapes_refused_total{reason="busy"}')]
    assert float(line.rpartition(" ")[2]) >= 1


def test_one_that_sends_a_byte_at_a_time_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.2)
    with serving() as exporter, socket.create_connection(("127.0.0.1", exporter.port), timeout=SECONDS) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\nX: ")
        assert connection.recv(1) == b""


def test_a_page_that_takes_too_long_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_TURN_SECONDS", 0.05)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Snapshot:
        begun.set()
        go_on.wait(SECONDS)
        return Snapshot()

    exporter = Exporter(slow, RULES, "127.0.0.1", 0)
    answers: list[Answer] = []
    first = threading.Thread(target=lambda: answers.append(ask(exporter.address)))
    try:
        first.start()
        assert begun.wait(SECONDS)
        second = ask(exporter.address)
        well = ask(root(exporter) + "/-/healthy")
    finally:
        go_on.set()
        first.join(SECONDS)
        exporter.close()
    assert (second.status, second.headers["Retry-After"]) == (503, "1")
    assert (answers[0].status, well.status) == (200, 200)


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with serving() as exporter, pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1") as raised:
        Exporter(Snapshot, RULES, "127.0.0.1", exporter.port)
    assert "--listen" in str(raised.value.hint)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1", ""])
def test_an_address_that_is_not_ours_is_refused_or_is_every_one(host: str) -> None:
    if host:
        with pytest.raises(UsageError, match="cannot listen"):
            Exporter(Snapshot, RULES, host, 0)


# -- passwords -------------------------------------------------------------------------------------------------------------


def with_users(folder: Path, users: str = f"  scraper: {HASH}\n") -> Path:
    path = folder / "web.yml"
    path.write_text(f"basic_auth_users:\n{users}")
    return path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (password("scraper:open sesame"), 200),
        (password("scraper:wrong"), 401),
        (password("scraper:"), 401),
        (password("nobody:open sesame"), 401),
        (password("scraper:" + "x" * 100), 401),
        (password("scraper"), 401),
        ({"Authorization": "Basic not base64"}, 401),
        ({"Authorization": "Basic /w=="}, 401),
        ({"Authorization": "Bearer open sesame"}, 401),
        ({}, 401),
    ],
)
def test_only_the_right_password_opens(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    with serving(web_config=with_users(tmp_path)) as exporter:
        assert exporter.protected
        for path in ("/metrics", "/-/healthy"):
            answer = ask(root(exporter) + path, headers=headers)
            assert answer.status == status
            assert (b"gpuwatch_" in answer.body) == (status == 200 and path == "/metrics")
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_a_right_password_is_checked_once_and_a_wrong_one_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bytes] = []
    check = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda given, hashed: checked.append(given) or check(given, hashed))
    with serving(web_config=with_users(tmp_path)) as exporter:
        for _ in range(3):
            assert ask(exporter.address, headers=password("scraper:open sesame")).status == 200
            assert ask(exporter.address, headers=password("scraper:wrong")).status == 401
    assert checked.count(b"open sesame") == 1
    assert checked.count(b"wrong") == 3


def test_a_changed_password_is_read_and_a_broken_file_keeps_the_old(tmp_path: Path) -> None:
    path, said = with_users(tmp_path), Said()
    with serving(web_config=path, say=said) as exporter:
        assert ask(exporter.address, headers=password("scraper:open sesame")).status == 200
        path.write_text("basic_auth_users: [broken\n")
        page = ask(exporter.address, headers=password("scraper:open sesame"))
        assert b"gpuwatch_web_config_last_reload_success 0.0" in page.body
        assert ask(exporter.address).status == 401
        assert len(said.words) == 1
        assert "stays as it was" in said.words[0]
        assert "web.yml:" in said.words[0]
        with_users(tmp_path, f"  other: {HASH}\n")
        page = ask(exporter.address, headers=password("other:open sesame"))
        assert b"gpuwatch_web_config_last_reload_success 1.0" in page.body
        assert ask(exporter.address, headers=password("scraper:open sesame")).status == 401
        path.unlink()
        assert ask(exporter.address, headers=password("other:open sesame")).status == 200
    assert said.words[1:] == ["Web configuration read anew.", said.words[2]]
    assert "stays as it was" in said.words[2]


# -- TLS -------------------------------------------------------------------------------------------------------------------


def with_tls(folder: Path, certificates: Certificates, more: str = "", name: str = "server") -> Path:
    for end in ("crt", "key"):
        target = folder / f"own.{end}"
        target.write_bytes(certificates.path(f"{name}.{end}").read_bytes())
    path = folder / "web.yml"
    path.write_text(f"tls_server_config:\n  cert_file: own.crt\n  key_file: own.key\n{more}")
    return path


def test_tls_is_spoken_and_nothing_else(tmp_path: Path, certificates: Certificates) -> None:
    with serving(web_config=with_tls(tmp_path, certificates)) as exporter:
        assert exporter.address.startswith("https://")
        assert not exporter.protected
        assert ask(exporter.address, context=certificates.client()).status == 200
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            ask(exporter.address.replace("https", "http"))
        with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
            ask(exporter.address)
        old = certificates.client()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert ask(exporter.address, context=old).status == 200


def test_the_least_version_is_kept_to(tmp_path: Path, certificates: Certificates) -> None:
    with serving(web_config=with_tls(tmp_path, certificates, "  min_version: TLS13\n")) as exporter:
        old = certificates.client()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            ask(exporter.address, context=old)
        assert ask(exporter.address, context=certificates.client()).status == 200


def mutual(certificates: Certificates, more: str = "") -> str:
    return f"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {certificates.path('ca.crt')}\n{more}"


def test_only_a_client_with_a_certificate_gets_in(tmp_path: Path, certificates: Certificates) -> None:
    with serving(web_config=with_tls(tmp_path, certificates, mutual(certificates))) as exporter:
        assert exporter.protected
        assert ask(exporter.address, context=certificates.client("client")).status == 200
        for stranger in (None, "stranger"):
            with pytest.raises((urllib.error.URLError, OSError)):
                ask(exporter.address, context=certificates.client(stranger))


@pytest.mark.parametrize(("name", "let_in"), [("scraper.example", True), ("another.example", False)])
def test_only_a_client_of_that_name_gets_in(
    tmp_path: Path, certificates: Certificates, name: str, *, let_in: bool
) -> None:
    more = mutual(certificates, f"  client_allowed_sans: [{name}]\n")
    with serving(web_config=with_tls(tmp_path, certificates, more)) as exporter:
        if let_in:
            assert ask(exporter.address, context=certificates.client("client")).status == 200
        else:
            with pytest.raises((urllib.error.URLError, OSError)):
                ask(exporter.address, context=certificates.client("client"))


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path, certificates: Certificates) -> None:
    with serving(web_config=with_tls(tmp_path, certificates), say=Said()) as exporter:

        def subject() -> str:
            with (
                socket.create_connection(("127.0.0.1", exporter.port), timeout=SECONDS) as connection,
                certificates.client().wrap_socket(connection, server_hostname="127.0.0.1") as secured,
            ):
                return str((secured.getpeercert() or {})["subject"])

        assert "server" in subject()
        (tmp_path / "own.crt").write_text("half written")
        assert "server" in subject()
        with_tls(tmp_path, certificates, name="second")
        assert "second" in subject()


def test_one_that_never_agrees_on_tls_is_hung_up_on(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.2)
    with (
        serving(web_config=with_tls(tmp_path, certificates)) as exporter,
        socket.create_connection(("127.0.0.1", exporter.port), timeout=SECONDS) as connection,
    ):
        assert connection.recv(1) == b""


def test_headers_that_were_asked_for_are_sent(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("http_server_config:\n  headers:\n    X-Content-Type-Options: nosniff\n")
    with serving(web_config=path) as exporter:
        assert ask(exporter.address).headers["X-Content-Type-Options"] == "nosniff"


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_a_hundred_scrapes_leave_nothing_open() -> None:
    with serving() as exporter:
        ask(exporter.address)
        before = open_files()
        for _ in range(100):
            ask(exporter.address)
        until(lambda: not [each for each in threading.enumerate() if "process_request_thread" in each.name])
        assert open_files() <= before
