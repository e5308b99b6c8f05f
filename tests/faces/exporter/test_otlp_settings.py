"""Where metrics are pushed to and how, by the options and by OpenTelemetry's environment; what cannot be kept to is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.faces import cli
from gpuwatch.faces.exporter.otlp import OtlpPush, asked_for, endpoint_of
from tests.faces.exporter.pages import page_of

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra otlp is not installed")

pytestmark = pytest.mark.usefixtures("without_settings")


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://h:4318", "http://h:4318/v1/metrics"),
        ("http://h:4318/", "http://h:4318/v1/metrics"),
        ("https://h/otlp", "https://h/otlp/v1/metrics"),
        ("http://h/v1/metrics", "http://h/v1/metrics"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/metrics"),
    ],
)
def test_where_it_is_pushed(url: str, endpoint: str) -> None:
    assert endpoint_of(url) == endpoint


def test_the_environments_addresses_are_read_as_the_standard_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint_of(None) == "http://localhost:4318/v1/metrics"
    assert not asked_for(None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318/")
    assert endpoint_of(None) == "http://all:4318/v1/metrics"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://only:4318/here")
    assert endpoint_of(None) == "http://only:4318/here"
    assert endpoint_of("http://told:1") == "http://told:1/v1/metrics"
    assert asked_for(None)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    assert not asked_for(None)
    assert asked_for("http://told:1")
    monkeypatch.delenv("OTEL_METRICS_EXPORTER")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not asked_for(None)


@pytest.mark.parametrize("url", ["", "localhost:4318", "grpc://h:4317", "http://", "http://h:99999", "http://h\n:1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        OtlpPush(url or "x", page_of(Snapshot()).view, instance="box")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes", "lowmemory"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "10", "1000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-5", "1000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1e9", "1000"),
    ],
)
def test_settings_that_cannot_be_kept_to_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=complaint):
        OtlpPush("http://127.0.0.1:1", page_of(Snapshot()).view, instance="box")


def test_without_the_extra_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.log").touch()
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)
    words = ["serve", str(tmp_path / "a.log"), "--no-journal", "--listen", "127.0.0.1:0"]
    assert cli.main([*words, "--otlp", "http://127.0.0.1:4318"]) == 2
    assert "gpuwatch[otlp]" in capsys.readouterr().err
