"""Workload files -> `Workloads`: what each network needs of the card, as `rules/workloads/*.yaml` has it.

Apart from the rules because nothing of it is matched against a log; mistakes are reported the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpuwatch.adapters.located import (
    Located,
    Problem,
    bilingual,
    check_keys,
    raise_problems,
    read_documents,
    shown_path,
)
from gpuwatch.core.workload import Band, MemoryCurve, Variant, WorkloadProfile, Workloads
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import text


def load_workloads() -> Workloads:
    """The shipped workload profiles."""
    problems: list[Problem] = []
    profiles: list[WorkloadProfile] = []
    for path in sorted((shipped_folder("rules") / "workloads").glob("*.yaml")):
        try:
            profiles.extend(workload_from(document) for document in read_documents(path, shown_path(path)))
        except Problem as problem:
            problems.append(problem)
    raise_problems(problems)
    return Workloads(tuple(profiles))


def workload_from(document: Located) -> WorkloadProfile:
    """Make a workload profile of a document. Raises `Problem` at the first mistake."""
    entry = document.mapping()
    whole = (
        "min_px",
        "max_px",
        "step_px",
        "default_px",
        "smallest_traced_px",
        "largest_working_px",
        "peak_per_px_bytes",
        "workspace_bytes",
    )
    words = ("id", "title", "size_input", "checkpoint_input")
    check_keys(
        document,
        entry,
        required=(*words, *whole, "node_types", "packs", "reserved_ratio", "context_bytes", "variants", "source"),
    )
    values: dict[str, Any] = {name: entry[name].string() for name in words}
    values |= {name: entry[name].whole(0, 1 << 40) for name in whole}
    return WorkloadProfile(
        **values,
        source=bilingual(entry["source"]),
        node_types=strings(entry["node_types"]),
        packs=strings(entry["packs"]),
        reserved_ratio=band(entry["reserved_ratio"], float),
        context_bytes=band(entry["context_bytes"], float),
        variants={name: variant(name, item) for name, item in entry["variants"].mapping().items()},
    )


def strings(item: Located) -> tuple[str, ...]:
    """A list of strings."""
    return tuple(each.string() for each in item.items())


def band(item: Located, convert: Callable[[float], float]) -> Band:
    """A quantity as {low, mid, high}."""
    entry = item.mapping()
    check_keys(item, entry, required=("low", "mid", "high"))
    low, mid, high = (convert(entry[name].number()) for name in ("low", "mid", "high"))
    if not low <= mid <= high:
        raise item.problem(text("low, mid and high must ascend."))
    return Band(low, mid, high)


def variant(name: str, item: Located) -> Variant:
    """One network of a workload."""
    entry = item.mapping()
    check_keys(item, entry, required=("checkpoints", "curves"))
    curves = {}
    for dtype, curve in entry["curves"].mapping().items():
        parts = curve.mapping()
        check_keys(curve, parts, required=("fixed_bytes", "per_px_bytes"))
        curves[dtype] = MemoryCurve(parts["fixed_bytes"].number(), parts["per_px_bytes"].number())
    return Variant(name, strings(entry["checkpoints"]), curves)
