"""What `diagnose` makes of one input: its failures as JSON or as a page, kept as they will be printed, in bounded memory."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, FailureCounted, IncidentChanged, RecordsRead
from gpuwatch.core.observations import LogChunk
from gpuwatch.texts import render, text

if TYPE_CHECKING:
    from rich.console import Console

    from gpuwatch.adapters.scanning import Piece
    from gpuwatch.core.incidents import Incident
    from gpuwatch.core.matching.matcher import Matcher
    from gpuwatch.core.mutes import Mutes

MOST_LISTED = 10_000
_MANY_LISTED = 1_000


class Printed(Protocol):
    """How an input's failures are printed."""

    def incident(self, incident: Incident) -> str:
        """One of them."""
        ...

    def whole(self, told: Told) -> None:
        """Print all that the input told."""
        ...


class Told:
    """What one input told so far."""

    def __init__(self, source: str, matcher: Matcher, mutes: Mutes, gpu_memory: int | None, printed: Printed) -> None:
        self.source = source
        self.size_bytes = 0
        self.records = 0
        self._incidents: dict[str, str | bytes] = {}
        """By id, as they are printed; beyond the first thousand compressed. What they were made of would take ten times that."""
        self.muted: set[str] = set()
        """Those of them that the person does not want to hear of."""
        self.unlisted = 0
        """Failures of the incidents beyond MOST_LISTED."""
        self.failures = 0
        """Incidents above info that are not muted."""
        self._printed = printed
        self._engine = Engine(
            matcher.rules, load_workloads(), gpu_memory, shows_records=False, mutes=mutes, ready=matcher
        )

    def read(self, piece: Piece) -> None:
        """Take the next bytes."""
        scan, data = (None, piece) if isinstance(piece, bytes) else (piece, b"")
        self.size_bytes += len(data) if scan is None else scan.size_bytes
        self._take(self._engine.feed(LogChunk(utc_now(), self.source, data, scan=scan)))

    def end(self) -> None:
        """Nothing more will come: print it."""
        self._take(self._engine.end(utc_now()))
        self._printed.whole(self)

    @property
    def calm(self) -> bool:
        """Whether nothing failed."""
        return not self._incidents

    def listed(self) -> Iterator[str]:
        """They, as they are printed, in the order in which they came."""
        for words in self._incidents.values():
            yield words if isinstance(words, str) else zlib.decompress(words).decode()

    def _take(self, events: list[Event]) -> None:
        """Keep what the events tell, in bounded memory."""
        for event in events:
            if isinstance(event, RecordsRead):
                self.records += event.lines
            elif isinstance(event, IncidentChanged):
                incident = event.incident
                if incident.id in self._incidents or len(self._incidents) < MOST_LISTED:
                    words = self._printed.incident(incident)
                    many = len(self._incidents) >= _MANY_LISTED
                    self._incidents[incident.id] = zlib.compress(words.encode(), 1) if many else words
                    (self.muted.add if incident.muted else self.muted.discard)(incident.id)
            elif isinstance(event, FailureCounted):
                self.failures += event.severity != "info" and not event.muted
                if event.incident_id not in self._incidents:
                    self.unlisted += event.failures


class AsJson:
    """One line for each input."""

    def incident(self, incident: Incident) -> str:
        """See `Printed`."""
        from gpuwatch.faces.report import incident_json, json_line  # noqa: PLC0415 - where there is a failure

        return json_line(incident_json(incident))

    def whole(self, told: Told) -> None:
        """See `Printed`."""
        from gpuwatch.faces.report import json_line  # noqa: PLC0415 - at the end

        head = json_line({"source": told.source, "bytes": told.size_bytes, "records": told.records})
        sys.stdout.write(f'{head[:-1]}, "incidents": [')
        for number, incident in enumerate(told.listed()):
            sys.stdout.write(f"{', ' if number else ''}{incident}")
        truncated = f', "truncated": {told.unlisted}' if told.unlisted else ""
        sys.stdout.write(f"]{truncated}}}\n")
        sys.stdout.flush()


class AsPage:
    """A page for a person. `headed`: each input stands under its name."""

    def __init__(self, *, headed: bool) -> None:
        self._headed = headed

    @cached_property
    def _console(self) -> Console:
        from gpuwatch.faces.report import console_for  # noqa: PLC0415 - rich takes longer to load than a short log to be read

        return console_for(sys.stdout)

    def incident(self, incident: Incident) -> str:
        """See `Printed`."""
        from gpuwatch.faces.report import print_incident  # noqa: PLC0415 - where there is a failure

        with self._console.capture() as captured:
            print_incident(self._console, incident)
            self._console.print()
        return captured.get()

    def whole(self, told: Told) -> None:
        """See `Printed`."""
        if not self._headed and told.calm:
            print(_nothing(told))
            return
        console = self._console
        if self._headed:
            console.print(told.source, style="bold underline")
        for incident in told.listed():
            console.file.write(incident)
        if told.unlisted:
            console.print(render(text("{failures} more failures are not listed.", failures=told.unlisted)))
        if told.muted:
            muted = text("{count} muted; `gpuwatch rules mutes` lists why.", count=len(told.muted))
            console.print(render(muted), style="dim")
        if told.calm:
            console.print(_nothing(told))


def _nothing(told: Told) -> str:
    return render(
        text("No failure found in {size_bytes} ({records} lines).", size_bytes=told.size_bytes, records=told.records)
    )
