"""The file that a run leaves: whole after every case, whatever interrupts the next one."""

from __future__ import annotations

import gzip
import json
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import PROTOCOL, Case
from gpuwatch.adapters.whole_file import write_whole


class Results:
    """What a run has measured so far, on disk as it grows."""

    def __init__(self, folder: Path, machine: dict[str, Any], budget_seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        started = datetime.now(UTC)
        name = re.sub(r"[^a-z0-9]+", "-", str(machine["device"]).lower()).strip("-")
        self.path = folder / f"{name}-{started:%Y%m%dT%H%M%SZ}.json"
        self._content: dict[str, Any] = {
            "protocol": PROTOCOL,
            "date": started.isoformat(timespec="seconds"),
            **machine,
            "python": platform.python_version(),
            "kernel": platform.release(),
            "budget_seconds": budget_seconds,
            "elapsed_seconds": 0.0,
            "complete": False,
            "cases": [],
        }

    def add(self, case: Case, outcome: dict[str, Any], elapsed_seconds: float) -> None:
        """Keep a case's outcome; long lists of events go to a file beside."""
        events = outcome.get("result", {}).pop("events", None)
        if events is not None:
            outcome["result"]["events_file"] = self._keep_events(case, events)
        self._content["cases"].append({"case": case.as_json(), **outcome})
        self._content["elapsed_seconds"] = round(elapsed_seconds, 1)
        self._write()

    def finish(self, elapsed_seconds: float, not_started: list[Case]) -> None:
        """Say that the run came to its end, and what it had no time for."""
        self._content["elapsed_seconds"] = round(elapsed_seconds, 1)
        self._content["complete"] = not not_started
        self._content["not_started"] = [case.as_json() for case in not_started]
        self._write()

    def _keep_events(self, case: Case, events: dict[str, Any]) -> str:
        path = self.path.with_name(f"{self.path.stem}-{case.variant}-{case.size_px}-{case.dtype}-events.json.gz")
        # No time stamp in the archive: the same events are the same bytes.
        write_whole(path, gzip.compress(json.dumps(events, separators=(",", ":")).encode(), mtime=0))
        return path.name

    def _write(self) -> None:
        write_whole(self.path, (json.dumps(self._content, indent=1) + "\n").encode())
