"""The tables of memory.md: what is predicted for DDColor beside an independent trace, what was measured, what was claimed."""

from __future__ import annotations

import sys
from pathlib import Path

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.workload import predict
from gpuwatch.texts import Language

sys.path.insert(0, str(Path(__file__).parent))
from markdown_words import table_head

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


def memory_tables(language: Language) -> str:
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
