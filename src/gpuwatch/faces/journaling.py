"""The journal on a command line: whether and where one is kept, and what is joined with the pipeline for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gpuwatch.adapters.journal.fixes import FixLedger
from gpuwatch.adapters.journal.news import JournalNews
from gpuwatch.adapters.journal.writing import BEFORE_LINES, Journal
from gpuwatch.core.observations import FixTried
from gpuwatch.faces.narration import Narrate
from gpuwatch.pipeline import Pipeline
from gpuwatch.settings import journal_path
from gpuwatch.texts import Text


@dataclass(slots=True)
class Books:
    """The journal, as this gpuwatch has it."""

    ledger: FixLedger
    journal: Journal | None
    """None where another gpuwatch keeps it, or none can be kept: then only what is tried is added."""
    say: Callable[[Text], None]
    """Where it is said what is wrong with it; may be another later, where a screen takes the terminal."""

    def keep(self, pipeline: Pipeline) -> None:
        """Have it keep what the pipeline tells, and the pipeline know what was told before and what others try."""
        if self.journal is not None:
            pipeline.engine.before_lines = BEFORE_LINES
            pipeline.engine.counted_before.update(self.journal.counted_before())
            pipeline.keep_with(self.journal)
        pipeline.keep_with(self.ledger)
        pipeline.attend(JournalNews(self.ledger, self.journal))


def open_ledger(arguments: argparse.Namespace, say: Narrate) -> FixLedger | None:
    """Where what is tried is added; None where nothing is to be kept, or nowhere."""
    path = None if arguments.no_journal else journal_path(arguments.journal)
    return None if path is None else FixLedger(path, lambda words: say(words, event="journal", level="warning"))


def unkept(_tried: FixTried) -> None:
    """Keep nothing."""


@contextmanager
def open_journal(arguments: argparse.Namespace, say: Narrate, *, incidents: bool = True) -> Iterator[Books | None]:
    """The journal, until the end of the block; None where none is wanted or has a place. Without `incidents` only fixes."""
    path = None if arguments.no_journal else journal_path(arguments.journal)
    if path is None:
        yield None
        return
    books: list[Books] = []

    def told(words: Text) -> None:
        if books:
            books[0].say(words)
        else:
            say(words, event="journal", level="warning")

    journal = Journal(path, told) if incidents else None
    books.append(
        Books(
            FixLedger(path, told),
            journal if journal is not None and journal.writes else None,
            lambda words: say(words, event="journal", level="warning"),
        )
    )
    try:
        yield books[0]
    finally:
        if journal is not None:
            journal.close()
