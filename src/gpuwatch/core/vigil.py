"""What stands in no line of a log and is seen all the same: a dead worker, a server that went away, a job that crawls.

Each is an incident by the rule that has its label; a person's own rule may stand in for the shipped one, and none means silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from gpuwatch.core import demise, slowness, worker
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import QueueState
from gpuwatch.core.rules import Rule


@dataclass(slots=True)
class Vigil:
    """Looks at queues, bars and silence. What it gives is told, and counted where it is active."""

    rule_of: Callable[[str], Rule | None]
    """Gives the rule in force with a label."""
    workers: worker.Workers = field(init=False)
    _demise: demise.Demise = field(default_factory=demise.Demise)
    _paces: dict[str, slowness.Slowness] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workers = worker.Workers(lambda: self.rule_of(worker.LABEL))

    def queue(self, state: QueueState) -> Iterator[Incident]:
        """A server's queue; what a dead worker means is for `workers` to say."""
        yield from self._demise.answers(state.server, state.at)
        self._demise.queue(state)

    def away(self, server: str, at: datetime, *, failed: bool) -> None:
        """A source ended, or does not answer."""
        self.workers.away(server)
        if failed:
            self._demise.down(server, at)

    def restarted(self, server: str, at: datetime) -> Iterator[Incident]:
        """Another process writes a server's log: what the one before did is over, and may be told only now."""
        pace = self._paces.pop(server, None)
        for over in (self.workers.restarted(server, at), pace.over(at) if pace is not None else None):
            if over is not None:
                yield over
        yield from self._demise.restarted(server, at, self.rule_of(demise.LABEL))

    def tick(self, at: datetime) -> list[Incident]:
        """Time passed."""
        return self._demise.tick(at, self.rule_of(demise.LABEL))

    def bar(self, source: str, frame: bytes, at: datetime, room: Callable[[], slowness.Room | None]) -> Incident | None:
        """A log's progress bar moved on. `room` tells how full its card is."""
        pace = self._paces.get(source)
        if pace is not None and pace.frame == frame:
            return None
        rule = self.rule_of(slowness.LABEL)
        if rule is None:
            return None
        return self._paces.setdefault(source, slowness.Slowness(source)).see(frame, at, room, rule)

    def told(self, incident: Incident) -> None:
        """A log told an incident: it may explain what is seen, or say it already."""
        self._demise.failed(incident)
        if incident.worker_dead:
            self.workers.told_by_log(incident)
