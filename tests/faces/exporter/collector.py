"""An OpenTelemetry collector's HTTP receiver on loopback: it reads the protobuf, and answers as a test wants it to."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from tests.faces.web import SECONDS

Attributes = tuple[tuple[str, str], ...]


@dataclass
class Request:
    """What was pushed at once."""

    path: str
    headers: Mapping[str, str]
    message: ExportMetricsServiceRequest

    @property
    def resource(self) -> dict[str, str]:
        return words(self.message.resource_metrics[0].resource.attributes)

    @property
    def metrics(self) -> dict[str, Metric]:
        scopes = self.message.resource_metrics[0].scope_metrics
        told = [metric for scope in scopes for metric in scope.metrics]
        assert len({metric.name for metric in told}) == len(told), "a metric twice"
        return {metric.name: metric for metric in told}

    def points(self, name: str) -> dict[Attributes, Any]:
        metric = self.metrics[name]
        points = getattr(metric, str(metric.WhichOneof("data"))).data_points
        told = {tuple(sorted(words(point.attributes).items())): point for point in points}
        assert len(told) == len(points), "a point twice"
        return told


def words(attributes: Any) -> dict[str, str]:
    return {each.key: each.value.string_value for each in attributes}


@dataclass
class Collector:
    """What it was told so far, and how it answers the next."""

    url: str = ""
    status: int = 200
    requests: list[Request] = field(default_factory=list)
    refused: int = 0
    answering: threading.Event = field(default_factory=threading.Event)
    """Where this is not set, nobody is answered."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, count: int = 1) -> Request:
        """The newest once so many have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, SECONDS), "nothing was pushed"
        return self.requests[-1]

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.answering.wait(SECONDS)
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with self.changed:
            if self.status == 200:
                message = ExportMetricsServiceRequest.FromString(body)
                self.requests.append(Request(handler.path, dict(handler.headers), message))
            else:
                self.refused += 1
            self.changed.notify_all()
        handler.send_response(self.status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    collector.answering.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with suppress(OSError):  # whoever pushed may have gone
                collector.take(self)

        def log_message(self, *_words: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            collector.answering.set()
            server.shutdown()
            thread.join()
