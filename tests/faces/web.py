"""A metrics server on loopback for tests, and certificates that openssl makes for it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.tls import checking_context
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.exporter import Exporter
from gpuwatch.texts import Text, render

SECONDS = 60
RULES = load_rules()
HASH = "$2b$04$9TxHPMu5Tyv2uPVM6JauueA5QTEDn7IclIBZdvD1A6Gg16LYMCLCK"
"""Of the password "open sesame"."""


@dataclass
class Said:
    """What a program said as it went."""

    words: list[str] = field(default_factory=list)

    def __call__(self, words: Text, /, **_fields: Any) -> None:
        self.words.append(render(words, "en"))


@contextmanager
def serving(snapshot: Snapshot | None = None, **settings: Any) -> Iterator[Exporter]:
    exporter = Exporter(lambda: snapshot or Snapshot(), RULES, "127.0.0.1", 0, **settings)
    try:
        yield exporter
    finally:
        exporter.close()


def root(exporter: Exporter) -> str:
    return exporter.address.removesuffix("/metrics")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    url: str, *, method: str = "GET", context: ssl.SSLContext | None = None, headers: dict[str, str] | None = None
) -> Answer:
    request = urllib.request.Request(url, method=method, headers=headers or {})  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:  # noqa: S310
            return Answer(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read())


@dataclass(frozen=True)
class Certificates:
    """An authority, a server and a client that it knows, and a stranger."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def client(self, name: str | None = None) -> ssl.SSLContext:
        context = checking_context(str(self.path("ca.crt")))
        if name is not None:
            context.load_cert_chain(self.path(f"{name}.crt"), self.path(f"{name}.key"))
        return context


def make_certificates(folder: Path) -> Certificates:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make certificates with")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True, timeout=SECONDS)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    run(*new, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority")
    run(*new, "-keyout", "stranger.key", "-out", "stranger.crt", "-subj", "/CN=stranger")
    for name, alternative in (
        ("server", "IP:127.0.0.1"),
        ("client", "DNS:scraper.example"),
        ("second", "IP:127.0.0.1"),
    ):
        run(
            *new, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-addext", f"subjectAltName={alternative}", "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip
    return Certificates(folder)
