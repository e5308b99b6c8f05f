"""What rules.md lists: every rule, the labels and which rules tell them, each rule in full, in both languages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from gpuwatch.core.rules import LABELS, Correlate, Rule, RuleFix, RuleSet
from gpuwatch.texts import Language, Text, render, show_seconds

sys.path.insert(0, str(Path(__file__).parent))
from markdown_words import cell, prose

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


def listing(rules: RuleSet) -> str:
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
