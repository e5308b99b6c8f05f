"""A gpuwatch that follows a log and keeps a journal, and waits for a word before each commit: so it can be killed anywhere."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from gpuwatch.adapters.journal.writing import Journal
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.sources.file import FileSource
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, FailureCounted, PlaceReached
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.pipeline import Pipeline


def main() -> None:
    log, path = Path(sys.argv[1]), Path(sys.argv[2])
    journal = Journal(path, lambda words: print(f"said {words}", flush=True))
    source = FileSource.from_path(str(log), from_start=len(sys.argv) > 3, show_history=False, places=journal)
    engine = Engine(load_rules(), shows_records=False, before_lines=5)
    engine.counted_before.update(journal.counted_before())
    pipeline = Pipeline(engine, [source])

    def keep(events: Sequence[Event], snapshot: Snapshot) -> None:
        matters = any(isinstance(event, FailureCounted | PlaceReached) for event in events)
        if matters:
            step("before")
        journal(events, snapshot)
        if matters:
            step("after")

    def step(where: str) -> None:
        os.write(1, f"{where}\n".encode())  # in one piece: other threads speak too
        sys.stdin.readline()

    pipeline.keep_with(keep)
    pipeline.start()
    threading.Event().wait()


main()
