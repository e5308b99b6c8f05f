"""Pictures of the dashboards for the documentation: a real Prometheus is filled, asked each panel's query, and its answers drawn.

`python docs/generate.py dashboards` writes them. The pages of the exporter are made with times of the last three quarters of an
hour, put into Prometheus' storage with promtool, and the recording rules computed over them the same way; alerts are those that
this Prometheus evaluates itself. Needs `prometheus` and `promtool`.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import Vitals
from gpuwatch.faces.exporter.page import Page

sys.path.insert(0, str(Path(__file__).parent))
from plot import Series, drawn, panel_of
from story import MACHINES, MINUTES, STEP_SECONDS, Machine

ROOT = Path(__file__).parents[1]
BOARDS = sorted((ROOT / "dashboards" / "grafana").glob("*.json"))
RULES = sorted((ROOT / "dashboards" / "prometheus").glob("*.rules.yml"))
CAPTIONS = (
    "Drawn by gpuwatch's documentation from a real Prometheus' answers; not Grafana. "
    "Machines and jobs are made up, the log is recorded.",
    "由 gpuwatch 的文档脚本根据真实 Prometheus 的应答绘制，并非 Grafana 截图。机器与任务为虚构，日志为实际录制。",
)
_SECONDS = 60
_POINTS = 90
_SEARCH_SECONDS = 0.002
"""What a rule's search is said to take, made up as the machines are."""
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*?)\})? (\S+)(?: # .*)?$")
_PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def pictures() -> dict[str, str]:
    """Each dashboard's picture: file name and SVG."""
    with tempfile.TemporaryDirectory(prefix="gpuwatch-pictures-") as folder, filled(Path(folder)) as (asked, end):
        return {f"{path.stem}.svg": picture(json.loads(path.read_text("utf-8")), asked, end) for path in BOARDS}


def picture(board: Mapping[str, Any], asked: Prometheus, end: float) -> str:
    """One dashboard as it would be at `end`."""
    panels = []
    for told in board["panels"]:
        lines = told["type"] == "timeseries"
        series = [each for target in told["targets"] for each in asked.series(target, end, over_time=lines)]
        panels.append(panel_of(told, series))
    return drawn(board["title"], CAPTIONS, panels, MINUTES * 60)


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def series(self, target: Mapping[str, Any], end: float, *, over_time: bool) -> Iterator[Series]:
        """What it answers to a panel's query: over time, or as it is at the end."""
        expr = with_variables(target["expr"])
        if over_time:
            span = MINUTES * 60
            answer = self.ask("query_range", query=expr, start=end - span, end=end, step=span / _POINTS)
        else:  # now, a few seconds after the end: alerts are evaluated only now
            answer = self.ask("query", query=expr)
        for told in answer:
            samples = told["values"] if over_time else [told["value"]]
            points = tuple((at - end, float(value)) for at, value in samples if value not in {"NaN", "+Inf", "-Inf"})
            if points:
                yield Series(named(target["legendFormat"], told["metric"]), points)

    def ask(self, what: str, **question: Any) -> list[dict[str, Any]]:
        """The result of an API call."""
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(question)}"
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - our own address
            told: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return told

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=_SECONDS) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False


def with_variables(expr: str) -> str:
    """The query with what Grafana would put in for its variables: everything, two minutes, the whole range."""
    values = {"$__rate_interval": "2m", "$__interval": "30s", "$__range": f"{MINUTES}m"}
    for name, value in values.items():
        expr = expr.replace(name, value)
    return re.sub(r"\$\w+", ".*", expr)


def named(legend: str, labels: Mapping[str, str]) -> str:
    """The legend with the labels in it."""
    return " ".join(_PLACE.sub(lambda found: labels.get(found[1], ""), legend).split())


# -- filling it ------------------------------------------------------------------------------------------------------------


@contextmanager
def filled(folder: Path) -> Iterator[tuple[Prometheus, float]]:
    """A Prometheus that holds the story, up to a moment ago; and when that was."""
    end = datetime.fromtimestamp(int(time.time()) // STEP_SECONDS * STEP_SECONDS - STEP_SECONDS, UTC)
    began = end - timedelta(minutes=MINUTES)
    pages = folder / "pages.om"
    with pages.open("w", encoding="utf-8") as file:
        for machine in MACHINES:
            file.writelines(samples_of(Machine(*machine), began))
        file.write("# EOF\n")
    data = folder / "data"
    run("promtool", "tsdb", "create-blocks-from", "openmetrics", str(pages), str(data))
    config = folder / "prometheus.yml"
    config.write_text(json.dumps({"global": {"evaluation_interval": "1s"}, "rule_files": []}))
    span = [f"--start={began.timestamp():.0f}", f"--end={end.timestamp():.0f}", f"--eval-interval={STEP_SECONDS}s"]
    records = [str(path) for path in RULES if "recording" in path.name]
    for _pass in range(2):  # a rule that asks for another one finds its samples only once they are loaded
        with running(folder, config) as asked:
            where = [f"--url={asked.url}", f"--output-dir={data}"]
            run("promtool", "tsdb", "create-blocks-from", "rules", *span, *where, *records)
    config.write_text(
        json.dumps({"global": {"evaluation_interval": "1s"}, "rule_files": [str(path) for path in RULES]})
    )
    with running(folder, config) as asked:
        until(lambda: asked.ask("query", query='ALERTS{alertstate="firing"}'))
        yield asked, end.timestamp()


def samples_of(machine: Machine, began: datetime) -> Iterator[str]:
    """A machine's pages, each line with its time and with the labels that a scrape adds."""
    engine, snapshot = Engine(load_rules(), load_workloads()), Snapshot()
    clock = [began]
    engine.matcher.stopwatch.clock = count(0.0, _SEARCH_SECONDS).__next__

    def known() -> Snapshot:
        return replace(snapshot, vitals=Vitals(rule_seconds=dict(engine.matcher.stopwatch.seconds)))

    page = Page(known, engine.rules, workloads=engine.workloads.ids, clock=lambda: clock[0])
    for at, observations in machine.live(began):
        clock[0] = at
        for observation in observations:
            for event in engine.feed(observation):
                snapshot = snapshot.after(event)
        added = f'instance="{machine.name}:9877",job="gpuwatch"'
        for line in page.text().decode().splitlines():
            found = _SAMPLE.match(line)
            if found is not None:
                labels = ",".join(filter(None, (found[2], added)))
                yield f"{found[1]}{{{labels}}} {found[3]} {at.timestamp():.0f}\n"


def run(*words: str) -> None:
    """Run a tool to its end."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:4])}: {done.stdout}{done.stderr}")


@contextmanager
def running(folder: Path, config: Path) -> Iterator[Prometheus]:
    """A Prometheus on loopback until the end of the block."""
    program = shutil.which("prometheus")
    if program is None:
        raise SystemExit("prometheus is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    command = [
        program, f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        f"--storage.tsdb.path={folder / 'data'}",
    ]  # fmt: skip
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as child:
        try:
            asked = Prometheus(port)
            until(lambda: child.poll() is not None or asked.ready())
            yield asked
        finally:
            child.terminate()


def until(done: Any) -> None:
    """Ask again until it is so."""
    deadline = time.monotonic() + _SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit("Prometheus did not get there in time")
        time.sleep(0.05)
