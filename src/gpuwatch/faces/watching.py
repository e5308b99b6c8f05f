"""What `watch`, `serve`, `record` and `guard` share: the engine that a command line means, this machine's own sources, the end."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gpuwatch.adapters.journal.runs import read_learned
from gpuwatch.adapters.mutes import own_mutes
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.sources import Source
from gpuwatch.adapters.sources.drm import DrmSource, computes_here
from gpuwatch.adapters.sources.host import HostSource
from gpuwatch.adapters.sources.nvml import NvmlSource
from gpuwatch.adapters.tried_file import TriedFile
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.learned.runs import Learned
from gpuwatch.faces.ending import ending_signals
from gpuwatch.settings import journal_path


def make_engine(arguments: argparse.Namespace, *, shows_records: bool) -> Engine:
    """An engine with the shipped rules, the person's own over them, and what they muted.

    Failures are looked at together where they come as they happen, not where a file is read from its start.
    """
    matcher, mutes = load_matcher(arguments.rules, lives_long=True), own_mutes()
    return Engine(
        matcher.rules,
        load_workloads(),
        arguments.gpu_memory,
        shows_records,
        correlates=not arguments.from_start,
        mutes=mutes,
        tried=TriedFile.own().tried,
        learned=learned_here(arguments),
        ready=matcher,
    )


def learned_here(arguments: argparse.Namespace) -> Learned:
    """What jobs took on this machine, as the journal has it: nothing where none is kept."""
    if getattr(arguments, "no_journal", True):
        return Learned()
    return read_learned(journal_path(arguments.journal))


def machine_sources() -> list[Source]:
    """What this machine can tell of itself. Only one that computes on AMD or Intel cards is asked for them."""
    return [NvmlSource(), *([DrmSource()] if computes_here() else []), HostSource()]


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Have SIGTERM, Ctrl-C and a hang-up set `stop` while the block runs."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
