"""The newest trace of a run, summed up for the runner's page: read once, on a thread beside the screen, where it is not long.

A trace of gigabytes is the trace verb's: here its name and the command stand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuwatch.errors import GpuwatchError
from gpuwatch.texts import Text, text

if TYPE_CHECKING:  # what reads traces is loaded once there is one
    from gpuwatch.core.traces.summary import Summary

LONGEST_BYTES = 8 << 20
"""Of a file that is read here, packed or not: a few hundred thousand events, which take seconds."""
_ENDINGS = (".json", ".json.gz")


@dataclass(frozen=True, slots=True)
class Traced:
    """A trace, and what is known of it so far."""

    path: str
    summary: Summary | None = None
    trouble: Text | None = None
    """Why there is no summary, or why it is not of all of it."""

    @property
    def under_way(self) -> bool:
        """Whether it is still read."""
        return self.summary is None and self.trouble is None


class TraceDesk:
    """Reads the trace that the page shows. Its methods are for the screen's thread."""

    def __init__(self, changed: Callable[[], object]) -> None:
        self._changed = changed
        self._latest: Traced | None = None

    def of(self, report: Mapping[str, Any]) -> Traced | None:
        """The report's newest trace; begins to read it where it is another one than before. None where it has none."""
        path = newest_trace(report)
        if path is None:
            return None
        if self._latest is None or self._latest.path != path:
            self._latest = Traced(path)
            threading.Thread(target=self._read, args=(path,), name="trace", daemon=True).start()
        return self._latest

    def _read(self, path: str) -> None:
        told = read(path)
        if self._latest is not None and self._latest.path == path:
            self._latest = told
            self._changed()


def newest_trace(report: Mapping[str, Any]) -> str | None:
    """The last profiler's trace that a run wrote; snapshots of the allocator are none."""
    named = report.get("trace_files")
    traces = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    return next((name for name in reversed(traces) if name.endswith(_ENDINGS)), None)


def read(path: str) -> Traced:
    """Sum the file up, or say why not."""
    from gpuwatch.adapters.traces.reading import read_trace  # noqa: PLC0415 - as above
    from gpuwatch.core.traces.summary import summarise  # noqa: PLC0415 - as above
    from gpuwatch.core.traces.trace import Trace  # noqa: PLC0415 - as above

    try:
        size_bytes = Path(path).stat().st_size
        if size_bytes > LONGEST_BYTES:
            return Traced(path, trouble=text("It is {size_bytes} long; this reads it:", size_bytes=size_bytes))
        found = read_trace(Path(path))
        return Traced(path, summarise(found.trace or Trace()), found.damage.message if found.damage else None)
    except GpuwatchError as error:
        return Traced(path, trouble=error.message)
    except OSError as error:
        return Traced(path, trouble=text("It cannot be read: {why}.", why=error.strerror or str(error)))
    except Exception as error:  # noqa: BLE001 - a trace that nobody foresaw must not leave the page waiting
        return Traced(path, trouble=text("stopped by an error: {error}", error=repr(error)))
