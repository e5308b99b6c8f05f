"""Who is let in to the metrics: passwords, TLS, client certificates, and changes to them while the page is served."""

from __future__ import annotations

import base64
import socket
import ssl
import urllib.error
from pathlib import Path

import bcrypt
import pytest

from gpuwatch.faces.exporter import server
from tests.faces.web import HASH, SECONDS, Certificates, Said, ask, make_certificates, root, serving


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def password(words: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(words.encode()).decode()}


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
