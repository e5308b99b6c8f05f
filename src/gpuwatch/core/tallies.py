"""What is counted over the whole watch and would be lost with the newest few: jobs, waits, tokens, fixes, Xids.

Values as the snapshot is one: never changed in place. Names that come from outside (servers, workloads, node types) are let
in up to a number; what comes later is counted as "other", so that no log and no server can grow a metric without bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from gpuwatch.core.events import PeakCompared
from gpuwatch.core.observations import FixOutcome, FixTried, JobEnded, JobOutcome, LogGap, RunEvent, SourceKind

_Key = TypeVar("_Key")

OTHER = "other"
RUNNER = "runner"
"""The server that our own runner's jobs are counted under."""
MOST_SERVERS, MOST_WORKLOADS, MOST_NODE_TYPES = 32, 8, 16

JOB_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""A photo takes tenths of a second to a minute, a video minutes to an hour."""
WAIT_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
NODE_SECONDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
MEASURED_TO_PREDICTED = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0)
"""Up to 1 the prediction held; above, a job needed more than it was said to."""

XIDS = ("8", "13", "31", "32", "38", "43", "45", "48", "54", "61", "62", "63", "64", "69", "74", "79", "92", "94", "95", "109",
        "119", "120", "136", "140", "143", "154", OTHER)  # fmt: skip
"""The codes that NVIDIA's catalogue gives a meaning to act on; the rest is counted together."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often which size was seen."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...] = ()
    """One for each bound, those above all bounds last; not summed up."""
    total: float = 0.0

    def observed(self, value: float) -> Histogram:
        """With one more."""
        counts = list(self.counts or (0,) * (len(self.bounds) + 1))
        counts[bisect_left(self.bounds, value)] += 1
        return Histogram(self.bounds, tuple(counts), self.total + value)


@dataclass(frozen=True, slots=True)
class Tallies:
    """Sums since the start. What has not been seen has no entry; whoever shows it shows 0."""

    jobs: Mapping[tuple[str, str, JobOutcome], Histogram] = field(default_factory=dict)
    """Seconds by server, workload, outcome."""
    waits: Mapping[str, Histogram] = field(default_factory=dict)
    """Seconds in the queue, by server."""
    nodes: Mapping[str, Histogram] = field(default_factory=dict)
    """Seconds by node type."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    predicted_bytes: Mapping[str, int] = field(default_factory=dict)
    """What the workload's last job was said to need, at the high end."""
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    """What it held on the card at most, as measured."""
    accuracy: Mapping[str, Histogram] = field(default_factory=dict)
    """Measured over predicted, by workload."""
    fixes: Mapping[tuple[str, FixOutcome], int] = field(default_factory=dict)
    xids: Mapping[str, int] = field(default_factory=dict)
    gaps: Mapping[SourceKind, int] = field(default_factory=dict)
    """Times that a log went on after something was missed, by kind of source."""

    def after(self, event: object) -> Tallies:
        """The sums once this event has happened."""
        if isinstance(event, JobEnded):
            return self._with_job(event) if event.fresh else self
        if isinstance(event, RunEvent):
            return self._with_run(event.event)
        if isinstance(event, PeakCompared):
            return self._with_peak(event.workload or OTHER, event.peak_bytes, event.predicted_bytes)
        if isinstance(event, LogGap):
            return replace(self, gaps=_added(self.gaps, event.kind, 1))
        if isinstance(event, FixTried):
            return replace(self, fixes=_added(self.fixes, (event.action, event.outcome), 1))
        return self

    def with_xids(self, codes: Iterable[Any], failures: int) -> Tallies:
        """With the Xids of one failure; what is no code that is known counts as one of the rest."""
        xids = self.xids
        for code in codes:
            xids = _added(xids, str(code) if str(code) in XIDS else OTHER, failures)
        return replace(self, xids=xids)

    def _with_job(self, job: JobEnded) -> Tallies:
        server = let_in(job.server, {key[0] for key in self.jobs} | set(self.waits), MOST_SERVERS)
        workload = let_in(job.workload or OTHER, {key[1] for key in self.jobs}, MOST_WORKLOADS)
        tallies = self
        if (seconds := _amount(job.duration_seconds)) is not None:
            jobs = _observed(self.jobs, (server, workload, job.outcome), seconds, JOB_SECONDS)
            tallies = replace(tallies, jobs=jobs)
        if (waited := _amount(job.waited_seconds)) is not None:
            tallies = replace(tallies, waits=_observed(self.waits, server, waited, WAIT_SECONDS))
        nodes = self.nodes
        for node_type, spent in job.node_seconds.items():
            if (seconds := _amount(spent)) is not None:
                name = let_in(node_type, set(nodes), MOST_NODE_TYPES)
                nodes = _observed(nodes, name, seconds, NODE_SECONDS)
        return tallies if nodes is self.nodes else replace(tallies, nodes=nodes)

    def _with_run(self, event: Mapping[str, Any]) -> Tallies:
        """An image or the report of our own runner, which colorizes with DDColor and nothing else so far."""
        workload = "ddcolor"
        match event.get("event"):
            case "image" if (seconds := _amount(event.get("seconds"))) is not None:
                return replace(self, jobs=_observed(self.jobs, (RUNNER, workload, "success"), seconds, JOB_SECONDS))
            case "failed":
                return replace(self, jobs=_observed(self.jobs, (RUNNER, workload, "error"), 0.0, JOB_SECONDS))
            case "report":
                return self._with_report(event, workload)
            case _:
                return self

    def _with_report(self, report: Mapping[str, Any], workload: str) -> Tallies:
        tallies = self
        images, each = _amount(report.get("images")), _amount(report.get("tokens_per_image"))
        if images and each:
            tallies = replace(tallies, tokens=_added(self.tokens, workload, int(images * each)))
        peak = _amount(report.get("peak_device_bytes"))
        predicted = report.get("predicted")
        process = predicted.get("process_bytes") if isinstance(predicted, Mapping) else None
        high = _amount(process.get("high")) if isinstance(process, Mapping) else None
        return tallies._with_peak(workload, peak, high)

    def _with_peak(self, workload: str, peak_bytes: float | None, predicted_bytes: float | None) -> Tallies:
        """With what a job held and what it was said to; 0 and None are not known."""
        name = let_in(workload, {*self.peak_bytes, *self.predicted_bytes}, MOST_WORKLOADS)
        tallies = self
        if peak_bytes:
            tallies = replace(tallies, peak_bytes={**self.peak_bytes, name: int(peak_bytes)})
        if predicted_bytes:
            tallies = replace(tallies, predicted_bytes={**self.predicted_bytes, name: int(predicted_bytes)})
        if peak_bytes and predicted_bytes:
            seen = _observed(self.accuracy, name, peak_bytes / predicted_bytes, MEASURED_TO_PREDICTED)
            tallies = replace(tallies, accuracy=seen)
        return tallies


def let_in(name: str, known: set[str], most: int) -> str:
    """The name, or "other" where as many are known already."""
    return name if name in known or len(known - {OTHER}) < most else OTHER


def _amount(value: Any) -> float | None:
    """A finite number from 0 on; None for anything else that an untrusted server or child may say."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return None
    return float(value)


def _added(counts: Mapping[_Key, int], key: _Key, more: int) -> Mapping[_Key, int]:
    return {**counts, key: counts.get(key, 0) + more}


def _observed(
    seen: Mapping[_Key, Histogram], key: _Key, value: float, bounds: tuple[float, ...]
) -> Mapping[_Key, Histogram]:
    return {**seen, key: (seen.get(key) or Histogram(bounds)).observed(value)}
