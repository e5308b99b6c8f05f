"""Failures for the adviser's tests, made of what a message, a server and a driver can tell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.advice import diagnose
from gpuwatch.core.case import Surroundings
from gpuwatch.core.diagnosis import Diagnosis, Fix
from gpuwatch.core.incidents import Incident, Node
from gpuwatch.core.observations import GpuProcess, GpuSample, ServerSeen

AT = datetime(2026, 11, 21, tzinfo=UTC)
GIB, MIB = 1 << 30, 1 << 20
RULES, WORKLOADS = load_rules(), load_workloads()
KNOWN = Surroundings(WORKLOADS)
OLD_HINT = "If reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation."
NEW_HINT = "try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation."


def incident(
    facts: dict[str, Any], rule: str = "cuda-oom-native", words: str = "words", node: Node | None = None, **more: Any
) -> Incident:
    """A failure of one rule."""
    found = RULES.by_id[rule]
    label = more.pop("label", found.label)
    return Incident(
        "id", "log", found, label, "open", 1, words, AT, AT, facts=facts, node=node or Node(), **more
    )  # fmt: skip


def told(made: Incident, around: Surroundings = KNOWN) -> Diagnosis:
    """What is said of it."""
    return diagnose(made, around)


def fix(diagnosis: Diagnosis, action: str) -> Fix | None:
    """The first fix of that kind."""
    return next((each for each in diagnosis.fixes if each.action == action), None)


def actions(diagnosis: Diagnosis) -> list[str]:
    """The fixes' kinds, in order."""
    return [each.action for each in diagnosis.fixes]


def native(
    tried: float, free: float, total: float, allocated: float, reserved: float | None = None, **more: Any
) -> dict[str, Any]:
    """The facts of PyTorch's own message; GiB."""
    sizes = {"tried_bytes": tried, "free_bytes": free, "total_bytes": total, "allocated_bytes": allocated}
    if reserved is not None:
        sizes["reserved_bytes"] = reserved
    return {name: round(size * GIB) for name, size in sizes.items()} | more


def server(
    version: str | None = "0.24.0", *argv: str, device: str | None = None, total: float | None = None
) -> ServerSeen:
    """A ComfyUI server."""
    total_bytes = None if total is None else round(total * GIB)
    return ServerSeen(AT, "127.0.0.1:8188", version, ("main.py", *argv), device, total_bytes)


def gpu(
    total: float | None, used: float | None = None, *processes: GpuProcess, name: str = "card", **more: Any
) -> GpuSample:
    """The driver's word."""
    sizes = [None if size is None else round(size * GIB) for size in (total, used)]
    return GpuSample(AT, "GPU-1", 0, name, total_bytes=sizes[0], used_bytes=sizes[1], processes=processes, **more)
