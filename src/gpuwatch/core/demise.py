"""A server that goes away while it works: killed, crashed or stopped, and its jobs with it. It leaves no farewell over its API.

It is told where a job ran when the server went, and another process answers later, or nobody does for a minute; a connection
that only broke is none. Where a log told meanwhile what ended it (the kernel's out-of-memory killer, a crash), that is the
failure, and nothing is added.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import QueueState
from gpuwatch.core.rules import Label, Rule

LABEL = "server_stopped"
_GONE_AFTER = timedelta(seconds=60)
_EXPLAINS = timedelta(seconds=120)
"""How long before and after its end another failure may say why."""
_CAUSES: frozenset[Label] = frozenset({
    "host_oom_killed", "segfault", "gpu_lost", "boot_failed", "port_in_use", "server_stopped", "gpu_hang_intel", "amdgpu_hang",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Away:
    """A server that does not answer."""

    since: datetime
    queue: QueueState
    """As it was last seen; a job ran."""


@dataclass(slots=True)
class Demise:
    """Which servers went away at work."""

    _queues: dict[str, QueueState] = field(default_factory=dict)
    _away: dict[str, _Away] = field(default_factory=dict)
    _told: dict[str, Incident] = field(default_factory=dict)
    """By server, the incident while nobody answers there."""
    _explained_at: datetime | None = None

    def queue(self, state: QueueState) -> None:
        """The server answers; one that was away and did not begin anew only could not be reached."""
        self._queues[state.server] = state
        self._away.pop(state.server, None)

    def failed(self, incident: Incident) -> None:
        """Another failure was told, which may say why a server ended."""
        if incident.fresh and incident.label in _CAUSES:
            self._explained_at = incident.last_at

    def down(self, server: str, at: datetime) -> None:
        """The server does not answer any more."""
        queue = self._queues.pop(server, None)
        if queue is not None and queue.running:
            self._away[server] = _Away(at, queue)

    def restarted(self, server: str, at: datetime, rule: Rule | None) -> list[Incident]:
        """Another process answers; what is to be told of the one before."""
        if (told := self._told.pop(server, None)) is not None:
            return [replace(told, state="cleared", last_at=at)]
        away = self._away.pop(server, None)
        if away is None or rule is None or self._explained(away.since, at):
            return []
        told = _gone(server, away, at, rule, back=True)
        return [told, replace(told, state="cleared")]

    def tick(self, at: datetime, rule: Rule | None) -> list[Incident]:
        """Time passed; servers that nobody has seen for a minute."""
        found: list[Incident] = []
        for server, away in list(self._away.items()):
            if at - away.since < _GONE_AFTER:
                continue
            del self._away[server]
            if rule is not None and not self._explained(away.since, at):
                self._told[server] = told = _gone(server, away, at, rule, back=False)
                found.append(told)
        return found

    def answers(self, server: str, at: datetime) -> list[Incident]:
        """It answers again, the same process or not: that nobody does is over."""
        told = self._told.pop(server, None)
        return [] if told is None else [replace(told, state="cleared", last_at=at)]

    def _explained(self, since: datetime, at: datetime) -> bool:
        told = self._explained_at
        return told is not None and since - _EXPLAINS <= told <= at


def _gone(server: str, away: _Away, at: datetime, rule: Rule, *, back: bool) -> Incident:
    queue, seconds = away.queue, (at - away.since).total_seconds()
    after = f"another process answered {seconds:.0f} s later" if back else f"nobody has answered for {seconds:.0f} s"
    return Incident(
        id=hashlib.blake2s(f"{server}\0{rule.id}\0{away.since.isoformat()}".encode(), digest_size=5).hexdigest(),
        source=server,
        rule=rule,
        label=rule.label,
        state="open",
        line=0,
        text=f"the server went away while {queue.running} ran and {queue.pending} waited; {after}",
        first_at=away.since,
        last_at=at,
        facts={"running_count": queue.running, "pending_count": queue.pending, "away_seconds": seconds},
    )
