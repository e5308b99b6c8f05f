"""An incident: one failure, from the line that tells it to the moment that health returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from gpuwatch.core.diagnosis import Diagnosis
from gpuwatch.core.mutes import Mute
from gpuwatch.core.observations import FixOutcome
from gpuwatch.core.rules import Label, Rule, Severity
from gpuwatch.texts import Text

IncidentState = Literal["open", "settled", "recovered", "cleared"]


@dataclass(frozen=True, slots=True)
class Node:
    """The ComfyUI node that failed, as far as it is known."""

    id: str | None = None
    type: str | None = None
    pack: str | None = None
    """The folder in custom_nodes that the traceback ran through last."""
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a Python traceback."""

    file: str
    line: int
    function: str | None


@dataclass(frozen=True, slots=True)
class Incident:
    """One failure. The same id comes again, changed, as facts arrive, as it settles and as it clears."""

    id: str
    source: str
    rule: Rule
    label: Label
    state: IncidentState
    line: int
    """1-based line of the record that told it first."""
    text: str
    """That record, decoded, without escape codes."""
    first_at: datetime
    last_at: datetime
    count: int = 1
    """How often the same failure came in a row; failures, not lines."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    node: Node = field(default_factory=Node)
    frames: tuple[Frame, ...] = ()
    excerpt: tuple[str, ...] = ()
    """The lines that belong to it, the first few dozen."""
    job_id: str | None = None
    fix_outcome: FixOutcome | None = None
    fresh: bool = True
    """False for what stood in the log before we came."""
    diagnosis: Diagnosis | None = None
    also_in: tuple[str, ...] = ()
    """Other sources that tell the same failure: a server's log file beside its API."""
    before: tuple[str, ...] = ()
    """The lines before it, where they are wanted."""
    members: tuple[str, ...] = ()
    """Ids of the incidents that it is made of, the first few dozen; none for one that a log's line told."""
    worker_dead: bool = False
    """Whether the thread that runs prompts ended with it: the server takes prompts and runs none, until it is restarted."""
    boot: int = 0
    """How often its log had said by then that the server starts: failures of one process have the same."""
    mute: Mute | None = None
    """The person's word that this one is not to be spoken of."""

    @property
    def severity(self) -> Severity:
        """The rule's severity."""
        return self.rule.severity

    @property
    def title(self) -> Text:
        """The rule's title."""
        return self.rule.title

    @property
    def active(self) -> bool:
        """Whether the condition still stands: told, and neither recovered nor cleared. A muted one stands too."""
        return self.state in {"open", "settled"}

    @property
    def muted(self) -> bool:
        """Whether the person does not want to hear of it."""
        return self.mute is not None
