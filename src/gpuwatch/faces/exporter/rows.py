"""What a metric is: one row, with its name, its meaning and how its samples are read out of what is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from gpuwatch.core.rules import RuleSet
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.tallies import Histogram
from gpuwatch.faces.exporter.repeating import PushOutcome, Way

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True)
class Serving:
    """What the server of the page knows of itself."""

    refused: int = 0
    """Connections sent away because too many were open."""
    unauthorized: int = 0
    config_taken: bool | None = None
    """Whether the web configuration as it is now is in force; None where there is none."""


@dataclass(frozen=True, slots=True)
class View:
    """Everything that a row may look at."""

    snapshot: Snapshot
    rules: RuleSet
    workloads: tuple[str, ...]
    """The ids of the workload profiles."""
    now: datetime
    serving: Serving = field(default_factory=Serving)
    pushes: Mapping[tuple[Way, PushOutcome], int] = field(default_factory=dict)
    """What left without being asked for, and how that went."""
    notified: Mapping[str, int] = field(default_factory=dict)
    """What became of notices, by outcome."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """The one event that raised a counter last."""

    incident_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Value:
    """One sample."""

    labels: tuple[str, ...]
    value: float | Histogram
    exemplar: Exemplar | None = None


Samples = Iterable[Value]


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: its name, what it means, its labels, and its samples."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[View], Samples]
    kind: Kind = "gauge"
    unit: str = ""
    """What the numbers count, where the name does not end in a unit."""


def at_zero(count: int | None) -> float:
    """A count that has not been seen."""
    return float(count or 0)
