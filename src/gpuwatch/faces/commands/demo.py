"""Show what gpuwatch does, on any machine: a recorded out-of-memory session and a real DDColor run.

Examples:
  gpuwatch demo                 the screen
  gpuwatch demo < /dev/null     the same as text: diagnosis, fix, report, metrics
  gpuwatch demo --checkpoint ddcolor_paper_tiny.pth --out coloured
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import urllib.request
from importlib.resources import as_file, files
from pathlib import Path

from gpuwatch.adapters.checkpoints import find_checkpoint
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.sources import Source
from gpuwatch.adapters.sources.replay import ReplaySource
from gpuwatch.adapters.sources.runner import RunnerSource
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.incidents import Incident
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import JobError, UsageError
from gpuwatch.faces.commands.run import report_lines
from gpuwatch.faces.commands.watch import has_screen
from gpuwatch.faces.exporter import Exporter
from gpuwatch.faces.options import address
from gpuwatch.faces.report import console_for, print_incident
from gpuwatch.faces.watching import machine_sources
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _

_RECORDING, _PHOTO = "oom_large_1280.jsonl", "portrait.jpg"
_SCREEN_SPEED = 20.0
_SIDE_PX = 256
_LONGEST_SECONDS = 600
_SCRAPE_SECONDS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--plain", action="store_true", help=_("print instead of the screen"))
    parser.add_argument(
        "--listen", type=address, metavar="HOST:PORT", default=("127.0.0.1", 0), help=_("default: any free port")
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help=_("published weights, so that the colours mean something")
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=_("keep the colorized photo and the trace here"))


def run(arguments: argparse.Namespace) -> int:
    """Play the session and run the network, on the screen or in print."""
    if arguments.out is not None and os.path.lexists(arguments.out) and not arguments.out.is_dir():
        raise UsageError(
            text("{folder} is no folder.", folder=str(arguments.out)), text("Name another place with --out.")
        )
    with tempfile.TemporaryDirectory(prefix="gpuwatch-demo-") as scratch, as_file(files("gpuwatch.demo")) as data:
        out = arguments.out or Path(scratch)
        words = ["ddcolor", str(data / _PHOTO), "--size", str(_SIDE_PX), "--profile", "--force", "--out", str(out)]
        if arguments.checkpoint is not None:
            words += ["--checkpoint", find_checkpoint(str(arguments.checkpoint))]
        plain = arguments.plain or not (has_screen() and sys.stdin.isatty())
        replay = ReplaySource(data / _RECORDING, speed=0 if plain else _SCREEN_SPEED, name="demo")
        matcher = load_matcher()
        engine = Engine(matcher.rules, load_workloads(), ready=matcher)
        sources: list[Source] = [replay, RunnerSource(words)]
        pipeline = Pipeline(engine, sources if plain else [*sources, *machine_sources()])
        exporter = Exporter(lambda: pipeline.snapshot, engine.rules, *arguments.listen, workloads=engine.workloads.ids)
        try:
            if plain:
                return print_demo(pipeline, exporter, kept=arguments.out is not None)
            from gpuwatch.faces.tui.app import WatchApp  # noqa: PLC0415 - only for the screen

            app = WatchApp(pipeline, metrics_address=exporter.address, title="demo", notice=NOTICE)
            app.run()
            return app.return_code or 0
        finally:
            exporter.close()


NOTICE = text("A recorded session, played fast; the runner beside it is real. q ends the demo.")


def print_demo(pipeline: Pipeline, exporter: Exporter, *, kept: bool) -> int:
    """Print the story: what failed, what to do, what the run measured, where the metrics are."""
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
