"""What `diagnose` makes of one input: its failures, kept in bounded memory, as JSON and as a page."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, FailureCounted, IncidentChanged, RecordsRead
from gpuwatch.core.observations import LogChunk
from gpuwatch.texts import render, text

if TYPE_CHECKING:
    from typing import Any

    from gpuwatch.adapters.scanning import Piece
    from gpuwatch.core.incidents import Incident
    from gpuwatch.core.matching.matcher import Matcher
    from gpuwatch.core.mutes import Mutes

MOST_LISTED = 10_000


class Told:
    """What one input told so far."""

    def __init__(self, source: str, matcher: Matcher, mutes: Mutes, gpu_memory: int | None) -> None:
        self._source = source
        self._engine = Engine(
            matcher.rules, load_workloads(), gpu_memory, shows_records=False, mutes=mutes, ready=matcher
        )
        self._size_bytes = 0
        self._records = 0
        self._incidents: dict[str, Incident] = {}
        self._unlisted = 0
        """Failures of the incidents beyond MOST_LISTED."""
        self.failures = 0
        """Incidents above info that are not muted."""

    def read(self, piece: Piece) -> None:
        """Take the next bytes."""
        scan, data = (None, piece) if isinstance(piece, bytes) else (piece, b"")
        self._size_bytes += len(data) if scan is None else scan.size_bytes
        self._take(self._engine.feed(LogChunk(utc_now(), self._source, data, scan=scan)))

    def end(self) -> None:
        """Nothing more will come."""
        self._take(self._engine.end(utc_now()))

    def as_json(self) -> str:
        """One line, as `diagnose --json` prints it."""
        from gpuwatch.faces.report import incident_json, json_line  # noqa: PLC0415 - at the end

        value: dict[str, Any] = {
            "source": self._source,
            "bytes": self._size_bytes,
            "records": self._records,
            "incidents": [incident_json(incident) for incident in self._incidents.values()],
        }
        if self._unlisted:
            value["truncated"] = self._unlisted
        return json_line(value)

    def show(self, *, headed: bool) -> None:
        """Print it for a person."""
        if not headed and not self._incidents:
            print(self._nothing())  # rich, which prints pages, takes longer to load than a short log to be read
            return
        from gpuwatch.faces.report import console_for, print_incident  # noqa: PLC0415

        console = console_for(sys.stdout)
        if headed:
            console.print(self._source, style="bold underline")
        for incident in self._incidents.values():
            print_incident(console, incident)
            console.print()
        if self._unlisted:
            console.print(render(text("{failures} more failures are not listed.", failures=self._unlisted)))
        muted = sum(incident.muted for incident in self._incidents.values())
        if muted:
            console.print(render(text("{count} muted; `gpuwatch rules mutes` lists why.", count=muted)), style="dim")
        if not self._incidents:
            console.print(self._nothing())

    def _nothing(self) -> str:
        return render(
            text(
                "No failure found in {size_bytes} ({records} lines).",
                size_bytes=self._size_bytes,
                records=self._records,
            )
        )

    def _take(self, events: list[Event]) -> None:
        """Keep what the events tell, in bounded memory."""
        for event in events:
            if isinstance(event, RecordsRead):
                self._records += event.lines
            elif isinstance(event, IncidentChanged):
                incident = event.incident
                if incident.id in self._incidents or len(self._incidents) < MOST_LISTED:
                    # Neither the page nor the JSON shows its lines, and of thousands they are most of the memory.
                    self._incidents[incident.id] = replace(incident, excerpt=(), frames=())
            elif isinstance(event, FailureCounted):
                self.failures += event.severity != "info" and not event.muted
                if event.incident_id not in self._incidents:
                    self._unlisted += event.failures
