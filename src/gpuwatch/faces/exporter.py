"""The snapshot as Prometheus metrics, over HTTP.

Values are read from the snapshot when a scrape comes, so no series can be stale. A metric is one row in `METRICS`. Label
values are closed sets or the driver's own uuids. Only `/metrics`, `/-/healthy` and `/-/ready` exist; the default address is
loopback.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gpuwatch import __version__
from gpuwatch.core.observations import GpuSample, SourceKind
from gpuwatch.core.rules import LABELS, Label, RuleSet, Severity
from gpuwatch.core.snapshot import RecordOutcome, Reload, Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.texts import text

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 9877
_COLLECTORS = ("nvml", "host")
_RECORD_SOURCES: tuple[SourceKind, ...] = ("file", "stdin", "cmd", "comfyui", "kernel")
_RECORD_OUTCOMES: tuple[RecordOutcome, ...] = ("matched", "ignored")
_REQUEST_SECONDS = 10

Samples = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: its name, what it means, its labels, and its samples out of a snapshot."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Snapshot, RuleSet], Samples]
    counter: bool = False


def latest(snapshot: Snapshot) -> Iterator[GpuSample]:
    """The newest sample of each GPU."""
    return (samples[-1] for samples in snapshot.gpus.values() if samples)


def gpu(read: Callable[[GpuSample], float | None]) -> Callable[[Snapshot, RuleSet], Samples]:
    """Samples of one quantity of each GPU; a GPU that does not tell it has no sample."""
    return lambda snapshot, _rules: (
        ((sample.uuid,), value) for sample in latest(snapshot) if (value := read(sample)) is not None
    )


def severities(rules: RuleSet) -> dict[Label, set[Severity]]:
    """The severities that each label's rules have."""
    known: dict[Label, set[Severity]] = {label: set() for label in LABELS}
    for rule in rules.every:
        for label in (rule.label, *rule.refine.values()):
            known[label].add(rule.severity)
    return known


def failures(snapshot: Snapshot, rules: RuleSet) -> Samples:
    """Failures by label and severity; what no failure has told yet stands at 0."""
    totals: dict[tuple[Label, Severity], int] = {
        (label, severity): 0 for label, each in severities(rules).items() for severity in each or {"error"}
    }
    return ((key, count) for key, count in {**totals, **snapshot.failures_total}.items())


def muted(snapshot: Snapshot, _rules: RuleSet) -> Samples:
    """Muted failures by label."""
    return (((label,), snapshot.muted_total.get(label, 0)) for label in LABELS)


def reload_success(reload: Reload | None) -> Samples:
    """1 where the files as they are now are in force."""
    return [((), float(reload is None or reload.refused is None))]


def reload_time(reload: Reload | None) -> Samples:
    """When the files were last read anew and taken."""
    return [] if reload is None or reload.succeeded_at is None else [((), reload.succeeded_at.timestamp())]


def records(snapshot: Snapshot, _rules: RuleSet) -> Samples:
    """Records by the kind of source and whether a rule spoke of them."""
    return (
        ((source, outcome), snapshot.records_total.get((source, outcome), 0))
        for source in _RECORD_SOURCES
        for outcome in _RECORD_OUTCOMES
    )


def collectors(snapshot: Snapshot, _rules: RuleSet) -> Samples:
    """1 for a collector that delivers, 0 for one that has nothing to give or failed."""
    for name in _COLLECTORS:
        status = snapshot.sources.get(name)
        if status is not None:
            yield (name,), float(status.state == "up")


def host(read: Callable[[Snapshot], float | None]) -> Callable[[Snapshot, RuleSet], Samples]:
    """One quantity of the machine, where it was sampled."""
    return lambda snapshot, _rules: () if (value := read(snapshot)) is None else [((), value)]


METRICS: tuple[Row, ...] = (
    Row("gpuwatch_build_info", "Which gpuwatch this is.", ("version",), lambda _s, _r: [((__version__,), 1.0)]),
    Row(
        "gpuwatch_gpu_info",
        "The GPUs the driver knows; join other series by uuid.",
        ("uuid", "index", "name", "driver"),
        lambda s, _r: (((g.uuid, str(g.index), g.name, g.driver or ""), 1.0) for g in latest(s)),
    ),
    Row(
        "gpuwatch_gpu_memory_used_bytes",
        "Memory in use on the GPU, by all processes.",
        ("uuid",),
        gpu(lambda g: g.used_bytes),
    ),
    Row("gpuwatch_gpu_memory_total_bytes", "Memory of the GPU.", ("uuid",), gpu(lambda g: g.total_bytes)),
    Row(
        "gpuwatch_gpu_utilization_ratio",
        "Share of the last sample period in which a kernel ran.",
        ("uuid",),
        gpu(lambda g: g.utilization_ratio),
    ),
    Row(
        "gpuwatch_gpu_temperature_celsius",
        "Temperature of the GPU's core.",
        ("uuid",),
        gpu(lambda g: g.temperature_celsius),
    ),
    Row("gpuwatch_gpu_power_watts", "Power that the GPU draws.", ("uuid",), gpu(lambda g: g.power_watts)),
    Row(
        "gpuwatch_host_memory_available_bytes",
        "Memory of the machine that programs can still have.",
        (),
        host(lambda s: s.host.memory_available_bytes if s.host else None),
    ),
    Row(
        "gpuwatch_host_memory_total_bytes",
        "Memory of the machine.",
        (),
        host(lambda s: s.host.memory_total_bytes if s.host else None),
    ),
    Row(
        "gpuwatch_incidents_total", "Failures seen, each once, by label.", ("label", "severity"), failures, counter=True
    ),
    Row(
        "gpuwatch_incident_active",
        "Incidents of a label that stand: told, neither recovered nor cleared, and not muted.",
        ("label",),
        lambda s, _r: (((label,), s.active(label)) for label in LABELS),
    ),
    Row(
        "gpuwatch_incidents_muted_total",
        "Failures among gpuwatch_incidents_total that a person has muted.",
        ("label",),
        muted,
        counter=True,
    ),
    Row(
        "gpuwatch_incident_last_timestamp_seconds",
        "When the last failure of a label was seen, in seconds since 1970.",
        ("label",),
        lambda s, _r: (((label,), at.timestamp()) for label, at in s.failure_last_at.items()),
    ),
    Row("gpuwatch_log_records_total", "Records read, by kind of source.", ("source", "outcome"), records, counter=True),
    Row(
        "gpuwatch_rules_quarantined",
        "Rules set aside because their patterns took too long.",
        (),
        lambda s, _r: [((), len(s.quarantined))],
    ),
    Row(
        "gpuwatch_rules_last_reload_success",
        "1 where the rule files as they are now are in force, 0 where a change was refused and the rules before it stay.",
        (),
        lambda s, _r: reload_success(s.rules_reload),
    ),
    Row(
        "gpuwatch_rules_last_reload_success_timestamp_seconds",
        "When changed rule files were last taken, in seconds since 1970; none before the first change.",
        (),
        lambda s, _r: reload_time(s.rules_reload),
    ),
    Row(
        "gpuwatch_mutes_last_reload_success",
        "1 where the mutes as they are now are in force, 0 where a change was refused and the mutes before it stay.",
        (),
        lambda s, _r: reload_success(s.mutes_reload),
    ),
    Row(
        "gpuwatch_collector_success",
        "1 where a collector delivers, 0 where it has nothing to give or failed.",
        ("collector",),
        collectors,
    ),
)


class SnapshotCollector(Collector):
    """Yields every metric from the snapshot of the moment."""

    def __init__(self, snapshot: Callable[[], Snapshot], rules: RuleSet) -> None:
        self._snapshot = snapshot
        self._rules = rules

    def collect(self) -> Iterator[Metric]:
        """The metric families, values read now."""
        snapshot = self._snapshot()
        for row in METRICS:
            family = (CounterMetricFamily if row.counter else GaugeMetricFamily)(row.name, row.help, labels=row.labels)
            for labels, value in row.samples(snapshot, snapshot.rules or self._rules):
                family.add_metric(labels, value)
            yield family


class Exporter:
    """The HTTP server: started on construction's address, stopped by `close`."""

    def __init__(self, snapshot: Callable[[], Snapshot], rules: RuleSet, host_name: str, port: int) -> None:
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(snapshot, rules))

        class Handler(_Handler):
            metrics = registry

        try:
            self._server = ThreadingHTTPServer((host_name, port), Handler)
        except OSError as error:
            raise UsageError(
                text(
                    "cannot listen on {host}:{port}: {reason}.",
                    host=host_name,
                    port=port,
                    reason=error.strerror or str(error),
                ),
                text("Another gpuwatch may be running; choose another port with --listen.")
                if error.errno == errno.EADDRINUSE
                else text("Choose another address with --listen."),
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="exporter", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """The metrics page's URL."""
        host_name, port = self._server.server_address[:2]
        shown = f"[{host_name!s}]" if ":" in str(host_name) else str(host_name)
        return f"http://{shown}:{port}/metrics"

    def close(self) -> None:
        """Stop serving and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """Answers three paths and no other."""

    metrics: CollectorRegistry
    server_version = "gpuwatch"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer a request."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, content_type, encode(self.metrics))
        elif path in {"/-/healthy", "/-/ready"}:
            self._answer(200, "text/plain; charset=utf-8", b"ok\n")
        else:
            self._answer(404, "text/plain; charset=utf-8", b"not found: only /metrics, /-/healthy and /-/ready exist\n")

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_words: object) -> None:
        """Say nothing: a scrape every few seconds is no news."""
