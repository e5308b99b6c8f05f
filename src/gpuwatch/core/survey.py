"""What surrounds a failure besides its log: the cards as the driver tells them, the machine's memory, the servers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from gpuwatch.core.cards import card_of
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import GpuSample, HostSample, ServerSeen
from gpuwatch.core.rules import MEMORY_LABELS
from gpuwatch.core.slowness import Room

_SAMPLES_KEPT = 240


@dataclass(slots=True)
class Survey:
    """The newest of each, and of the cards the last few minutes."""

    servers: dict[str, ServerSeen] = field(default_factory=dict)
    _samples: dict[str, deque[GpuSample]] = field(default_factory=dict)
    _host: HostSample | None = None
    _told_totals: dict[str, int] = field(default_factory=dict)
    """By source, the card's size in bytes as a failure told it last."""

    def take(self, told: GpuSample | HostSample | ServerSeen) -> None:
        """Keep what was told."""
        match told:
            case GpuSample():
                self._samples.setdefault(told.uuid, deque(maxlen=_SAMPLES_KEPT)).append(told)
            case HostSample():
                self._host = told
            case ServerSeen():
                self.servers[told.server] = told

    def failed(self, incident: Incident) -> None:
        """Keep what a failure tells of its card."""
        if incident.label in MEMORY_LABELS and (total := incident.facts.get("total_bytes")):
            self._told_totals[incident.source] = total

    def told_total_bytes(self, source: str) -> int | None:
        """The card's size as the last failure of this log that told one did."""
        return self._told_totals.get(source)

    def server_of(self, *sources: str) -> ServerSeen | None:
        """The server that is one of these sources; the only one there is, where they are files or pipes."""
        for source in sources:
            if source in self.servers:
                return self.servers[source]
        return next(iter(self.servers.values())) if len(self.servers) == 1 else None

    def host_of(self, incident: Incident, server: ServerSeen | None) -> HostSample | None:
        """The memory of the machine that an incident was on; None where that is another, or it was before we came."""
        return self._host if incident.fresh and (server is None or server.local is not False) else None

    def card_near(self, incident: Incident, server: ServerSeen | None) -> GpuSample | None:
        """The driver's word on the failed card, nearest in time; only where there is no doubt which card it is."""
        if not incident.fresh or not self._samples:
            return None
        card = card_of(self._newest(), incident.facts, server)
        samples = self._samples[card.uuid] if card is not None else ()
        return min(samples, key=lambda sample: abs(sample.at - incident.first_at), default=None)

    def room_of(self, source: str) -> Room | None:
        """How full the card of a log's program is: as the driver says, else as its server does; None where neither is sure."""
        server = self.server_of(source)
        card = card_of(self._newest(), {}, server)
        if card is not None and card.used_bytes is not None and card.total_bytes:
            return Room(card.used_bytes, card.total_bytes)
        if server is not None and server.total_bytes and server.free_bytes is not None:
            return Room(server.total_bytes - server.free_bytes, server.total_bytes)
        return None

    def _newest(self) -> list[GpuSample]:
        return [samples[-1] for samples in self._samples.values()]
