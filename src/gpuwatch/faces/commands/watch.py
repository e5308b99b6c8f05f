"""The screen: the log, what failed, why, and what to do.

Examples:
  python main.py 2>&1 | gpuwatch                   pipe ComfyUI into it; keys work
  gpuwatch watch ComfyUI/user/comfyui.log          follow a log file
  gpuwatch watch cmd:'python main.py'              start ComfyUI and watch it
  python main.py 2>&1 | gpuwatch --plain           diagnoses as lines, no screen
  gpuwatch watch comfyui.log --notify @hook.url    and tell a webhook or a chat of failures
  gpuwatch watch comfyui.log --log-format json     the same for a log collector

What is in a file already is shown and diagnosed; only what is new is counted. Without a terminal, diagnoses are printed as
lines. Rules and mutes that change are read anew while it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from gpuwatch.adapters.heap import give_large_blocks_back
from gpuwatch.adapters.rule_watch import RuleWatch
from gpuwatch.adapters.sources import Source
from gpuwatch.adapters.sources.stdin import take_terminal
from gpuwatch.faces.journaling import Books, open_journal
from gpuwatch.faces.narration import Narrate, in_words, narrator
from gpuwatch.faces.notifying import Desk, Ringer, keep_desk
from gpuwatch.faces.options import add_bell, add_watching
from gpuwatch.faces.printing import Printer
from gpuwatch.faces.servers import mender_of
from gpuwatch.faces.watching import (
    headers_of,
    machine_sources,
    make_engine,
    named_sources,
    stop_on_signals,
)
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.faces.exporter import Exporter

_LOOK_UP_SECONDS = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_watching(parser, listen=_("serve the metrics too, for instance on 127.0.0.1:9877"))
    parser.add_argument("--plain", action="store_true", help=_("print diagnoses as lines instead of the screen"))
    parser.add_argument("--keys", action="store_true", help=_("print what every key does on the screen, and end"))
    add_bell(parser)


def run(arguments: argparse.Namespace) -> int:
    """Watch on the screen, or print where there is none."""
    if arguments.keys:
        from gpuwatch.faces.tui.keys import key_map  # noqa: PLC0415 - Textual is loaded only where there is a screen

        print(key_map())
        return 0
    as_lines = arguments.plain or as_json(arguments)
    plain = as_lines or not has_screen()
    if not as_lines and sys.stdout.isatty() and not has_signs(os.environ):
        print(_("This locale shows only ASCII: lines are printed. LC_ALL=C.UTF-8 brings the screen."), file=sys.stderr)
    pipe = None if plain or sys.stdin.isatty() else take_terminal()
    if not plain and pipe is None and not sys.stdin.isatty():
        plain = True
    sources = named_sources(
        arguments.sources,
        from_start=arguments.from_start,
        show_history=True,
        pipe=pipe,
        headers=headers_of(arguments),
        say=narrator(arguments.log_format),
    )
    with open_journal(arguments, narrator(arguments.log_format)) as books:
        return watch_with(books, sources, arguments, plain=plain)


def watch_with(
    books: Books | None,
    sources: Sequence[Source],
    arguments: argparse.Namespace,
    *,
    plain: bool,
    read_only: bool = False,
) -> int:
    """Watch, keeping a journal where there is one."""
    files = RuleWatch(arguments.rules)
    engine = make_engine(arguments, shows_records=False)
    pipeline = Pipeline(engine, [*sources, *([] if plain else machine_sources())], attendants=[files])
    if books is not None:
        books.keep(pipeline)
    with ExitStack() as opened:
        desk = opened.enter_context(keep_desk(arguments, pipeline, narrator(arguments.log_format)))
        exporter = open_exporter(arguments, pipeline, desk)
        if exporter is not None:
            opened.callback(exporter.close)
        if plain:
            if sys.stderr.isatty():
                desk.ring = Ringer(ring_plainly, bell=arguments.bell, desktop=arguments.desktop)
            return print_until_end(pipeline, as_json=as_json(arguments), say=narrator(arguments.log_format))
        give_large_blocks_back()
        from gpuwatch.faces.tui.app import WatchApp  # noqa: PLC0415 - Textual reads keys from fd 0, which is set only now
        from gpuwatch.faces.tui.mend import servers_of  # noqa: PLC0415 - as above
        from gpuwatch.faces.tui.remembered import screen_file  # noqa: PLC0415 - as above

        app = WatchApp(
            pipeline,
            metrics_address=exporter.address if exporter else None,
            remembers=screen_file(),
            language_asked=any(word.startswith("--lang") for word in sys.argv),
            menders={name: partial(mender_of, server, arguments) for name, server in servers_of(sources).items()},
            read_only=read_only,
        )
        if books is not None:
            books.say = unsaid  # the screen is Textual's
        desk.say, desk.ring = app.say, Ringer(app.ring, bell=arguments.bell, desktop=arguments.desktop)
        try:
            app.run()
        finally:
            desk.say, desk.ring = in_words, None
        return app.return_code or 0


def open_exporter(arguments: argparse.Namespace, pipeline: Pipeline, desk: Desk) -> Exporter | None:
    """The metrics page, where one is wanted."""
    if not arguments.listen:
        return None
    from gpuwatch.faces.exporter import Exporter  # noqa: PLC0415 - it brings the metrics library, which few runs need

    workloads = pipeline.engine.workloads.ids
    rules = pipeline.engine.rules
    return Exporter(lambda: pipeline.snapshot, rules, *arguments.listen, workloads=workloads, notified=desk.counts)


def ring_plainly(signal: str) -> None:
    """Ring where no screen is drawn."""
    print(signal, end="", file=sys.stderr, flush=True)


def unsaid(_words: Text) -> None:
    """Say nothing."""


def has_screen() -> bool:
    """Whether a screen can be drawn here."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in {"", "dumb"} and has_signs(os.environ)


def has_signs(environment: Mapping[str, str]) -> bool:
    """Whether the locale can show more than ASCII. One that is not named is taken to: most containers name none."""
    named = next((environment[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "UTF-8")
    return "UTF-8" in named.upper() or "UTF8" in named.upper()


def as_json(arguments: argparse.Namespace) -> bool:
    """Whether failures are printed as JSON."""
    return bool(arguments.json or arguments.log_format == "json")


def print_until_end(pipeline: Pipeline, *, as_json: bool, say: Narrate = in_words) -> int:
    """Print failures until every source has ended or someone says stop."""
    printer = Printer(as_json=as_json, say=say)
    pipeline.subscribe(printer)
    stop = threading.Event()
    with stop_on_signals(stop):
        pipeline.start()
        while not pipeline.wait(_LOOK_UP_SECONDS) and not stop.is_set() and not printer.closed.is_set():
            pass
        pipeline.stop()
        printer.flush()
    if printer.closed.is_set():
        raise BrokenPipeError
    return 0
