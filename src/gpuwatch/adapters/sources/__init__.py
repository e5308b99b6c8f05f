"""Where observations come from. A source is one module in this folder; `open_source` turns what a person types into one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gpuwatch.texts import Text

if TYPE_CHECKING:  # who only opens a file need not wait for them
    from gpuwatch.core.observations import Observation, SourceKind

Emit = Callable[["Observation"], bool]
"""Hands an observation on, waiting while the pipeline is busy; False once the pipeline is stopping."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an earlier run stopped reading a log."""

    place: str
    """In the source's own words."""
    line: int
    """The lines before it."""
    epoch: int


class Places(Protocol):
    """Remembers where logs were read up to."""

    def place_of(self, source: str, log: str) -> Place | None:
        """Where a source's log was read up to, by what tells this log from every other; None where that is not known."""
        ...


class Source(Protocol):
    """Something that delivers observations until it ends or is told to stop."""

    @property
    def name(self) -> str:
        """Its name on screen; unique within a pipeline."""
        ...

    @property
    def kind(self) -> SourceKind:
        """What sort of source it is: the metric's label."""
        ...

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Deliver until the source ends or `stop` is set; say why it ended. Blocks; a GpuwatchError means it failed."""
        ...


def open_source(
    spec: str,
    *,
    from_start: bool,
    show_history: bool,
    headers: Mapping[str, str] | None = None,
    places: Places | None = None,
) -> Source:
    """The source that a word on the command line means.

    `-` is standard input, `cmd:...` a child process, `http://...` a ComfyUI server that is sent `headers`, `kernel`,
    `journal:UNIT` and `docker:NAME` the logs that they name, anything else a file that is followed. `from_start` counts what
    is there already; `show_history` reads it without counting; neither starts at its end, or at the place that is known.
    """
    if spec == "-":
        from gpuwatch.adapters.sources.stdin import StdinSource  # noqa: PLC0415 - only the source that is asked for

        return StdinSource()
    if spec.startswith("cmd:"):
        from gpuwatch.adapters.sources.process import ProcessSource  # noqa: PLC0415

        return ProcessSource.from_words(spec.removeprefix("cmd:"))
    if "://" in spec:
        from gpuwatch.adapters.comfyui.address import server_of  # noqa: PLC0415
        from gpuwatch.adapters.sources.comfyui import ComfyuiSource  # noqa: PLC0415

        server = server_of(spec, headers)
        return ComfyuiSource(server, from_start=from_start, show_history=show_history, places=places)
    if spec == "kernel":
        from gpuwatch.adapters.sources.kernel import KernelSource  # noqa: PLC0415

        return KernelSource(from_start=from_start, show_history=show_history)
    kind, colon, unit = spec.partition(":")
    if colon and kind in {"journal", "docker"}:
        from gpuwatch.adapters.sources.services import service_source  # noqa: PLC0415

        return service_source(kind, unit, from_start=from_start)
    from gpuwatch.adapters.sources.file import FileSource  # noqa: PLC0415

    return FileSource.from_path(spec, from_start=from_start, show_history=show_history, places=places)
