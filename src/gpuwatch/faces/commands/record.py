"""Record what sources tell, with its times, to be played again: a session to show, to test with, or to hand on.

Examples:
  gpuwatch record session.jsonl.gz http://127.0.0.1:8188
  gpuwatch record session.jsonl.gz comfyui.log kernel
  gpuwatch replay session.jsonl.gz

Failures are printed as they come. It ends with Ctrl-C, or when every source has ended; the file appears then, whole. Tokens,
home paths, user and host names that can be recognised are taken out, and it is said what was; read it before you hand it on.
"""

from __future__ import annotations

import argparse
import platform
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from gpuwatch.adapters.recording import Entry, write_recording
from gpuwatch.adapters.sources import Emit, Source
from gpuwatch.adapters.whole_file import beside, mode_of
from gpuwatch.core.observations import LogChunk, Observation, SourceKind, Tick
from gpuwatch.core.reloads import Change
from gpuwatch.core.scrub import Scrubber
from gpuwatch.errors import UsageError, unwritable
from gpuwatch.faces.commands.incident import own_names
from gpuwatch.faces.options import add_gpu_memory, add_json, add_rules, add_sources
from gpuwatch.faces.printing import Printer
from gpuwatch.faces.sourcing import headers_of, named_sources
from gpuwatch.faces.watching import (
    machine_sources,
    make_engine,
    stop_on_signals,
)
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text, render, text, visible
from gpuwatch.texts import translate as _

_LOOK_UP_SECONDS = 0.1
_LONGEST_HALF_BYTES = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help=_("where to write it; packed where the name ends in .gz")
    )
    add_sources(parser)
    add_json(parser)
    add_gpu_memory(parser)
    add_rules(parser)


def run(arguments: argparse.Namespace) -> int:
    """Record until the sources end or someone says stop."""
    path: Path = arguments.file
    if path.exists():
        raise UsageError(text("{path}: is there already.", path=str(path)), text("Name another file."))
    if not path.parent.is_dir():
        raise UsageError(text("{folder} is no folder.", folder=str(path.parent)), text("Name another file."))
    sources = named_sources(
        arguments.sources, from_start=arguments.from_start, show_history=True, headers=headers_of(arguments)
    )
    ending = [Ending(source) for source in sources]
    pipeline = Pipeline(make_engine(arguments, shows_records=False), [*ending, *machine_sources()])
    scrub = Scrubber(users=own_names(), hosts=[platform.node(), platform.node().partition(".")[0]])
    recorder = Recorder(scrub)
    pipeline.overhear(recorder)
    printer = Printer(as_json=arguments.json)
    pipeline.subscribe(printer)
    stop = threading.Event()
    with put_in_place(path) as part:
        with stop_on_signals(stop):
            writer = threading.Thread(target=recorder.write_to, args=(part, path), name="recording")
            writer.start()
            try:
                pipeline.start()
                while not stop.wait(_LOOK_UP_SECONDS) and recorder.error is None:
                    pipeline.wait(0)
                    if all(source.ended.is_set() for source in ending):
                        break
            finally:  # the writer waits for an end, and the process for the writer
                pipeline.stop()
                recorder.end()
                writer.join()
            printer.flush()
        if recorder.error is not None:
            raise recorder.error
    what = ", ".join(f"{count} × {kind}" for kind, count in sorted(scrub.taken.items())) or "0"
    told = text("{path}: {count} observations. Taken out: {what}.", path=str(path), count=recorder.count, what=what)
    print(visible(render(told)), file=sys.stderr)
    return 0


@contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """A file beside, which takes the path at the end and is taken away where the block raises.

    Raises UsageError where the folder cannot be written.
    """
    try:
        with beside(path, b"") as part:
            yield part
            part.chmod(mode_of(path))
            part.replace(path)
    except OSError as error:
        raise unwritable(path, error, text("Name another file.")) from error


class Ending:
    """A source of which it is known when it has ended: the machine's own never do."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name = source.name
        self.kind: SourceKind = source.kind
        self.ended = threading.Event()

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Run it to its end."""
        try:
            return self._source.run(emit, stop)
        finally:
            self.ended.set()


class Recorder:
    """Takes observations from the pipeline and hands them to the file, scrubbed, in their order."""

    def __init__(self, scrub: Scrubber) -> None:
        self.count = 0
        self.error: UsageError | None = None
        self._scrub = scrub
        self._waiting: list[Entry] = []
        self._changed = threading.Condition()
        self._ended = False
        self._began: datetime | None = None
        self._latest_seconds = 0.0
        self._halves: dict[str, LogChunk] = {}
        """Half lines, so that no secret is cut in two and missed."""

    def __call__(self, observations: Sequence[Observation | Change]) -> None:
        """Take what the pipeline is about to read."""
        with self._changed:
            for observation in observations:
                if isinstance(observation, Observation) and not isinstance(observation, Tick):
                    self._take(observation)
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more comes."""
        with self._changed:
            for source in list(self._halves):
                self._put(self._halves.pop(source))
            self._ended = True
            self._changed.notify_all()

    def write_to(self, part: Path, path: Path) -> None:
        """Write until the end what will stand at `path`; an error is kept for whoever asks."""
        try:
            write_recording(part, self._entries(), stands_for=path)
        except UsageError as error:
            self.error = error

    def _take(self, observation: Observation) -> None:
        source = getattr(observation, "source", "")
        half = self._halves.pop(source, None)
        if not isinstance(observation, LogChunk):
            if half is not None:
                self._put(half)
            self._put(observation)
            return
        if half is not None and half.fresh != observation.fresh:
            self._put(half)
            half = None
        data = (half.data if half is not None else b"") + observation.data
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if len(data) - end > _LONGEST_HALF_BYTES:
            end = len(data)
        if data[end:]:
            self._halves[source] = replace(observation, data=data[end:])
        if end:
            self._put(replace(observation, data=data[:end]))

    def _put(self, observation: Observation) -> None:
        self._began = self._began or observation.at
        seconds = (observation.at - self._began).total_seconds()
        self._latest_seconds = max(self._latest_seconds, seconds)  # clocks may be set back
        self._waiting.append((round(self._latest_seconds, 6), self.scrubbed(observation)))
        self.count += 1

    def _entries(self) -> Any:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                entries, self._waiting = self._waiting, []
                if not entries:
                    return
            yield from entries

    def scrubbed(self, observation: Observation) -> Observation:
        """The observation without what identifies; a log's bytes keep their cuts."""
        changed: dict[str, Any] = {}
        for field in fields(observation):
            value = getattr(observation, field.name)
            if isinstance(value, bytes):
                changed[field.name] = self._scrub(value.decode("utf-8", "surrogateescape")).encode(
                    "utf-8", "surrogateescape"
                )
            elif isinstance(value, Text):
                changed[field.name] = replace(value, values=cast("dict[str, Any]", self._scrub.value(_words(value))))
            elif isinstance(value, str):
                changed[field.name] = self._scrub(value)
            elif isinstance(value, tuple) and all(isinstance(each, str) for each in value):
                changed[field.name] = tuple(self._scrub(each) for each in value)
            elif isinstance(value, dict):
                changed[field.name] = self._scrub.value(value)
        if isinstance(observation, LogChunk):
            changed |= {"place": None, "scan": None}
        return replace(observation, **changed)


def _words(words: Text) -> dict[str, Any]:
    return {name: render(value) if isinstance(value, Text) else value for name, value in words.values.items()}
