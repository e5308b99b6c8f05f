"""Logs that another program keeps and prints on request: journald's of a unit, Docker's of a container.

They are read through their own command-line tools, as `cmd:` would, from now on or from what they still have. The tools follow
the log over restarts of the service.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.sources import Emit
from gpuwatch.adapters.sources.process import ProcessSource
from gpuwatch.core.observations import LogChunk, Observation, SourceKind
from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, text

_NAME = re.compile(r"[A-Za-z0-9_@:.\\-]{1,200}")
_SHOWN_LINES = 2000
"""How much of what was before is read where it is wanted."""


class ServiceSource:
    """What a tool prints, under the name and kind of the log that it is asked for."""

    def __init__(
        self,
        kind: SourceKind,
        name: str,
        argv: Sequence[str],
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.kind: SourceKind = kind
        self.name = name
        self._process = ProcessSource(argv, name, clock=clock)

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Read until the tool ends or `stop` is set. A tool that ends at once says why in its last words."""
        last = [b""]

        def hand_on(observation: Observation) -> bool:
            if isinstance(observation, LogChunk):
                last[0] = (last[0] + observation.data)[-400:]
                observation = LogChunk(observation.at, self.name, observation.data, self.kind, observation.fresh)
            return emit(observation)

        reason = self._process.run(hand_on, stop)
        words = last[0].decode("utf-8", "replace").strip().rpartition("\n")[2]
        if stop.is_set() or not words:
            return reason
        return text("{reason}; it said: {words}", reason=reason, words=words)


def service_source(kind: str, unit: str, *, from_start: bool) -> ServiceSource:
    """The source for `journal:UNIT` or `docker:NAME`. Raises UsageError without a name or without the tool."""
    spec = f"{kind}:{unit}"
    if not _NAME.fullmatch(unit) or unit.startswith("-"):
        raise UsageError(
            text("{spec}: names no unit or container.", spec=spec),
            text("Write journal:comfyui.service or docker:comfyui"),
        )
    lines = str(_SHOWN_LINES) if from_start else "0"
    if kind == "journal":
        tool, argv = (
            "journalctl",
            ["journalctl", "--follow", "--no-pager", "--output=cat", f"--lines={lines}", f"--unit={unit}"],
        )
        hint = text("It comes with systemd. Where the service writes a file, name that file.")
    else:
        tool, argv = "docker", ["docker", "logs", "--follow", f"--tail={lines}", unit]
        hint = text("Install Docker's command line, or pipe the log in: docker logs -f NAME 2>&1 | gpuwatch")
    if shutil.which(tool) is None:
        raise UsageError(text("{spec}: there is no command {tool} here.", spec=spec, tool=tool), hint)
    return ServiceSource("journal" if kind == "journal" else "docker", spec, argv)
