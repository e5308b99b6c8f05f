"""The metrics server: three paths, two methods, and limits on how many may ask and how long they may take."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from gpuwatch.adapters.sources.nvml import NvmlSource
from gpuwatch.core.engine import Engine
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.faces.exporter import Exporter, server
from gpuwatch.pipeline import Pipeline
from tests.adapters.test_source_nvml import LOST, Driver
from tests.faces.web import RULES, SECONDS, Answer, ask, root, serving


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


def test_a_gpu_that_is_lost_between_scrapes_is_whole_on_a_page_or_not_there() -> None:
    driver = Driver(gpus=2)
    pipeline = Pipeline(Engine(RULES), [NvmlSource(0.001, nvml=driver)])
    exporter = Exporter(lambda: pipeline.snapshot, RULES, "127.0.0.1", 0)
    counts: list[int] = []

    def scrape(_number: int = 0) -> int:
        counts.append(ask(exporter.address).body.count(b'uuid="GPU-0000-1"'))
        return counts[-1]

    pipeline.start()
    try:
        until(lambda: scrape() > 0)
        with ThreadPoolExecutor(8) as pool:
            scrapes = pool.map(scrape, range(60))
            driver.answers["nvmlDeviceGetPowerUsage"] = lambda handle: LOST if handle == 1 else 121_500
            list(scrapes)
        until(lambda: scrape() == 0)
        assert ask(exporter.address).body.count(b'uuid="GPU-0000-0"') == max(counts)
    finally:
        pipeline.stop()
        exporter.close()
    assert len(set(counts) - {0}) == 1


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
