"""Makes what the program itself decides in the documentation, so that no page says what is no longer so.

    python docs/generate.py             the blocks between markers: rules.md, metrics.md, the output in the READMEs
    python docs/generate.py screens     screens/*.svg, by screen_pictures.py; names after it make only those
    python docs/generate.py dashboards  dashboards/*.svg, from the answers of a real Prometheus; half a minute

What stands outside the markers is written by hand and left as it is.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stdout
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path

import yaml

from gpuwatch.adapters.recording import read_recording
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces import cli
from gpuwatch.faces.exporter import METRICS, Page, Row
from gpuwatch.faces.exporter.pushgateway import RUN_METRICS
from gpuwatch.settings import VARIABLE
from gpuwatch.texts import Language, current, use

sys.path.insert(0, str(Path(__file__).parent))
import rule_listing
from markdown_words import cell
from memory_tables import memory_tables

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
READMES: dict[Language, Path] = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}
SHOWN_LOG = "tests/data/recordings/comfyui-0.24.0-oom_large_1280-stderr.log"
UNITS = {
    "_timestamp_seconds": "seconds since 1970",
    "_bytes_per_second": "bytes per second",
    "_bytes": "bytes",
    "_seconds": "seconds",
    "_ratio": "ratio",
    "_celsius": "°C",
    "_watts": "watts",
    "_joules": "joules",
    "_hertz": "hertz",
}
_TEMPLATE = re.compile(r"\{\{.*?\}\}")


def main() -> None:
    """Write the pages, the screens or the pictures of the dashboards."""
    made = {"": pages, "screens": screens, "dashboards": dashboards}.get("".join(sys.argv[1:2]))
    if made is None:
        raise SystemExit(__doc__)
    for path, content in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, "utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


# -- pages -----------------------------------------------------------------------------------------------------------------


def pages() -> dict[Path, str]:
    """Each page as it should be: its own words, and the blocks anew."""
    with shipped_rules_only():
        made: dict[Path, str] = {}
        for path, name, block in blocks():
            made[path] = with_block(made.get(path) or path.read_text("utf-8"), name, block)
        return made


@contextmanager
def shipped_rules_only() -> Iterator[None]:
    """Look for a person's own rules where there are none."""
    before = {name: os.environ.pop(name, None) for name in (VARIABLE, "XDG_CONFIG_HOME")}
    os.environ["XDG_CONFIG_HOME"] = str(DOCS)
    try:
        yield
    finally:
        os.environ.pop("XDG_CONFIG_HOME")
        os.environ.update({name: value for name, value in before.items() if value is not None})


def blocks() -> Iterator[tuple[Path, str, str]]:
    """Each block: its page, its name and what it holds now."""
    yield DOCS / "rules.md", "rules", rule_listing.listing(load_rules())
    yield DOCS / "metrics.md", "metrics", metrics_block()
    yield DOCS / "metrics.md", "run metrics", run_metrics_block()
    yield DOCS / "metrics.md", "page", page_block()
    yield DOCS / "runbooks.md", "alerts", alerts_block()
    yield DOCS / "memory.md", "memory", memory_tables("en")
    yield DOCS / "memory.zh-CN.md", "memory", memory_tables("zh")
    for language, path in READMES.items():
        yield path, "diagnosis", diagnosis_block(language)


def with_block(page: str, name: str, block: str) -> str:
    """The page with what stands between the block's markers replaced."""
    begin, end = f"<!-- begin {name}: made by docs/generate.py -->\n", f"<!-- end {name} -->"
    head, found, rest = page.partition(begin)
    _old, closed, tail = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"the markers of {name} are missing")
    return f"{head}{begin}\n{block.strip()}\n\n{end}{tail}"


def metrics_block() -> str:
    """Every metric: name, type, unit, labels, meaning."""
    rows = (f"| `{row.name}` | {row.kind} | {unit_of(row)} | {labels_of(row)} | {cell(row.help)} |" for row in METRICS)
    return "\n".join(["| Metric | Type | Unit | Labels | Meaning |", "|---|---|---|---|---|", *rows])


def run_metrics_block() -> str:
    """What a batch run pushes at its end."""
    rows = (
        f"| `{metric.name}` | {', '.join(f'`{label}`' for label in ('workload', metric.label) if label)} | {cell(metric.help)} |"
        for metric in RUN_METRICS
    )
    return "\n".join(["| Metric | Labels | Meaning |", "|---|---|---|", *rows])


def page_block() -> str:
    """What the page says after the session that ships with the demo: the lines that are not 0, buckets left out."""
    workloads = load_workloads()
    engine, snapshot = Engine(load_rules(), workloads), Snapshot()
    with as_file(files("gpuwatch.demo")) as data:
        for _after, observation in read_recording(data / "oom_large_1280.jsonl"):
            for event in engine.feed(observation):
                snapshot = snapshot.after(event)
    page = Page(lambda: snapshot, engine.rules, workloads=workloads.ids, clock=lambda: snapshot.at or datetime.now(UTC))
    lines = page.text().decode().splitlines()
    told = [line for line in lines if not line.startswith("#") and not line.endswith(" 0.0") and "_bucket{" not in line]
    return "\n".join(["```text", *told, "```"])


def unit_of(row: Row) -> str:
    """What its numbers count, from its name where that tells it."""
    name = row.name.removesuffix("_total")
    if row.unit or name.endswith("_info"):
        return row.unit or "1"
    return next(unit for end, unit in UNITS.items() if name.endswith(end))


def alerts_block() -> str:
    """Every alert: how urgent, when it fires, what it says in both languages."""
    document = yaml.safe_load((ROOT / "dashboards" / "prometheus" / "gpuwatch-alerts.rules.yml").read_text("utf-8"))
    lines = ["| Alert / 告警 | Severity / 级别 | Fires after / 触发 | It says | 内容 |", "|---|---|---|---|---|"]
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        name, told, after = rule["alert"], rule["annotations"], rule.get("for", "at once / 立即")
        says, says_zh = (cell(_TEMPLATE.sub("…", told[key])) for key in ("summary", "summary_zh"))
        lines.append(f"| [{name}](#{name.lower()}) | {rule['labels']['severity']} | {after} | {says} | {says_zh} |")
    return "\n".join(lines)


def labels_of(row: Row) -> str:
    """Its labels."""
    return ", ".join(f"`{label}`" for label in row.labels) or "–"


def diagnosis_block(language: Language) -> str:
    """What `gpuwatch diagnose` prints of a recorded log, the first failure of it."""
    before = current()
    printed = io.StringIO()
    try:
        with chdir(ROOT), redirect_stdout(printed):
            cli.main(["diagnose", "--lang", language, SHOWN_LOG])
    finally:
        use(before)
    first = printed.getvalue().partition("\n\n")[0]
    lines = [line.rstrip() for line in first.splitlines()]
    return "\n".join([f"```console\n$ gpuwatch diagnose {SHOWN_LOG}", *lines, "...", "```"])


def dashboards() -> dict[Path, str]:
    """The picture of each dashboard."""
    from pictures import pictures  # noqa: PLC0415 - only for them

    with shipped_rules_only():
        return {DOCS / "dashboards" / name: content for name, content in pictures().items()}


def screens() -> dict[Path, str]:
    """The screen's pages in each language; those that are named after the word, where some are."""
    from screen_pictures import screens as pictures_of  # noqa: PLC0415 - only for them

    with shipped_rules_only():
        return pictures_of(sys.argv[2:])


if __name__ == "__main__":
    main()
