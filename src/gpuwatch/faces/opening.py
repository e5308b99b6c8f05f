"""What a watch has beside its sources: the engine with its rules, the journal, who is told of failures, the metrics page.

Without a screen all of it stands before the first line is read. The screen is drawn first and has it opened behind itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuwatch.adapters.rule_watch import RuleWatch
from gpuwatch.adapters.sources import Source
from gpuwatch.faces.journaling import Books, open_journal
from gpuwatch.faces.narration import Narrate
from gpuwatch.faces.notifying import Desk, keep_desk
from gpuwatch.faces.watching import make_engine
from gpuwatch.pipeline import Pipeline

if TYPE_CHECKING:
    from gpuwatch.faces.exporter import Exporter


@dataclass(frozen=True, slots=True)
class Opened:
    """A watch, ready to start."""

    pipeline: Pipeline
    books: Books | None
    desk: Desk
    metrics_address: str | None


@contextmanager
def open_watch(
    sources: Sequence[Source],
    arguments: argparse.Namespace,
    say: Narrate,
    show_ahead: Callable[[Pipeline], None] | None = None,
) -> Iterator[Opened]:
    """A watch over the sources, until the end of the block. `show_ahead`: shows what is read before the rules are ready."""
    with ExitStack() as opened:
        pipeline = Pipeline(None, sources, attendants=[RuleWatch(arguments.rules)])
        books = opened.enter_context(open_journal(arguments, say))
        if show_ahead is not None:
            opened.callback(pipeline.stop)
            show_ahead(pipeline)
        pipeline.bring(make_engine(arguments, shows_records=False))
        if books is not None:
            books.keep(pipeline)
        desk = opened.enter_context(keep_desk(arguments, pipeline, say))
        exporter = open_exporter(arguments, pipeline, desk)
        if exporter is not None:
            opened.callback(exporter.close)
        yield Opened(pipeline, books, desk, exporter.address if exporter is not None else None)


def open_exporter(arguments: argparse.Namespace, pipeline: Pipeline, desk: Desk) -> Exporter | None:
    """The metrics page, where one is wanted."""
    if not arguments.listen:
        return None
    from gpuwatch.faces.exporter import Exporter  # noqa: PLC0415 - it brings the metrics library, which few runs need

    workloads = pipeline.engine.workloads.ids
    rules = pipeline.engine.rules
    return Exporter(lambda: pipeline.snapshot, rules, *arguments.listen, workloads=workloads, notified=desk.counts)
