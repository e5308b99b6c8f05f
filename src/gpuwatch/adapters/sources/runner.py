"""Our own runner as a source: its events as they come, and what it says on stderr as a log of its own.

A real out-of-memory error of the runner thus goes through the same rules as ComfyUI's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.runner_process import RunnerProcess
from gpuwatch.adapters.sources import Emit
from gpuwatch.core.observations import LogChunk, RunEvent, SourceKind
from gpuwatch.errors import GpuwatchError
from gpuwatch.texts import Text, text


class RunnerSource:
    """Runs `gpuwatch_runner` once with the given arguments."""

    kind: SourceKind = "runner"
    name = "runner"

    def __init__(self, arguments: Sequence[str], *, clock: Callable[[], datetime] = utc_now) -> None:
        self._arguments = list(arguments)
        self._clock = clock

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Run the child to its end; told to stop, end it."""

        def narrate(line: str) -> None:
            emit(LogChunk(self._clock(), self.name, f"{line}\n".encode(), self.kind))

        with RunnerProcess(self._arguments, narrate) as child:
            waiter = threading.Thread(target=self._end_when_stopped, args=(child, stop), daemon=True)
            waiter.start()
            try:
                for event in child:
                    emit(RunEvent(self._clock(), event))
            except GpuwatchError as error:
                if stop.is_set():
                    return text("stopped")
                emit(RunEvent(self._clock(), {"event": "error", "message": error.message}))
                raise
        return text("the run is over")

    def _end_when_stopped(self, child: RunnerProcess, stop: threading.Event) -> None:
        while child.exit_code is None:
            if stop.wait(0.2):
                child.close()
                return
