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
from itertools import groupby
from pathlib import Path

import yaml

from gpuwatch.adapters.recording import read_recording
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.rules import LABELS, Correlate, Rule, RuleFix, RuleSet
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.workload import predict
from gpuwatch.faces import cli
from gpuwatch.faces.exporter import METRICS, Page, Row
from gpuwatch.faces.exporter.pushgateway import RUN_METRICS
from gpuwatch.settings import VARIABLE
from gpuwatch.texts import Language, Text, current, render, show_seconds, use

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
READMES: dict[Language, Path] = {"en": ROOT / "README.md", "zh": ROOT / "README.zh-CN.md"}
SHOWN_LOG = "tests/data/recordings/comfyui-0.24.0-oom_large_1280-stderr.log"
FORMULAS = {
    ("large", "fp32"): (934.6, 3291.0), ("large", "amp16"): (1308.2, 1702.5), ("large", "fp16"): (467.3, 1645.5),
    ("tiny", "fp32"): (258.2, 3246.0), ("tiny", "amp16"): (310.7, 1657.5), ("tiny", "fp16"): (129.1, 1623.0),
}  # fmt: skip
"""Live MiB and bytes a pixel, from tracing the official network apart from this program."""
MEMORY_SIZES = (512, 1024, 1280, 1536)
CLAIMS = (
    ({"en": "1280 on an RTX 3060: 11.8 GB", "zh": "RTX 3060 上 1280：11.8 GB"}, "large", 1280, 11.8),
    ({"en": "960: 8.5 GB", "zh": "960：8.5 GB"}, "large", 960, 8.5),
    (
        {"en": "720: 5.2 GB (720 cannot run; 704 can)", "zh": "720：5.2 GB（720 不能运行，704 可以）"},
        "large", 704, 5.2,
    ),
    ({"en": "480: 3.1 GB", "zh": "480：3.1 GB"}, "large", 480, 3.1),
)  # fmt: skip
"""What was said in public, the network and size that it must mean, and how many GB."""
MEMORY_WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "heading": "Predicted and measured",
        "introduction": "GiB; native allocator, one image, no rewrite. *Formula*: a straight line through another trace of "
        "the official network, made apart from this program. Live is without cuBLAS' workspace, for comparing; the rest is "
        "with it.",
        "columns": "| Network | Precision | Size | Live | Formula | Off by | Allocated | Reserved | Smallest budget | "
        "On a GPU |",
        "not yet": "not yet",
        "rewrites": "The rewrites at 1280, fp32",
        "rewrites' columns": "| Network | Rewrite | Live | Allocated | Reserved | Smallest budget | Most is alive in |",
        "claims": "What was claimed elsewhere",
        "claims' columns": "| Claim | Predicted here | |",
        "claim": "{variant} at {side}: {allocated:.2f} GiB allocated, {low:.1f} to {high:.1f} in the process",
        "ratio": "claim / allocated = {ratio:.1f}",
    },
    "zh": {
        "heading": "预测与实测",
        "introduction": "单位 GiB；原生分配器，一张图，不改写。*公式*：官方网络的另一份跟踪所得的直线，与本程序无关。为便于"
        "比较，“存活”不含 cuBLAS 的工作区，其余各列都含。",
        "columns": "| 网络 | 精度 | 尺寸 | 存活 | 公式 | 偏差 | 已分配 | 已保留 | 最小预算 | GPU 实测 |",
        "not yet": "尚无",
        "rewrites": "1280、fp32 下的各种改写",
        "rewrites' columns": "| 网络 | 改写 | 存活 | 已分配 | 已保留 | 最小预算 | 占用最多处 |",
        "claims": "别处的说法",
        "claims' columns": "| 说法 | 此处预测 | |",
        "claim": "{variant}，{side}：分配 {allocated:.2f} GiB，整个进程 {low:.1f} 到 {high:.1f}",
        "ratio": "说法 / 已分配 = {ratio:.1f}",
    },
}
"""The words of the memory tables."""
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
FAMILIES = {
    "cuda-memory": "CUDA memory / CUDA 显存",
    "cuda-faults": "CUDA kernels and libraries / CUDA 内核与库",
    "cuda-setup": "Driver, CUDA and PyTorch set-up / 驱动、CUDA 与 PyTorch 环境",
    "other-memory": "Memory of other cards and runtimes / 其他显卡与运行时的显存",
    "nvidia-kernel": "NVIDIA driver in the kernel log / 内核日志里的 NVIDIA 驱动",
    "amd-intel": "AMD and Intel / AMD 与 Intel",
    "host": "The machine: RAM, disk, processes / 机器：内存、磁盘、进程",
    "comfyui": "ComfyUI / ComfyUI",
    "models": "Model files and downloads / 模型文件与下载",
    "correlations": "Failures that mean something together / 合在一起才有意义的故障",
    "numerics": "Numbers, types and devices / 数值、类型与设备",
}


def main() -> None:
    """Write the pages, the screens or the pictures of the dashboards."""
    written = {"": pages, "screens": screens, "dashboards": dashboards}["".join(sys.argv[1:2])]()
    for path, content in written.items():
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
    yield DOCS / "rules.md", "rules", rules_block(load_rules())
    yield DOCS / "metrics.md", "metrics", metrics_block()
    yield DOCS / "metrics.md", "run metrics", run_metrics_block()
    yield DOCS / "metrics.md", "page", page_block()
    yield DOCS / "runbooks.md", "alerts", alerts_block()
    yield DOCS / "memory.md", "memory", memory_block("en")
    yield DOCS / "memory.zh-CN.md", "memory", memory_block("zh")
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


def rules_block(rules: RuleSet) -> str:
    """Every rule: an overview, the labels, then each in full."""
    return "\n".join([*overview(rules), *labels(rules), *details(rules)])


def family_of(rule: Rule) -> str:
    """The stem of the rule's file."""
    return Path(rule.where.rpartition(":")[0]).stem


def overview(rules: RuleSet) -> Iterator[str]:
    """A line a rule."""
    yield f"## All {len(rules.every)} rules / 全部 {len(rules.every)} 条规则\n"
    yield "| Rule / 规则 | Severity / 级别 | What it is | 含义 |\n|---|---|---|---|"
    for rule in rules.every:
        yield f"| [{rule.id}](#{rule.id}) | {rule.severity} | {cell(said(rule.title, 'en'))} | {cell(said(rule.title, 'zh'))} |"


def labels(rules: RuleSet) -> Iterator[str]:
    """The labels, and which rules tell them."""
    yield "\n## Labels / 标签\n"
    yield "A closed set: each is also a value of the metrics' `label`. / 封闭集合，也是指标中 `label` 的取值。\n"
    yield "| Label / 标签 | Rules / 规则 |\n|---|---|"
    for label in LABELS:
        telling = [rule.id for rule in rules.every if label == rule.label or label in rule.refine.values()]
        yield f"| `{label}` | {', '.join(f'[{name}](#{name})' for name in telling) or '–'} |"


def details(rules: RuleSet) -> Iterator[str]:
    """Each rule in full, under the heading of its file."""
    for family, members in groupby(rules.every, key=family_of):
        yield f"\n## {FAMILIES.get(family, family)}\n"
        yield f"[rules/{family}.yaml](../rules/{family}.yaml)"
        for rule in members:
            yield from detail(rule)


def detail(rule: Rule) -> Iterator[str]:
    """One rule: what it is called, what it means, what helps."""
    yield f"\n### {rule.id}\n"
    yield f"**{prose(said(rule.title, 'en'))} / {prose(said(rule.title, 'zh'))}** · `{rule.label}` · {rule.severity}\n"
    yield prose(said(rule.why, "en")) + "\n"
    yield prose(said(rule.why, "zh")) + "\n"
    if rule.correlate is not None:
        yield f"{together(rule.correlate, 'en')} / {together(rule.correlate, 'zh')}\n"
    for label in rule.refine.values():
        yield f"Where its numbers show fragmentation it is `{label}`. / 数值表明是碎片问题时，标签为 `{label}`。\n"
    if rule.fixes:
        yield "What helps / 解决办法：\n"
        yield from (f"- {helps(fix)}" for fix in rule.fixes)
        yield ""
    if rule.references:
        yield "References / 参考：" + "，".join(f"<{reference}>" for reference in rule.references)


def together(wants: Correlate, language: Language) -> str:
    """Which failures mean something together, in a sentence."""
    english = language == "en"

    def one_of(names: frozenset[str]) -> str:
        return (" or " if english else " 或 ").join(f"`{name}`" for name in sorted(names))

    within = show_seconds(wants.within_seconds)
    if wants.all_of:
        each = [one_of(names) for names in wants.all_of]
        told = f"Together within {within}: {'; '.join(each)}" if english else f"{within}内同时出现：{'；'.join(each)}"
    else:
        told = (
            f"{wants.count} of {one_of(wants.any_of)} within {within}"
            if english
            else f"{within}内出现 {wants.count} 次 {one_of(wants.any_of)}"
        )
    if wants.after:
        told += f", after {one_of(wants.after)}" if english else f"，且在 {one_of(wants.after)} 之后"
    if wants.standing:
        told += ", as long as they are not over" if english else "，且尚未解除"
    return told + ("." if english else "。")


def helps(fix: RuleFix) -> str:
    """A fix: its planner, with the rule's own words where it has some."""
    words = f"[{fix.action}](#fixes)"
    if fix.title is not None:
        words += f": {prose(said(fix.title, 'en'))} / {prose(said(fix.title, 'zh'))}"
    return words + (f" (`{fix.command}`)" if fix.command else "")


def said(words: Text, language: Language) -> str:
    """A text in one language, its places as they are written."""
    return render(words, language)


def prose(words: str) -> str:
    """Words that Markdown leaves as they are."""
    return re.sub(r"([<*\[\]])", r"\\\1", words)


def cell(words: str) -> str:
    """Words for a table."""
    return prose(words).replace("|", "\\|")


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


def memory_block(language: Language) -> str:
    """What is predicted for DDColor, beside an independent trace, what was measured, and what was claimed elsewhere."""
    profile = load_workloads().named("ddcolor")
    if profile is None:
        raise SystemExit("the profile of ddcolor is missing")
    gib = 1 << 30
    words = MEMORY_WORDS[language]
    lines = [f"## {words['heading']}\n", f"{words['introduction']}\n", *table_head(words["columns"])]
    for (variant, dtype), (fixed_mib, slope) in FORMULAS.items():
        for side in MEMORY_SIZES:
            need = predict(profile, variant, side, dtype)
            live, formula = need.live_bytes - need.workspace_bytes, fixed_mib * (1 << 20) + slope * side * side
            cells = (live, formula, need.allocated_bytes, need.reserved_bytes.mid, need.budget_bytes.mid)
            shown = [f"{count / gib:.3f}" for count in cells]
            off = f"{(live / formula - 1) * 100:+.2f} %"
            numbers = " | ".join([*shown[:2], off, *shown[2:]])
            lines.append(f"| {variant} | {dtype} | {side} | {numbers} | {words['not yet']} |")
    lines += [f"\n### {words['rewrites']}\n", *table_head(words["rewrites' columns"])]
    for variant in profile.variants:
        for rewrite in ("none", "tail", "fold"):
            need = predict(profile, variant, 1280, rewrite=rewrite)
            cells = (need.live_bytes, need.allocated_bytes, need.reserved_bytes.mid, need.budget_bytes.mid)
            shown = [f"{count / gib:.3f}" for count in cells]
            lines.append(f"| {variant} | {rewrite} | {' | '.join(shown)} | `{need.peak_step}` |")
    lines += [f"\n### {words['claims']}\n", *table_head(words["claims' columns"])]
    for claim, variant, side, gigabytes in CLAIMS:
        need = predict(profile, variant, side)
        process = need.process_bytes.scaled(1 / gib)
        here = words["claim"].format(
            variant=variant, side=side, allocated=need.allocated_bytes / gib, low=process.low, high=process.high
        )
        ratio = words["ratio"].format(ratio=gigabytes * 1e9 / need.allocated_bytes)
        lines.append(f"| {claim[language]} | {here} | {ratio} |")
    return "\n".join(lines)


def table_head(columns: str) -> list[str]:
    """The two lines that begin a table."""
    return [columns, "|" + "---|" * (columns.count("|") - 1)]


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
    sys.path.insert(0, str(DOCS))
    from pictures import pictures  # noqa: PLC0415 - only for them

    with shipped_rules_only():
        return {DOCS / "dashboards" / name: content for name, content in pictures().items()}


def screens() -> dict[Path, str]:
    """The screen's pages in each language; those that are named after the word, where some are."""
    sys.path.insert(0, str(DOCS))
    from screen_pictures import screens as pictures_of  # noqa: PLC0415 - only for them

    with shipped_rules_only():
        return pictures_of(sys.argv[2:])


if __name__ == "__main__":
    main()
