"""The page of the jobs: what waits, what runs, what ended, as ComfyUI itself tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from gpuwatch.core.incidents import Incident
from gpuwatch.core.loop.broken import breakage
from gpuwatch.core.observations import JobEnded, JobOutcome
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.paint import Row, Span, bar, flushed, padded, paragraph, row, spread, width_of
from gpuwatch.faces.tui.themes import Tone
from gpuwatch.faces.tui.wording import clock, said
from gpuwatch.texts import Text, render, show_bytes, show_seconds, text, visible
from gpuwatch.texts import translate as _

_MOST_JOBS = 60
_ROOMIEST, _ROOMY = 108, 90
_COLUMNS = (16, 12, 12, 12)
OUTCOME: Mapping[JobOutcome, tuple[str, Text, Tone]] = {
    "success": ("✓", text("done"), "good"),
    "error": ("✗", text("failed"), "error"),
    "interrupted": ("■", text("interrupted"), "warning"),
}


def jobs_page(snapshot: Snapshot, width: int) -> list[Row]:
    """What waits, what runs, what ended."""
    rows: list[Row] = []
    servers = sorted({*snapshot.queues, *snapshot.servers, *snapshot.progress})
    for name in servers:
        rows += [*server_rows(snapshot, name, width), row()]
    if snapshot.jobs:
        rows.append(head_row(width))
        told = {incident.job_id: incident for incident in snapshot.incidents.values() if incident.job_id is not None}
        rows += [job_row(job, snapshot, width, told.get(job.job_id)) for job in reversed(snapshot.jobs[-_MOST_JOBS:])]
    elif servers:
        rows.append(row((" " + _("No job has ended yet."), "dim")))
    if rows:
        return rows
    return [
        row(),
        row((" ○ ", "dim"), (_("No server is watched, so no job is known."), "strong")),
        *paragraph(
            _("A log tells failures. The queue, the running node and ended jobs are told by ComfyUI itself:"),
            min(width - 2, 84), "dim", 3,
        ),
        row(("   $ ", "faint"), ("gpuwatch watch http://127.0.0.1:8188", "info")),
    ]  # fmt: skip


def server_rows(snapshot: Snapshot, name: str, width: int) -> list[Row]:
    """One server: its queue, and the node that runs."""
    seen, queue = snapshot.servers.get(name), snapshot.queues.get(name)
    title: list[Span] = [(" " + visible(name), "strong")]
    if seen is not None:
        told = [f"ComfyUI {seen.version}" if seen.version else "", seen.device or ""]
        title.append(("  " + visible(" · ".join(word for word in told if word)), "dim"))
    state = ""
    if queue is not None:
        state = render(text("{running} running, {pending} waiting", running=queue.running, pending=queue.pending))
    status = snapshot.sources.get(name)
    if status is not None and status.state == "failed":
        return [row(*spread(title, [("✗ ", "error"), (_("does not answer") + " ", "error")], width))]
    rows = [row(*spread(title, [(state + " ", "text")], width))]
    progress = snapshot.progress.get(name)
    if progress is not None:
        node = render(text("node {id}", id=visible(progress.node_id)))
        if progress.value is not None and progress.max:
            count = f" {progress.value:g}/{progress.max:g} "
            room = min(max(width - width_of([(node + count, "text")]) - 6, 4), 60)
            rows.append(
                row(("   " + node + " ", "text"), *bar(progress.value / progress.max, room, "accent"), (count, "text"))
            )
        else:
            rows.append(row(("   " + node + " ", "text"), (_("runs"), "dim")))
    elif (broken := breakage(snapshot.incidents.values(), name)) is not None:
        why = render(text("computes nothing until it is restarted: {why}", why=broken.title))
        rows += paragraph("✖ " + visible(why), width - 1, "error", 3)
    elif queue is not None and not queue.running:
        rows.append(row(("   " + _("idle"), "dim")))
    return rows


def job_row(job: JobEnded, snapshot: Snapshot, width: int, failure: Incident | None = None) -> Row:
    """A job that is over, on one line. `failure`: what it failed at, where that is known."""
    sign, word, tone = OUTCOME[job.outcome]
    left: list[Span] = [(f" {sign} ", tone), (padded(render(word), 12), tone)]
    left.append((clock(job.at, snapshot.at) + "  ", "dim"))
    if job.workload or job.node_type:
        left.append((visible(job.workload or job.node_type or "") + "  ", "text"))
    if failure is not None and job.outcome == "error":
        left.append((said(failure.title), "dim"))
    elif job.exception_type:
        left.append((visible(job.exception_type.rpartition(".")[2]), "dim"))
    elif job.node_seconds:
        node, seconds = max(job.node_seconds.items(), key=lambda item: item[1])
        left.append((render(text("longest: {time} in {node}", node=visible(node), time=show_seconds(seconds))), "dim"))
    peak = peak_of(job, snapshot)
    told = (
        f"{job.tokens_per_image:,}" if job.tokens_per_image is not None else "",
        show_bytes(peak) if peak is not None else "",
        show_seconds(job.waited_seconds) if job.waited_seconds is not None else "",
        show_seconds(job.duration_seconds) if job.duration_seconds is not None else "",
    )
    return row(*spread(left, columns(told, width), width))


def head_row(width: int) -> Row:
    """What the columns are."""
    title: list[Span] = [(" " + _("Ended, the newest first"), "title")]
    told = (_("tokens an image"), _("on the card"), _("waited"), _("took"))
    return row(*spread(title, columns(told, width), width))


def columns(told: Sequence[str], width: int) -> list[Span]:
    """The numbers at the right end, as many as there is room for; how long it took is the last to go."""
    kept = list(zip(told, _COLUMNS, strict=True))[0 if width >= _ROOMIEST else 1 if width >= _ROOMY else 3 :]
    return [(flushed(words, room) + " ", "dim") for words, room in kept]


def peak_of(job: JobEnded, snapshot: Snapshot) -> int | None:
    """The most that was held on the card while it ran, by all programs; None where that was not seen, or there are several."""
    histories = [samples for samples in snapshot.gpus.values() if samples]
    if len(histories) != 1 or job.duration_seconds is None:
        return None
    begin = job.at - timedelta(seconds=job.duration_seconds)
    held = [one.used_bytes for one in histories[0] if begin <= one.at <= job.at and one.used_bytes is not None]
    return max(held, default=None)
