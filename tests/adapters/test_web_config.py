"""A web configuration that cannot be kept to is refused with its line, never passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwatch.adapters import web_config
from gpuwatch.adapters.web_config import read_web_config
from gpuwatch.errors import UsageError

HASH = "$2y$10$irYl5RZmp7gG/9x3Xu4Zp.mH8vd.iREAzVGsPo9cPvdC8JLbPiRPC"


def read(folder: Path, words: str) -> web_config.WebConfig:
    path = folder / "web.yml"
    path.write_text(words)
    return read_web_config(path)


def test_an_empty_file_is_no_protection(tmp_path: Path) -> None:
    config = read(tmp_path, "# nothing yet\n")
    assert (config.tls, config.users, config.protects) == (None, {}, False)


def test_users_protect(tmp_path: Path) -> None:
    config = read(tmp_path, f"basic_auth_users:\n  a: {HASH}\nhttp_server_config: {{http2: true}}\n")
    assert config.users == {"a": HASH}
    assert config.protects


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("basic_auth_user: {}\n", "web.yml:1: `basic_auth_user` is not known; is `basic_auth_users` meant"),
        ("- a\n", "web.yml:1: a mapping is wanted"),
        ("basic_auth_users:\n  a: plain\n", "web.yml:2: the password of a is no bcrypt hash"),
        ("basic_auth_users:\n  a: 3\n", "web.yml:2: a string is wanted"),
        (f"basic_auth_users:\n  a: {HASH.replace('$10$', '$31$')}\n", "web.yml:2: the hash of a has the cost 31"),
        (f"basic_auth_users:\n  a: {HASH[:-1]}\n", "no bcrypt hash"),
        ("tls_server_config:\n  cert_file: a\n", "key_file is missing"),
        ("tls_server_config:\n  cert_file: a\n  key_file: b\n", "web.yml:2: .*a and .*b cannot be used: No such file"),
        ("tls_server_config:\n  cert_file: web.yml\n  key_file: web.yml\n", "web.yml:2: .* cannot be used"),
        (
            "tls_server_config:\n  cert_file: a\n  key_file: b\n  cipher_suites: [x]\n",
            "web.yml:4: `cipher_suites` is not",
        ),
        ("tls_server_config:\n  cert_file: a\n  key_file: b\n  min_version: TLS10\n", "`TLS10` is not known; is `TLS1"),
        ("http_server_config:\n  headers:\n    X-Other: a\n", "`X-Other` is not known"),
        ('http_server_config:\n  headers:\n    X-Frame-Options: "a\\r\\nSet-Cookie: b"\n', "one line"),
        ("http_server_config:\n  http2: maybe\n", "true or false"),
        ("a: [\n", "web.yml:"),
        ("!!python/object/apply:os.system [id]\n", "web.yml:1"),
    ],
)
def test_what_cannot_be_kept_to_is_refused(tmp_path: Path, words: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        read(tmp_path, words)


def test_a_file_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.yml"):
        read_web_config(tmp_path / "missing.yml")


def test_passwords_without_bcrypt_say_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_config, "_bcrypt", lambda: None)
    with pytest.raises(UsageError, match=r"gpuwatch\[web\]"):
        read(tmp_path, f"basic_auth_users:\n  a: {HASH}\n")
