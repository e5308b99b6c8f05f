"""A batch run's end, pushed to a Pushgateway: the one thing that Prometheus cannot scrape, because nothing is left to ask.

What a run pushes replaces all that an earlier one of the same job and machine did, so nothing of that is left standing. A
push that fails is told and harms nothing else: the run's own outcome stays what it is.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from gpuwatch.adapters.comfyui.address import without_credentials
from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, text

RunOutcome = Literal["success", "partial", "failed", "interrupted"]
"""`partial`: some inputs could not be read, the others are done."""
DEFAULT_JOB = "gpuwatch-run"
_PUSH_SECONDS = 5.0
_PATIENCE_SECONDS = 10.0
_LONGEST_JOB = 100


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a batch run ended."""

    workload: str
    outcome: RunOutcome
    seconds: float
    """All of it, loading included."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """The runner's; empty where it came to none."""


@dataclass(frozen=True, slots=True)
class RunMetric:
    """One metric of a run's end: a gauge, for there is one run and nothing to add up."""

    name: str
    help: str
    label: str
    """Besides `workload`; "" for none."""
    values: Callable[[RunEnd], Mapping[str, float | None]]
    """By the label's value; None for what was not measured."""


def images(end: RunEnd) -> dict[str, float | None]:
    """By what became of them."""
    failed = end.report.get("failed")
    return {
        "done": count_of(end.report.get("images")),
        "failed": len(failed) if isinstance(failed, list) else None,
        "skipped": count_of(end.report.get("skipped")),
    }


def tokens(end: RunEnd) -> float | None:
    """Of all images together."""
    done, each = count_of(end.report.get("images")), count_of(end.report.get("tokens_per_image"))
    return None if done is None or each is None else done * each


def predicted(end: RunEnd) -> float | None:
    """The high end of what the process was said to hold."""
    told = end.report.get("predicted")
    band = told.get("process_bytes") if isinstance(told, Mapping) else None
    return count_of(band.get("high")) if isinstance(band, Mapping) else None


RUN_METRICS: tuple[RunMetric, ...] = (
    RunMetric(
        "gpuwatch_run_outcome",
        "1 for what became of the last run, 0 for what did not: success, partial, failed, interrupted.",
        "outcome",
        lambda end: {outcome: float(outcome == end.outcome) for outcome in get_args(RunOutcome)},
    ),
    RunMetric(
        "gpuwatch_run_end_timestamp_seconds",
        "When the last run ended, in seconds since 1970.",
        "",
        lambda _end: {"": time.time()},
    ),
    RunMetric("gpuwatch_run_duration_seconds", "How long the last run took.", "", lambda end: {"": end.seconds}),
    RunMetric("gpuwatch_run_images", "Images of the last run, by what became of them.", "state", images),
    RunMetric("gpuwatch_run_tokens", "Compute tokens that the last run used.", "", lambda end: {"": tokens(end)}),
    RunMetric(
        "gpuwatch_run_peak_memory_bytes",
        "The most GPU memory that the last run held: allocated and reserved by PyTorch, device by its whole process.",
        "kind",
        lambda end: {
            kind: count_of(end.report.get(f"peak_{kind}_bytes")) for kind in ("allocated", "reserved", "device")
        },
    ),
    RunMetric(
        "gpuwatch_run_predicted_memory_bytes",
        "What the last run was said to hold on a GPU at most, the high end of the prediction.",
        "",
        lambda end: {"": predicted(end)},
    ),
)


class Pushgateway:
    """Where a run's end is pushed to."""

    def __init__(self, url: str, job: str | None = None) -> None:
        job = DEFAULT_JOB if job is None else job
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable or not url.isprintable() or "@" in url or parts.query or parts.fragment:
            raise UsageError(
                text("{url} is no address of a Pushgateway.", url=without_credentials(url)),
                text("Write http://HOST:9091, without user and password."),
            )
        if not job.strip() or not job.isprintable() or len(job) > _LONGEST_JOB:
            raise UsageError(text("--push-job: {job} is no name for a job.", job=repr(job[:_LONGEST_JOB])))
        self._url = url
        self._job = job

    @contextmanager
    def end_of(self, workload: str, tell: Callable[[Text], None]) -> Iterator[dict[str, Any]]:
        """Push how the block ended; what it puts into the mapping is the run's report. A push that fails is told."""
        report: dict[str, Any] = {}
        outcome: RunOutcome = "failed"
        started = time.monotonic()
        try:
            yield report
            outcome = "partial" if report.get("failed") else "success"
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        finally:
            refused = self.push(RunEnd(workload, outcome, time.monotonic() - started, report))
            if refused is not None:
                tell(refused)

    def push(self, end: RunEnd) -> Text | None:
        """Push; why it could not be done, None where it was."""
        failures: list[str] = []

        def act() -> None:
            try:
                self._push(end)
            except Exception as error:  # noqa: BLE001 - whatever it is, the run has ended well without it
                failures.append(reason_of(error))

        # A gateway that answers a byte at a time keeps to every time limit of one read.
        thread = threading.Thread(target=act, name="pushgateway", daemon=True)
        thread.start()
        thread.join(_PATIENCE_SECONDS)
        if not thread.is_alive() and not failures:
            return None
        reason = failures[0] if failures else text("no answer in {time} s", time=round(_PATIENCE_SECONDS))
        return text("{url}: the run's end was not pushed: {reason}", url=self._url, reason=reason)

    def _push(self, end: RunEnd) -> None:
        from prometheus_client import CollectorRegistry, Gauge, push_to_gateway  # noqa: PLC0415 - where it is asked for

        registry = CollectorRegistry()
        for metric in RUN_METRICS:
            told = {name: value for name, value in metric.values(end).items() if value is not None}
            labels = ("workload", metric.label) if metric.label else ("workload",)
            gauge = Gauge(metric.name, metric.help, labels, registry=registry) if told else None
            for name, value in told.items():
                assert gauge is not None  # noqa: S101 - there is a value
                gauge.labels(end.workload, *([name] if metric.label else [])).set(value)
        instance = {"instance": socket.gethostname()}
        push_to_gateway(self._url, self._job, registry, instance, timeout=_PUSH_SECONDS)


def reason_of(error: Exception) -> str:
    """Why, without the library's brackets around it."""
    cause = getattr(error, "reason", error)
    words = cause.strerror if isinstance(cause, OSError) else None
    return words or str(cause) or type(cause).__name__


def count_of(value: Any) -> float | None:
    """A number from 0 on that a report has; None for anything else."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    return float(value) if known else None
