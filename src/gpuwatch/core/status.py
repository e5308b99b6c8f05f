"""How the parts that do the watching do: each source, our own runner, the files that a person changes, the loop itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from gpuwatch.core.observations import SourceKind
from gpuwatch.core.reloads import MutesRefused, RulesRefused
from gpuwatch.texts import Text

SourceState = Literal["up", "ended", "failed"]


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source and how it does."""

    name: str
    kind: SourceKind
    state: SourceState = "up"
    reason: Text | None = None
    records: int = 0
    bar: str = ""
    """The open progress bar of its log."""
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """Our own runner's latest run."""

    stage: str
    done: int = 0
    images: int = 0
    failed: int = 0
    device: str | None = None
    report: Mapping[str, Any] | None = None
    error: Text | None = None


@dataclass(frozen=True, slots=True)
class Reload:
    """How it went when a person's files were read anew."""

    at: datetime
    refused: Text | None = None
    """Why what stands in the files now is not in force; None where it is."""
    succeeded_at: datetime | None = None
    """When it went well last; None before it did for the first time since the start."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the loop itself does."""

    busy_seconds: float = 0.0
    """Spent reading, matching and diagnosing since the start."""
    observations: int = 0
    waiting: int = 0
    """Observations in the queue when the loop last looked."""
    most_waiting: int = 0
    """How many the queue holds; sources wait while it is full, and nothing is dropped."""
    rule_seconds: Mapping[str, float] = field(default_factory=dict)
    """Spent in rules' patterns, by rule, in the order in which they were first tried."""


def refused(before: Reload | None, event: RulesRefused | MutesRefused) -> Reload:
    """What is known once a change was refused."""
    return Reload(event.at, event.reason, before.succeeded_at if before is not None else None)


def run_after(run: RunStatus | None, event: Mapping[str, Any]) -> RunStatus:
    """The runner's status after one of its events."""
    match event.get("event"):
        case "started":
            return RunStatus("started", images=int(event.get("images") or 0), device=event.get("device"))
        case "stage":
            return replace(run or RunStatus(""), stage=str(event.get("stage")))
        case "image":
            return replace(run or RunStatus(""), stage="images", done=int(event.get("done") or 0))
        case "failed":
            run = run or RunStatus("")
            return replace(run, failed=run.failed + 1)
        case "report":
            return replace(run or RunStatus(""), stage="done", report=dict(event))
        case "error":
            message = event.get("message")
            return replace(run or RunStatus(""), stage="error", error=message if isinstance(message, Text) else None)
        case _:
            return run or RunStatus("")
