"""What `watch`, `serve` and `demo` share: the sources that a command line means, and incidents printed as they come."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from gpuwatch.adapters.comfyui.address import read_headers, read_token, without_credentials
from gpuwatch.adapters.discovery import discovered
from gpuwatch.adapters.journal.runs import read_learned
from gpuwatch.adapters.mutes import own_mutes
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.sources import Places, Source, open_source
from gpuwatch.adapters.sources.drm import DrmSource, computes_here
from gpuwatch.adapters.sources.host import HostSource
from gpuwatch.adapters.sources.nvml import NvmlSource
from gpuwatch.adapters.sources.stdin import StdinSource
from gpuwatch.adapters.tried_file import TriedFile
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.learned.runs import Learned
from gpuwatch.errors import UsageError
from gpuwatch.faces.narration import Narrate, in_words
from gpuwatch.settings import journal_path
from gpuwatch.texts import render, text


def headers_of(arguments: argparse.Namespace) -> dict[str, str]:
    """What is sent to servers to say who we are."""
    headers = read_headers(arguments.header_file) if arguments.header_file else {}
    return headers | (read_token(arguments.token_file) if arguments.token_file else {})


def make_engine(arguments: argparse.Namespace, *, shows_records: bool) -> Engine:
    """An engine with the shipped rules, the person's own over them, and what they muted.

    Failures are looked at together where they come as they happen, not where a file is read from its start.
    """
    matcher, mutes = load_matcher(arguments.rules), own_mutes()
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


def named_sources(
    specs: Sequence[str],
    *,
    from_start: bool,
    show_history: bool,
    pipe: int | None = None,
    headers: Mapping[str, str] | None = None,
    places: Places | None = None,
    say: Narrate = in_words,
) -> list[Source]:
    """The sources that were named, each under a name of its own, and the machine's own. Raises UsageError for none."""
    piped = pipe is not None or not sys.stdin.isatty()
    if not specs:
        specs = ["-"] if piped else [found_source(say)]
    if len(set(specs)) < len(specs):
        twice = next(spec for spec in specs if specs.count(spec) > 1)
        raise UsageError(text("{spec} is named twice.", spec=without_credentials(twice)))
    opened: list[Source] = [
        StdinSource(pipe)
        if spec == "-"
        else open_source(spec, from_start=from_start, show_history=show_history, headers=headers, places=places)
        for spec in specs
    ]
    names = [source.name for source in opened]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(
            text("two sources are called {name}.", name=twice),
            text("Watch them one by one, or link one under another name."),
        )
    return opened


def found_source(say: Narrate = in_words) -> str:
    """The one source that this machine has. Raises UsageError where there is none, or where there is a choice."""
    found = discovered()
    if not found:
        raise UsageError(
            text(
                "nothing to watch: no source was named, nothing is piped in, and no ComfyUI was found on this machine."
            ),
            text("Try `gpuwatch watch path/to/comfyui.log`, or `python main.py 2>&1 | gpuwatch`."),
        )
    if len(found) > 1:
        commands = "\n".join(f"  gpuwatch watch {shlex.quote(each.spec)}    {render(each.what)}" for each in found)
        raise UsageError(
            text("there is more than one thing to watch; name one or several:\n{commands}", commands=commands)
        )
    told = text("found {what}: watching {spec}", what=found[0].what, spec=found[0].spec)
    say(told, event="found")
    return found[0].spec


def machine_sources() -> list[Source]:
    """What this machine can tell of itself. Only one that computes on AMD or Intel cards is asked for them."""
    return [NvmlSource(), *([DrmSource()] if computes_here() else []), HostSource()]


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Have SIGTERM and Ctrl-C set `stop` while the block runs."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
