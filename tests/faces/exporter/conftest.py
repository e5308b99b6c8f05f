"""A collector, and an environment without OpenTelemetry's settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faces.exporter.collector import Collector


@pytest.fixture
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def collector() -> Iterator[Collector]:
    from tests.faces.exporter.collector import collecting  # noqa: PLC0415 - it needs the extra otlp

    with collecting() as running:
        yield running
