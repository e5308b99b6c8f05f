"""The metrics of the work: queues, jobs, what they needed, tokens, workers.

Counts and histograms stand at 0 from the start. A gauge that nobody has measured has no sample: an empty queue is not an
unknown one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice, product
from statistics import fmean
from typing import get_args

from gpuwatch.core.observations import JobOutcome
from gpuwatch.core.snapshot import Snapshot, WorkerState
from gpuwatch.core.tallies import (
    JOB_SECONDS,
    MEASURED_TO_PREDICTED,
    MOST_SERVERS,
    OTHER,
    WAIT_SECONDS,
    Histogram,
    let_in,
)
from gpuwatch.faces.exporter.rows import Row, Samples, Value, View, at_zero

FLEET_STATES = ("wanted", "starting", "ready", "draining")


def servers(snapshot: Snapshot) -> list[str]:
    """The servers that jobs may come from, at most MOST_SERVERS and the rest as one; "" stands for none yet."""
    known: set[str] = set()
    for name in (*snapshot.queues, *snapshot.tallies.waits, *(key[0] for key in snapshot.tallies.jobs)):
        known.add(let_in(name, known, MOST_SERVERS))
    return sorted(known) or [""]


def answering(snapshot: Snapshot, names: Iterable[str]) -> list[str]:
    """Those of the servers that answer, or of which nobody has said that they do not; at most MOST_SERVERS."""
    known = (name for name in names if (status := snapshot.sources.get(name)) is None or status.state == "up")
    return list(islice(known, MOST_SERVERS))


def servers_up(view: View) -> Samples:
    """1 for a server that answers, 0 for one that does not, or has not yet."""
    snapshot = view.snapshot
    heard = snapshot.servers.keys() | snapshot.queues.keys()
    watched = [status for status in snapshot.sources.values() if status.kind == "comfyui"]
    return (
        Value((status.name,), float(status.state == "up" and status.name in heard)) for status in watched[:MOST_SERVERS]
    )


def queue_jobs(view: View) -> Samples:
    """Jobs of each server's queue."""
    queues = view.snapshot.queues
    for name in answering(view.snapshot, queues):
        queue = queues[name]
        yield Value((name, "pending"), queue.pending)
        yield Value((name, "running"), queue.running)


def queue_work(view: View) -> Samples:
    """Seconds of work in each queue: its jobs, each as long as that server's last good ones were on average."""
    queues = view.snapshot.queues
    for name in answering(view.snapshot, queues):
        taken = [
            job.duration_seconds
            for job in view.snapshot.jobs
            if job.server == name and job.outcome == "success" and job.duration_seconds is not None
        ]
        waiting = queues[name].pending + queues[name].running
        if taken or not waiting:
            yield Value((name,), waiting * fmean(taken) if waiting else 0.0)


def waits(view: View) -> Samples:
    """Seconds in the queue, by server."""
    told = view.snapshot.tallies.waits
    return (Value((name,), told.get(name) or Histogram(WAIT_SECONDS)) for name in servers(view.snapshot))


def jobs(view: View) -> Samples:
    """Seconds of work, by server, workload and outcome; those workloads at 0 that profiles speak of."""
    outcomes: tuple[JobOutcome, ...] = get_args(JobOutcome)
    nothing = dict.fromkeys(product(servers(view.snapshot), (*view.workloads, OTHER), outcomes), Histogram(JOB_SECONDS))
    return (Value(key, seen) for key, seen in {**nothing, **view.snapshot.tallies.jobs}.items())


def server_info(view: View) -> Samples:
    """What each server says of itself."""
    seen_servers = view.snapshot.servers
    for name in answering(view.snapshot, seen_servers):
        seen = seen_servers[name]
        yield Value((name, seen.version or "", seen.device or ""), 1.0)


def server_memory(view: View) -> Samples:
    """What each server says of its device's memory."""
    seen_servers = view.snapshot.servers
    for name in answering(view.snapshot, seen_servers):
        seen = seen_servers[name]
        if seen.free_bytes is not None:
            yield Value((name, "free"), seen.free_bytes)
        if seen.total_bytes is not None:
            yield Value((name, "total"), seen.total_bytes)


def workers(view: View) -> Samples:
    """How many workers are in each state."""
    watched = Counter(view.snapshot.workers.values())
    states: tuple[WorkerState, ...] = get_args(WorkerState)
    yield from (Value((state,), watched[state]) for state in states)
    yield from (Value((state,), 0.0) for state in FLEET_STATES)


ROWS: tuple[Row, ...] = (
    Row(
        "gpuwatch_server_up",
        "1 where a ComfyUI server answers, 0 where it does not; its queue then has no series.",
        ("server",),
        servers_up,
        unit="0 or 1",
    ),
    Row(
        "gpuwatch_server_info",
        "The ComfyUI servers that are watched; join other series by server.",
        ("server", "version", "device"),
        server_info,
    ),
    Row(
        "gpuwatch_server_device_memory_bytes",
        "What a server last said of its device's memory.",
        ("server", "which"),
        server_memory,
    ),
    Row("gpuwatch_queue_jobs", "Jobs in a server's queue, by state.", ("server", "state"), queue_jobs, unit="jobs"),
    Row(
        "gpuwatch_queue_work_seconds",
        "Seconds of work in a server's queue, computed: its jobs, each as long as its last good ones on average.",
        ("server",),
        queue_work,
    ),
    Row(
        "gpuwatch_queue_wait_seconds",
        "How long jobs waited before they ran; ComfyUI tells it from 0.24 on.",
        ("server",),
        waits,
        "histogram",
    ),
    Row(
        "gpuwatch_job_duration_seconds",
        "How long jobs ran; our own runner's images too, under the server runner.",
        ("server", "workload", "outcome"),
        jobs,
        "histogram",
    ),
    Row(
        "gpuwatch_node_duration_seconds",
        "How long nodes ran, by type: the first sixteen types seen, the rest as other. A server tells it only of prompts without a "
        "client id, as scripts send them.",
        ("node_type",),
        lambda v: (Value((name,), seen) for name, seen in v.snapshot.tallies.nodes.items()),
        "histogram",
    ),
    Row(
        "gpuwatch_job_peak_memory_bytes",
        "What a workload's last job held on the GPU at most, measured.",
        ("workload",),
        lambda v: (Value((name,), count) for name, count in v.snapshot.tallies.peak_bytes.items()),
    ),
    Row(
        "gpuwatch_memory_predicted_bytes",
        "What a workload's last job was said to hold at most, the high end of the prediction.",
        ("workload",),
        lambda v: (Value((name,), count) for name, count in v.snapshot.tallies.predicted_bytes.items()),
    ),
    Row(
        "gpuwatch_memory_measured_to_predicted_ratio",
        "Measured over predicted memory of jobs; up to 1 the prediction held.",
        ("workload",),
        lambda v: (
            Value((name,), v.snapshot.tallies.accuracy.get(name) or Histogram(MEASURED_TO_PREDICTED))
            for name in sorted({*v.workloads, *v.snapshot.tallies.accuracy})
        ),
        "histogram",
    ),
    Row(
        "gpuwatch_tokens_total",
        "Compute tokens used, by workload.",
        ("workload",),
        lambda v: (
            Value((name,), at_zero(v.snapshot.tallies.tokens.get(name)))
            for name in sorted({*v.workloads, *v.snapshot.tallies.tokens})
        ),
        "counter",
        "tokens",
    ),
    Row(
        "gpuwatch_workers",
        "Workers by state. Each watched server's is idle, busy, dead (its server only looks alive) or away; the other states "
        "are a fleet's, 0 where gpuwatch scales none.",
        ("state",),
        workers,
        unit="workers",
    ),
)
