"""From a run of `make gpu` to calibration constants: `python -m benchmarks.gpu.calibration RESULT.json [--out FILE]`.

Compares each measured case with its prediction, and writes what the prediction must be corrected by: the context, the
workspace, and how far reserved bytes and budgets were off. Prints how far allocated bytes were off, which nothing corrects.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.memory.band import Band
from gpuwatch.core.workload import Need, WorkloadProfile, predict

FOLDER = Path(__file__).parents[2] / "rules" / "workloads" / "data" / "calibration"
MARGIN_RATIO = 0.01
"""A band from some cases is made this much wider, for the sizes that were not measured."""
_WORKSPACES = (8519680, 33554432)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read a result, write its calibration."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.calibration")
    parser.add_argument("result", type=Path, metavar="RESULT.json")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"default: {FOLDER.name}/<name of the result>.yaml")
    given = parser.parse_args(arguments)
    result = json.loads(given.result.read_text("utf-8"))
    profile = load_workloads().named("ddcolor")
    if profile is None or not result.get("compute_capability"):
        sys.exit(f"{given.result} is no run on a GPU")
    # What was measured before must not be corrected twice.
    profile = replace(profile, calibrations=[each for each in profile.calibrations if not each.measured])
    out = given.out or FOLDER / f"{given.result.stem}.yaml"
    out.write_text(calibration(profile, result, given.result.name), "utf-8")
    print(out)
    return 0


def calibration(profile: WorkloadProfile, result: Mapping[str, Any], name: str) -> str:
    """The YAML for a run; raises SystemExit where it measured nothing to calibrate with."""
    arch = arch_of(result)
    entries = []
    for allocator in ("native", "expandable", "async"):
        measured = [
            (case["case"], case["result"], need)
            for case in result["cases"]
            if case.get("result") and case["case"]["kind"] == "memory" and case["case"]["allocator"] == allocator
            for need in [predicted(profile, case["case"], arch)]
            if need is not None and not case["case"]["cudnn_benchmark"]
        ]
        if not measured:
            continue
        reserved = [r["stations"]["later"]["peak_reserved_bytes"] / n.reserved_bytes.mid for _, r, n in measured]
        allocated = [r["stations"]["later"]["peak_allocated_bytes"] / n.allocated_bytes - 1 for _, r, n in measured]
        context = [r["beside_allocator_bytes"] for _, r, _ in measured if r.get("beside_allocator_bytes")]
        budgets = [
            case["result"]["smallest_budget_bytes"] / need.budget_bytes.mid
            for case in result["cases"]
            if case.get("result") and case["case"]["kind"] == "budget" and case["result"].get("smallest_budget_bytes")
            for need in [predicted(profile, case["case"], arch)]
            if need is not None and case["case"]["allocator"] == allocator
        ]
        print(f"{allocator}: {len(measured)} cases; allocated off by {min(allocated):+.2%} to {max(allocated):+.2%}")
        entries.append(entry(allocator, result, context, reserved, budgets))
    if not entries:
        sys.exit(f"{name} has no case of memory")
    words = f"{result['device']}, torch {result['torch']}, {result.get('date', '')}"
    head = [
        f"# Made by `python -m benchmarks.gpu.calibration {name}`.",
        "source:",
        f"  en: {json.dumps(f'constants measured on {words}')}",
        f"  zh: {json.dumps(f'常数实测自 {words}', ensure_ascii=False)}",
        "measured: true",
        "calibrations:",
    ]
    return "\n".join([*head, *entries]) + "\n"


def arch_of(result: Mapping[str, Any]) -> str:
    """The card's architecture: `sm86` for compute capability 8.6."""
    return "sm" + str(result["compute_capability"]).replace(".", "")


def predicted(profile: WorkloadProfile, case: Mapping[str, Any], arch: str) -> Need | None:
    """What is predicted of a case; None where no trace of it is shipped.

    Autocast is left out: the protocol freezes the weights, whose casts torch then does not keep, and the trace has them kept.
    """
    if case["dtype"] == "amp16":
        return None
    try:
        return predict(
            profile,
            case["variant"],
            case["size_px"],
            case["dtype"],
            batch=case["batch"],
            rewrite=case["rewrite"],
            grad=case["grad"],
            arch=arch,
            allocator=case["allocator"],
        )
    except KeyError:
        return None


def entry(
    allocator: str,
    result: Mapping[str, Any],
    context: Sequence[float],
    reserved: Sequence[float],
    budgets: Sequence[float],
) -> str:
    """One calibration as YAML."""
    workspace = _WORKSPACES[str(result["compute_capability"]).startswith(("9.", "10."))]
    bands = {
        "workspace_bytes": Band.exactly(workspace),
        "context_bytes": spread(context, 0.02) if context else Band(314572800, 471859200, 629145600),
        "reserved_ratio": spread(reserved, MARGIN_RATIO),
        "budget_ratio": spread(budgets, MARGIN_RATIO) if budgets else Band(0.97, 1.0, 1.02),
    }
    lines = [
        f"  - arch: {arch_of(result)}",
        f"    allocator: {allocator}",
        f"    torch: '{'.'.join(str(result['torch']).split('.')[:2])}'",
    ]
    for name, band in bands.items():
        digits = 0 if name.endswith("_bytes") else 4
        low, mid, high = (f"{value:.{digits}f}" for value in (band.low, band.mid, band.high))
        lines.append(f"    {name}: {{low: {low}, mid: {mid}, high: {high}}}")
    return "\n".join(lines)


def spread(values: Iterable[float], margin: float) -> Band:
    """From the least to the most, made wider by a margin, with the median between."""
    kept = list(values)
    return Band(min(kept) * (1 - margin), median(kept), max(kept) * (1 + margin))


if __name__ == "__main__":
    sys.exit(main())
