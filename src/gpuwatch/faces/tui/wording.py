"""What the panes add to the shared words: a tone for each, the names of facts, times and places.

They are kept as `Text` and rendered late: the language may change while the screen stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from gpuwatch.core.diagnosis import Fits, Safety
from gpuwatch.core.incidents import Incident, IncidentState
from gpuwatch.core.observations import FixOutcome
from gpuwatch.core.rules import Severity
from gpuwatch.faces import wording as words
from gpuwatch.faces.tui.themes import Tone
from gpuwatch.texts import Text, render, show, text, visible

SEVERITY_SIGN: Mapping[Severity, tuple[str, Tone]] = {
    "info": (words.SEVERITY_SIGN["info"], "info"),
    "warning": (words.SEVERITY_SIGN["warning"], "warning"),
    "error": (words.SEVERITY_SIGN["error"], "error"),
    "critical": (words.SEVERITY_SIGN["critical"], "critical"),
}
SEVERITY: Mapping[Severity, Text] = {
    "info": text("info"),
    "warning": text("warning"),
    "error": text("error"),
    "critical": text("critical"),
}
STATE: Mapping[IncidentState, Text] = {**words.STATE, "settled": text("unsolved")}
"""The engine calls a failure settled whose lines have all come. On a screen at night that would sound as if it were mended."""
OUTCOME: Mapping[FixOutcome, Text] = {
    "applied": text("fix applied"),
    "held": text("the fix held"),
    "failed": text("the fix did not help"),
}
FITS: Mapping[Fits, tuple[str, Text, Tone]] = {
    "yes": ("✓", words.FITS["yes"], "good"),
    "no": ("✗", words.FITS["no"], "error"),
    "uncertain": ("?", words.FITS["uncertain"], "warning"),
}
SAFETY: Mapping[Safety, tuple[Text, Tone]] = {
    "safe": (words.SAFETY["safe"], "good"),
    "restarts": (words.SAFETY["restarts"], "warning"),
    "changes_output": (words.SAFETY["changes_output"], "info"),
}
FACT: Mapping[str, Text] = {
    "tried_bytes": text("asked for"),
    "free_bytes": text("free on the card"),
    "total_bytes": text("the card has"),
    "allocated_bytes": text("PyTorch tensors"),
    "reserved_bytes": text("PyTorch reserved"),
    "reserved_unallocated_bytes": text("PyTorch idle"),
    "process_in_use_bytes": text("this process holds"),
    "other_process_bytes": text("another process holds"),
    "limit_bytes": text("memory limit"),
    "gpu_index": text("GPU index"),
    "exception_type": text("exception"),
    "pid": text("process id"),
    "port": text("port"),
    "path": text("path"),
    "name": text("name"),
    "command": text("command"),
    "input": text("input"),
    "device": text("device"),
    "code": text("code"),
    "steps": text("steps"),
    "tensor_shape": text("tensor shape"),
    "node_type": text("node type"),
    "node_id": text("node"),
    "cached_bytes": text("cached by the allocator"),
    "pool_bytes": text("private pools"),
    "other_allocations_bytes": text("other allocations"),
    "allowed_bytes": text("allowed"),
    "max_allowed_bytes": text("allowed at most"),
    "required_bytes": text("needed"),
    "pci": text("PCI address"),
    "xids": text("Xid codes"),
    "nvml_library_version": text("driver library"),
    "kernel_module_version": text("kernel module"),
}
_LIVE_FOR = timedelta(seconds=10)


def fact_name(name: str) -> str:
    """What a fact is called; its own name without underscores and unit where nothing better is known."""
    if name in FACT:
        return render(FACT[name])
    stem, _, unit = name.rpartition("_")
    units = {"bytes", "seconds", "ratio", "celsius", "watts", "px", "index"}
    return visible((stem if stem and unit in units else name).replace("_", " "))


def fact_value(name: str, value: Any) -> str:
    """A fact's value as a person reads it."""
    if isinstance(value, list | tuple):
        return visible(", ".join(str(part) for part in value))
    return visible(show(name, value))


def said(told: Text | str | None) -> str:
    """A text in the language in use, safe to draw; other programs' words may be among its values."""
    return "" if told is None else visible(render(told))


def unsolved(incident: Incident) -> bool:
    """Whether it wants somebody: it is not over, no fix of it held, and nobody muted it."""
    return incident.active and incident.fix_outcome != "held" and not incident.muted


def beside(told: str, more: Text) -> str:
    """Two words of a state, as the language puts them beside each other."""
    return render(text("{told}, {more}", told=told, more=more))


def state_of(incident: Incident) -> str:
    """An incident's state in words, the outcome of a fix with it."""
    told = render(STATE[incident.state])
    if incident.fix_outcome == "held":
        told = "✓ " + render(OUTCOME["held"])
    elif incident.fix_outcome is not None:
        told = beside(told, OUTCOME[incident.fix_outcome])
    if incident.muted:
        told = beside(told, words.MUTED)
    return told


def state_tone(incident: Incident) -> Tone:
    """An incident that is over is good news and quiet."""
    if incident.fix_outcome == "held":
        return "good"
    return "dim" if not unsolved(incident) else "strong" if incident.state == "open" else "text"


def clock(at: datetime, now: datetime | None) -> str:
    """The local time of day; the date too where it was another day."""
    local = at.astimezone()
    if now is not None and local.date() != now.astimezone().date():
        return local.strftime("%m-%d %H:%M")
    return local.strftime("%H:%M:%S")


def is_live(last_at: datetime | None, now: datetime | None) -> bool:
    """Whether something was heard a moment ago."""
    return last_at is not None and now is not None and now - last_at < _LIVE_FOR


def node_of(incident: Incident) -> str:
    """What failed, as far as it is known: the node, else the pack its traceback ran through."""
    return visible(incident.node.type or incident.node.pack or "")
