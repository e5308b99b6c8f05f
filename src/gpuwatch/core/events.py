"""What follows from observations, for whoever keeps a picture: the engine's findings, and the observations that need none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from gpuwatch.core.incidents import Incident
from gpuwatch.core.learned.runs import RunMeasured
from gpuwatch.core.observations import SourceKind, Told
from gpuwatch.core.reloads import Change
from gpuwatch.core.rules import Label, Severity

if TYPE_CHECKING:  # what is told of a log is mostly counts
    from gpuwatch.core.records import LogRecord


@dataclass(frozen=True, slots=True)
class RecordsRead:
    """A log was read a little further."""

    at: datetime
    source: str
    kind: SourceKind
    records: tuple[LogRecord, ...]
    """To be shown; none from an engine that is told that nobody looks."""
    lines: int
    """Lines read: newlines, and the last line where it has none."""
    matched: int
    bar: bytes
    """The open progress bar's last frame."""


@dataclass(frozen=True, slots=True)
class PlaceReached:
    """All that a log tells up to here has been told: whoever begins here later misses nothing and tells nothing twice."""

    at: datetime
    source: str
    kind: SourceKind
    place: str
    """In the source's own words."""
    line: int
    epoch: int


@dataclass(frozen=True, slots=True)
class IncidentChanged:
    """An incident was opened or changed; the same id comes again."""

    at: datetime
    incident: Incident


@dataclass(frozen=True, slots=True)
class FailureCounted:
    """So many failures of one label, each counted once, when its label is certain."""

    at: datetime
    incident_id: str
    label: Label
    severity: Severity
    failures: int
    fresh: bool
    muted: bool = False


@dataclass(frozen=True, slots=True)
class RulesQuarantined:
    """Rules whose patterns took too long and were set aside; of mutes, their places."""

    at: datetime
    rule_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class PeakCompared:
    """What a server's job held on the card, beside what was known of its kind before it ran."""

    at: datetime
    workload: str | None
    """The id of the workload profile that its nodes mean."""
    peak_bytes: int
    predicted_bytes: int | None = None
    """The high end: by its trace, or by those of its kind; None where neither tells."""


Event = (
    RecordsRead
    | PlaceReached
    | IncidentChanged
    | FailureCounted
    | RulesQuarantined
    | RunMeasured
    | PeakCompared
    | Told
    | Change
)
"""What happened: the engine's own findings, the observations that need no finding, new rules and mutes."""
