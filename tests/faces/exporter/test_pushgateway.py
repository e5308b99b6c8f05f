"""A run's end reaches a real Pushgateway, and a gateway's trouble never becomes the run's."""

from __future__ import annotations

import argparse
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpuwatch.errors import JobError, UsageError
from gpuwatch.faces import cli
from gpuwatch.faces.commands import run as run_command
from gpuwatch.faces.exporter import pushgateway
from gpuwatch.faces.exporter.pushgateway import RUN_METRICS, Pushgateway, RunEnd
from gpuwatch.texts import Text
from tests.dashboards.real import free_port, get, running, tool

REPORT = {
    "images": 3, "failed": [{"path": "a.png"}], "skipped": 2, "tokens_per_image": 1024, "peak_allocated_bytes": 900,
    "peak_reserved_bytes": 1000, "peak_device_bytes": None, "predicted": {"process_bytes": {"high": 4000}},
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command, port = tool("prometheus-pushgateway"), free_port()
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("gateway") / "log"
    with running([command, f"--web.listen-address=127.0.0.1:{port}"], log, f"{url}/-/ready"):
        yield url


def told(url: str, job: str) -> dict[tuple[str, str], float]:
    """What the gateway has of a job: by name and the label that is not ours to choose."""
    page = (get(f"{url}/metrics") or b"").decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    known = {"job", "instance", "workload"}
    return {
        (sample.name, "".join(value for name, value in sample.labels.items() if name not in known)): sample.value
        for sample in samples
        if sample.labels.get("job") == job and sample.labels.get("instance") == socket.gethostname()
    }


def test_a_runs_end_is_there_for_prometheus(gateway: str) -> None:
    assert Pushgateway(gateway, "night").push(RunEnd("ddcolor", "partial", 12.5, REPORT)) is None
    values = told(gateway, "night")
    assert values["gpuwatch_run_outcome", "partial"] == 1
    assert values["gpuwatch_run_outcome", "success"] == 0
    assert values["gpuwatch_run_duration_seconds", ""] == 12.5
    assert [values["gpuwatch_run_images", state] for state in ("done", "failed", "skipped")] == [3, 1, 2]
    assert values["gpuwatch_run_tokens", ""] == 3072
    assert values["gpuwatch_run_peak_memory_bytes", "allocated"] == 900
    assert ("gpuwatch_run_peak_memory_bytes", "device") not in values, "what was not measured is not 0"
    assert values["gpuwatch_run_predicted_memory_bytes", ""] == 4000
    assert values["gpuwatch_run_end_timestamp_seconds", ""] > 1.7e9
    assert {name for name, _ in values} - {"push_time_seconds", "push_failure_time_seconds"} == {
        metric.name for metric in RUN_METRICS
    }


def test_nothing_is_left_of_the_run_before(gateway: str) -> None:
    for end in (RunEnd("ddcolor", "success", 9.0, REPORT), RunEnd("ddcolor", "failed", 1.0)):
        assert Pushgateway(gateway, "again / 再来").push(end) is None
    values = told(gateway, "again / 再来")
    assert values["gpuwatch_run_outcome", "failed"] == 1
    assert not [name for name, _ in values if "images" in name or "memory" in name or "tokens" in name]


def arguments(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"workload": "ddcolor", "push": None, "push_job": None, "json": True} | more)


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, "success"), (JobError(Text("no")), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_every_way_to_end_is_told(
    gateway: str, error: BaseException | None, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def colorized(_arguments: argparse.Namespace) -> dict[str, Any]:
        if error is not None:
            raise error
        return {"images": 1}

    monkeypatch.setattr(run_command, "colorized", colorized)
    with suppress(JobError, KeyboardInterrupt):
        assert run_command.run(arguments(push=gateway, push_job=outcome)) == 0
    values = told(gateway, outcome)
    assert {kind for (name, kind), value in values.items() if name == "gpuwatch_run_outcome" and value} == {outcome}


class Rude:
    """A gateway that answers with garbage, or not at all."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._server.accept()[0]
                self._held.append(connection)
                if self._answer is not None:
                    connection.recv(100)
                    connection.sendall(self._answer)
                    connection.close()

    def close(self) -> None:
        for each in (self._server, *self._held):
            each.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.0 500 no\r\n\r\n",
        b"HTTP/1.0 302 x\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
        b"",
        None,
    ],
    ids=["garbage", "500", "redirect", "nothing", "silence"],
)
def test_a_gateway_in_trouble_is_told_and_the_run_is_well(
    answer: bytes | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pushgateway, "_PUSH_SECONDS", 0.2)
    monkeypatch.setattr(run_command, "colorized", lambda _arguments: {"images": 1})
    rude = Rude(answer)
    try:
        assert run_command.run(arguments(push=rude.url)) == 0
    finally:
        rude.close()
    printed = capsys.readouterr()
    assert "was not pushed" in printed.err
    assert '"images": 1' in printed.out


def test_one_that_never_ends_its_answer_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushgateway, "_PATIENCE_SECONDS", 0.05)
    rude = Rude(None)
    try:
        refused = Pushgateway(rude.url).push(RunEnd("ddcolor", "success", 1.0))
    finally:
        rude.close()
    assert "no answer" in str(refused)


@pytest.mark.parametrize(
    "words",
    [
        ["--push", "localhost:9091"],
        ["--push", "ftp://h:1"],
        ["--push", "http://user:hunter2@h:9091"],
        ["--push", "http://h:99999"],
        ["--push", "http://h\n:1"],
        ["--push", "http://h:9091", "--push-job", ""],
        ["--push", "http://h:9091", "--push-job", "a\nb"],
        ["--push", "http://h:9091", "--push-job", "x" * 101],
        ["--push-job", "alone"],
    ],
    ids=range(9),
)
def test_wrong_use_is_said_before_the_run(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "ddcolor", str(tmp_path / "x.png"), *words]) == 2
    printed = capsys.readouterr()
    assert "push" in printed.err.lower()
    assert "hunter2" not in printed.err


def test_a_bad_address_never_starts_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_command, "colorized", lambda _arguments: pytest.fail("it ran"))
    with pytest.raises(UsageError):
        run_command.run(arguments(push="nowhere"))
