"""What a failure that never leaves its process does afterwards: it ends the worker thread too, and is told a second time.

After an illegal access ComfyUI synchronizes with the card outside any handler, seconds later. That raises the same error in the
thread that runs prompts, and Python prints the thread's end as a traceback of its own. One failure, whose words the second
time say that the worker is dead.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import TypeVar

from gpuwatch.core.incidents import Incident
from gpuwatch.core.rules import Label
from gpuwatch.core.worker import begins_as_dead_worker, tells_of_dead_worker

POISONS: frozenset[Label] = frozenset({
    "illegal_memory_access", "misaligned_address", "illegal_instruction", "device_side_assert", "launch_failure",
})  # fmt: skip
"""After these a process's GPU context is broken, and whatever it does with the card raises again."""
_MOST = 1000
_Value = TypeVar("_Value")


@dataclass(slots=True)
class Aftermath:
    """Knows which failures of each log broke the process, and which incidents only tell of their consequence."""

    _standing: dict[tuple[str, bool], Incident] = field(default_factory=dict)
    """By source, and whether it happened since we came: the last failure that broke the process, also once it is over: what is
    read at once was all told already."""
    _told: OrderedDict[str, bool] = field(default_factory=OrderedDict)
    """By the id of an incident that was told for itself, whether it ended the worker."""
    _of: OrderedDict[str, str] = field(default_factory=OrderedDict)
    """By the id of an incident that tells of the consequence, that of the failure."""

    def first_of(self, incident: Incident) -> Incident | None:
        """The incident, with its worker dead where it ended that; of one that is another's aftermath that other one, and None
        where that was said."""
        if incident.id in self._of:
            return None
        key = incident.source, incident.fresh
        first = self._standing.get(key)
        new = incident.id not in self._told
        if first is not None and new and _follows(first, incident):
            _keep(self._of, incident.id, first.id)
            return self._dies(first)
        dead = self._told.get(incident.id, False) or tells_of_dead_worker(incident)
        _keep(self._told, incident.id, dead)
        if dead:
            incident = replace(incident, worker_dead=True)
        if incident.label in POISONS and (new or (first is not None and first.id == incident.id)):
            self._standing[key] = incident
        return incident

    def died(self, source: str) -> Incident | None:
        """The failure that a dead worker of this server is the aftermath of; None where none stands."""
        first = self._standing.get((source, True))
        return self._dies(first) if first is not None and first.active else None

    def is_told(self, incident_id: str) -> bool:
        """Whether this only tells of what another one did."""
        return incident_id in self._of

    def _dies(self, first: Incident) -> Incident:
        _keep(self._told, first.id, True)
        dead = self._standing[first.source, first.fresh] = replace(first, worker_dead=True)
        return dead


def _follows(first: Incident, incident: Incident) -> bool:
    """Whether what is told now can only be what the first did: the thread's end, or the same error when no prompt fails any more.

    What begins as a failure of its own stays one, though the thread ends with it.
    """
    if incident.boot != first.boot:
        return False
    return begins_as_dead_worker(incident) or (first.worker_dead and incident.label == first.label)


def _keep(known: OrderedDict[str, _Value], name: str, value: _Value) -> None:
    known[name] = value
    if len(known) > _MOST:
        known.popitem(last=False)
