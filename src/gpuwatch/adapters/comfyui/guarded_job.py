"""What a guard knows of a job: what it says of it, and what is under way for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeGuard

from gpuwatch.adapters.comfyui.mending import Proposal, Refusal
from gpuwatch.core.loop.broken import only_a_restart_helps
from gpuwatch.texts import Text, text


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that the guard did, saw or left."""

    event: str
    server: str
    words: Text
    job: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Way:
    """A prompt of ours that has not ended yet."""

    proposal: Proposal
    first_id: str
    """The job that failed first."""
    incident_id: str
    missing: int = 0
    lost: int = 0
    unsure: bool = False
    """Whether it is not known that the server took it."""
    told: bool = False
    """Whether it was told that the fix was applied."""
    late: list[str] = field(default_factory=list)
    """Ids under which it was queued before and did not arrive; it may still."""


@dataclass(slots=True)
class Waiting:
    """A job whose end is to be looked at."""

    id: str
    asked: int = 0
    missing: int = 0


def found_memory(found: Proposal | Refusal) -> bool:
    """Whether the job ran out of GPU memory."""
    return isinstance(found, Proposal) or found.of_memory


def lacks_something(found: Proposal | Refusal, way: Way) -> TypeGuard[Refusal]:
    """Whether the node that took another's place failed at something else than memory, and the server goes on."""
    switched = way.proposal.retry.action == "switch_node"
    return switched and isinstance(found, Refusal) and not only_a_restart_helps(found.incident)


def what_changes(proposal: Proposal) -> Text:
    """The change in one line."""
    retry = proposal.retry
    if retry.frees:
        return text("the same prompt, once memory is freed.")
    told = ", ".join(f"{change.input} {change.before} -> {change.after}" for change in retry.plan.changes)
    peak = retry.plan.peak_bytes
    if peak is None:
        return text("{changes}; whether that is enough is not known.", changes=told)
    return text("{changes}, predicted to need at most {need_bytes}.", changes=told, need_bytes=peak)
