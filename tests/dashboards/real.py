"""Prometheus, Alertmanager and node_exporter as they come from Debian, on loopback, on ports that nobody else has."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SECONDS = 90


def tool(name: str) -> str:
    """The program, or a skip that says which is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def until(done: Callable[[], Any], why: str = "it did not come") -> Any:
    """Ask again until there is an answer."""
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while not (answer := done()):
        assert time.monotonic() < deadline, why
        pause.wait(0.1)
    return answer


def get(url: str) -> bytes | None:
    """The page; None while nobody answers or it is not well."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address
            body: bytes = answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
    return body


@contextmanager
def running(command: list[str], log: Path, ready: str) -> Iterator[None]:
    """A program until the block ends; what it said is in the log."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as child:
        try:
            until(lambda: child.poll() is not None or get(ready) is not None, log.read_text())
            assert child.poll() is None, log.read_text()
            yield
        finally:
            child.kill()


class Prometheus:
    """One that runs, and questions to it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """The samples of an expression, now."""
        body = get(f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": expr}))
        return [] if body is None else list(json.loads(body)["data"]["result"])

    def values(self, expr: str) -> list[float]:
        """Their numbers, NaN left out."""
        numbers = [float(sample["value"][1]) for sample in self.ask(expr)]
        return [number for number in numbers if number == number]  # noqa: PLR0124 - NaN is not itself


@contextmanager
def prometheus(folder: Path, config: str) -> Iterator[Prometheus]:
    """A Prometheus with this configuration."""
    port = free_port()
    (folder / "prometheus.yml").write_text(config)
    command = [
        tool("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={folder / 'data'}", "--enable-feature=exemplar-storage", "--log.level=warn",
    ]  # fmt: skip
    with running(command, folder / "prometheus.log", f"http://127.0.0.1:{port}/-/ready"):
        yield Prometheus(port)


@contextmanager
def alertmanager(folder: Path, config: str) -> Iterator[str]:
    """An Alertmanager with this configuration; its address."""
    port = free_port()
    (folder / "alertmanager.yml").write_text(config)
    command = [
        tool("prometheus-alertmanager"), f"--config.file={folder / 'alertmanager.yml'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", f"--storage.path={folder / 'alerts'}",
    ]  # fmt: skip
    with running(command, folder / "alertmanager.log", f"http://127.0.0.1:{port}/-/ready"):
        yield f"127.0.0.1:{port}"
