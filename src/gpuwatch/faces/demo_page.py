"""The demo in print: the failure best told, the run's report, and the metrics page as Prometheus would read it."""

from __future__ import annotations

import sys
import urllib.request

from gpuwatch.core.incidents import Incident
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import JobError
from gpuwatch.faces.demonstrating import Demo
from gpuwatch.faces.report import console_for, print_incident
from gpuwatch.faces.run_page import report_lines
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _

_LONGEST_SECONDS = 600
_SCRAPE_SECONDS = 10


def print_demo(demo: Demo, *, kept: bool) -> int:
    """Play it to its end and print the story: what failed, what to do, what the run measured, where the metrics are.

    Raises JobError where it does not end.
    """
    pipeline, exporter = demo.pipeline, demo.exporter
    console = console_for(sys.stdout)

    def heading(words: str) -> None:
        console.print(f"\n── {words}", style="bold")

    try:
        pipeline.start()
        if not pipeline.wait(_LONGEST_SECONDS):
            raise JobError(text("the demo did not end within {limit_seconds}.", limit_seconds=_LONGEST_SECONDS))
    finally:
        pipeline.stop()
    snapshot = pipeline.snapshot
    heading(_("A recorded ComfyUI session runs out of GPU memory"))
    incidents = list(snapshot.incidents.values())
    shown = best_told(incidents)
    if shown is not None:
        print_incident(console, shown)
    others = [incident for incident in incidents if incident is not shown]
    if others:
        console.print(
            render(
                text(
                    "{count} more failures in this session; all have cleared: the last prompt ran well.",
                    count=len(others),
                )
            )
        )
    heading(_("The runner colorizes a photo with DDColor, profiled"))
    for line in run_lines(snapshot, kept=kept):
        console.print(visible(line), soft_wrap=True)
    heading(_("The same as Prometheus metrics"))
    console.print(render(text("metrics: {address}", address=exporter.address)), soft_wrap=True)
    console.print(scraped(exporter.address, 'gpuwatch_incidents_total{label="cuda_oom"'), soft_wrap=True)
    failed = [source for source in snapshot.sources.values() if source.state == "failed"]
    for source in failed:
        print(visible(f"{source.name}: {render(source.reason or '')}"), file=sys.stderr)
    return 4 if failed or shown is None else 0


def best_told(incidents: list[Incident]) -> Incident | None:
    """The first memory failure whose diagnosis is the surest."""
    memory = [incident for incident in incidents if incident.label == "cuda_oom" and incident.diagnosis]
    return max(memory, key=lambda incident: incident.diagnosis.confidence if incident.diagnosis else 0, default=None)


def run_lines(snapshot: Snapshot, *, kept: bool) -> list[str]:
    """The run's report, or why there is none."""
    if snapshot.run is None or snapshot.run.report is None:
        return [render(text("The run gave no report."))]
    report = dict(snapshot.run.report)
    if not kept:
        report |= {"trace_files": [], "manifest": None}
    lines = [render(line) for line in report_lines(report)]
    if not kept:
        lines.append(render(text("The photo and the trace were thrown away; keep them with --out DIR.")))
    return lines


def scraped(url: str, begin: str) -> str:
    """The lines of the metrics page that begin so, fetched over HTTP as Prometheus would."""
    with urllib.request.urlopen(url, timeout=_SCRAPE_SECONDS) as page:  # noqa: S310 - our own address
        text_of_page: str = page.read().decode()
    return "\n".join(line for line in text_of_page.splitlines() if line.startswith(begin))
