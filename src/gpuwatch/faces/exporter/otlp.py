"""The metrics pushed to an OpenTelemetry collector over OTLP/HTTP: the extra `otlp`.

A push has a thread of its own, with the SDK's time limit and its retries: a collector that is slow or away holds up nothing
else. The SDK's environment variables hold; gRPC is not spoken.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gpuwatch import __version__
from gpuwatch.adapters.comfyui.address import without_credentials
from gpuwatch.errors import JobError, UsageError
from gpuwatch.faces.exporter.otel_names import SCHEMA
from gpuwatch.faces.exporter.otel_points import Points
from gpuwatch.faces.exporter.repeating import EVERY_SECONDS, PushCounts, Repeating
from gpuwatch.faces.exporter.rows import View
from gpuwatch.faces.narration import Narrate, in_words
from gpuwatch.texts import Text, plain, text

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.resources import Resource

ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PATH = "/v1/metrics"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
_DELTAS = {"cumulative": frozenset[str](), "delta": frozenset({"counter", "histogram"}),
           "lowmemory": frozenset({"histogram"})}  # fmt: skip
"""Which instruments tell what came since the last push; the others tell all that came since the start."""
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_LEAST_INTERVAL_SECONDS = 1.0
_LAST_PUSH_SECONDS = 3.0
_LONGEST_REASON = 200
_ERRNO = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")


class OtlpPush:
    """Pushes the metrics again and again, and once more at the end."""

    def __init__(
        self,
        url: str | None,
        view: Callable[[], View],
        *,
        instance: str,
        every_seconds: float | None = None,
        counts: PushCounts | None = None,
        say: Narrate = in_words,
    ) -> None:
        refuse_unusable(url)
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

        self.endpoint = endpoint_of(url)
        every_seconds = every_seconds or interval_seconds()
        self._view = view
        self._points = Points(int(view().now.timestamp() * 1e9), wanted_deltas())
        self._resource = resource(instance)
        self._reasons = _Reasons.of_the_sdk()
        self._exporter = OTLPMetricExporter(endpoint=self.endpoint)
        self._repeating = Repeating(
            "otlp", self.push, every_seconds, counts=counts, say=say, at_once=True, at_end=True
        )  # fmt: skip

    @property
    def shown(self) -> str:
        """Where it goes, without what opens it."""
        return without_credentials(self.endpoint)

    def push(self) -> None:
        """Push once. Raises JobError where the collector does not take it."""
        from opentelemetry.sdk.metrics.export import MetricExportResult  # noqa: PLC0415

        self._reasons.first = ""
        result = self._exporter.export(self._data())
        if result is not MetricExportResult.SUCCESS:
            raise JobError(self._refusal())
        self._points.reached()

    def close(self) -> None:
        """Push what is known at the end, where the collector takes it, and stop; never wait long."""
        if self._repeating.failing:
            self._exporter.shutdown()
        self._repeating.close(_LAST_PUSH_SECONDS)
        self._exporter.shutdown()

    def _data(self) -> MetricsData:
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics  # noqa: PLC0415
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

        metrics = self._points.metrics(self._view())
        scope = InstrumentationScope("gpuwatch", __version__, SCHEMA)
        return MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(scope, metrics, SCHEMA)], SCHEMA)])

    def _refusal(self) -> Text:
        reason = without_credentials(self._reasons.first)
        return text("{endpoint}: does not take the metrics: {reason}", endpoint=self.shown, reason=plain(reason or "?"))


class _Reasons(logging.Handler):
    """Why the SDK could not push. It only logs that, and nobody is to read it between our own lines."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""
        """What it said first: what follows tells only that it gave up."""

    @classmethod
    def of_the_sdk(cls) -> _Reasons:
        """One that listens instead of the program's log."""
        log = logging.getLogger("opentelemetry")
        reasons = cls()
        log.handlers, log.propagate = [reasons], False
        return reasons

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it; of a connection that failed, the system's word alone."""
        words = (record.getMessage().splitlines() or [""])[0]
        found = _ERRNO.search(words)
        self.first = self.first or (found[1] if found else words[:_LONGEST_REASON])


def asked_for(url: str | None) -> bool:
    """Whether to push: told on the command line, or by an endpoint in the environment that nobody switched off."""
    if url is not None:
        return True
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    exporters = os.environ.get("OTEL_METRICS_EXPORTER", "otlp").split(",")
    return not off and "otlp" in exporters and any(os.environ.get(name) for name in ENDPOINTS)


def refuse_unusable(url: str | None) -> None:
    """Raise UsageError where nothing can be pushed as the address and the environment ask for it."""
    endpoint_of(url)
    wanted_protocol()
    wanted_deltas()
    interval_seconds()
    try:
        import opentelemetry.exporter.otlp.proto.http.metric_exporter  # noqa: F401, PLC0415
    except ImportError as error:
        raise UsageError(
            text("pushing metrics over OTLP needs OpenTelemetry's SDK."),
            text("Install it with `pip install 'gpuwatch[otlp]'`."),
        ) from error


def endpoint_of(url: str | None) -> str:
    """Where to push: an address, or one that already names the path; without one what the environment says.

    Raises UsageError for what is none.
    """
    signal, base = (os.environ.get(name) for name in ENDPOINTS)
    endpoint = url or signal or base or "http://localhost:4318"
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or any(not each.isprintable() for each in endpoint):
        raise UsageError(
            text("{url} is no address to push to.", url=without_credentials(endpoint)),
            text("Write http://HOST:4318; gRPC on port 4317 is not spoken."),
        )
    as_it_is = parts.path.endswith(_PATH) or (url is None and bool(signal))
    return endpoint if as_it_is else endpoint.rstrip("/") + _PATH


def wanted_protocol() -> None:
    """Refuse a protocol that is not spoken."""
    for name in _PROTOCOLS:
        asked = os.environ.get(name)
        if asked and asked != _PROTOCOL:
            raise UsageError(
                text("{name}={asked}: only {known} is spoken.", name=name, asked=asked, known=_PROTOCOL),
                text("Point it to the collector's HTTP port, usually 4318."),
            )
        if asked:
            return


def wanted_deltas() -> frozenset[str]:
    """The instruments that are to tell differences. Raises UsageError for an unknown choice."""
    asked = os.environ.get(_TEMPORALITY) or "cumulative"
    deltas = _DELTAS.get(asked.strip().lower())
    if deltas is None:
        known = ", ".join(_DELTAS)
        raise UsageError(text("{name}={asked}: use one of {known}.", name=_TEMPORALITY, asked=asked, known=known))
    return deltas


def interval_seconds() -> float:
    """How often to push. Raises UsageError for less than a second."""
    asked = os.environ.get(_INTERVAL)
    if not asked:
        return EVERY_SECONDS
    if not asked.isdecimal() or not asked.isascii() or int(asked) / 1000 < _LEAST_INTERVAL_SECONDS:
        raise UsageError(text("{name}={asked}: milliseconds are wanted, 1000 at least.", name=_INTERVAL, asked=asked))
    return int(asked) / 1000


def resource(instance: str) -> Resource:
    """Who tells: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go before what is known by itself."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415

    own = Resource({
        "service.name": "gpuwatch",
        "service.version": __version__,
        "service.instance.id": instance,
        "host.name": socket.gethostname(),
    }, SCHEMA)  # fmt: skip
    return own.merge(OTELResourceDetector().detect())
