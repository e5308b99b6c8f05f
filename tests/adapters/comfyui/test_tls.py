"""Servers behind TLS: a certificate that nobody vouches for is refused, with what to do; one that is vouched for is used."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing

import pytest

from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.faces.cli import main
from tests.adapters.comfyui.beside import source, submit, watched, watching
from tests.faces.web import Certificates, make_certificates
from tests.standin.server import Standin, standing


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secured(certificates: Certificates) -> Iterator[Standin]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.path("server.crt"), certificates.path("server.key"))
    with standing(tls=context) as standin:
        yield standin


def test_a_stranger_is_refused_and_told_how_to_be_trusted(secured: Standin) -> None:
    server = server_of(secured.url.replace("//", "//me:hunter2@"))
    with closing(Client(server)) as client, pytest.raises(NoAnswerError, match="not trusted") as refused:
        client.get("/prompt")
    assert refused.value.trouble == "certificate"
    assert "SSL_CERT_FILE" in str(refused.value.hint)
    assert "hunter2" not in f"{refused.value} {refused.value.hint}"
    assert secured.asked == [], "nothing that identifies us went there"


def test_one_that_is_vouched_for_is_watched(
    secured: Standin, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.path("ca.crt")))
    with watched(secured) as beside:
        id_ = submit(secured)
        beside.until(lambda: [each for each in beside.incidents("cuda_oom") if each.job_id == id_])


def test_watching_a_stranger_says_so_once(secured: Standin) -> None:
    with watching(source(secured)) as beside:
        beside.until(beside.downs)
        asked = len(beside.downs())
        beside.until(lambda: beside.snapshot.at)
        assert len(beside.downs()) == asked == 1
        assert "certificate" in beside.downs()[0]


def test_a_verb_that_acts_ends_with_three(secured: Standin, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fix", "--server", secured.url, "--no-journal"]) == 3
    assert "SSL_CERT_FILE" in capsys.readouterr().err


def test_one_that_has_no_certificate_is_told_apart() -> None:
    with standing() as standin, closing(Client(server_of(standin.url.replace("http:", "https:")))) as client:
        with pytest.raises(NoAnswerError, match="does not speak TLS") as refused:
            client.get("/prompt")
        assert "http://" in str(refused.value.hint)
