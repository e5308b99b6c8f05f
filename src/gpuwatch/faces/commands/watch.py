"""The screen: the log, what failed, why, and what to do.

Examples:
  python main.py 2>&1 | gpuwatch                   pipe ComfyUI into it; keys work
  gpuwatch watch ComfyUI/user/comfyui.log          follow a log file
  gpuwatch watch cmd:'python main.py'              start ComfyUI and watch it
  python main.py 2>&1 | gpuwatch --plain           diagnoses as lines, no screen

What is in a file already is shown and diagnosed; only what is new is counted. Without a terminal, diagnoses are printed as
lines. Rules and mutes that change are read anew while it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial

from gpuwatch.adapters.heap import give_large_blocks_back
from gpuwatch.adapters.journal import Journal
from gpuwatch.adapters.rule_watch import RuleWatch
from gpuwatch.adapters.sources import Source
from gpuwatch.adapters.sources.stdin import take_terminal
from gpuwatch.faces.narration import in_words
from gpuwatch.faces.options import add_gpu_memory, add_json, add_rules, address
from gpuwatch.faces.servers import mender_of
from gpuwatch.faces.watching import (
    Printer,
    add_journal,
    add_sources,
    headers_of,
    keep_journal,
    machine_sources,
    make_engine,
    named_sources,
    open_journal,
    stop_on_signals,
)
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text
from gpuwatch.texts import translate as _

_LOOK_UP_SECONDS = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_sources(parser)
    add_journal(parser)
    parser.add_argument("--plain", action="store_true", help=_("print diagnoses as lines instead of the screen"))
    parser.add_argument(
        "--listen", type=address, metavar="HOST:PORT", help=_("serve the metrics too, for instance on 127.0.0.1:9877")
    )
    parser.add_argument("--keys", action="store_true", help=_("print what every key does on the screen, and end"))
    add_json(parser)
    add_gpu_memory(parser)
    add_rules(parser)


def run(arguments: argparse.Namespace) -> int:
    """Watch on the screen, or print where there is none."""
    if arguments.keys:
        from gpuwatch.faces.tui.keys import key_map  # noqa: PLC0415 - Textual is loaded only where there is a screen

        print(key_map())
        return 0
    plain = arguments.plain or arguments.json or not has_screen()
    if not arguments.plain and not arguments.json and sys.stdout.isatty() and not has_signs(os.environ):
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
    )
    with open_journal(arguments, in_words) as journal:
        return watch_with(journal, sources, arguments, plain=plain)


def watch_with(
    journal: Journal | None,
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
    if journal is not None:
        keep_journal(journal, pipeline)
    exporter = None
    if arguments.listen:
        from gpuwatch.faces.exporter import Exporter  # noqa: PLC0415 - it brings the metrics library, which few runs need

        exporter = Exporter(lambda: pipeline.snapshot, engine.rules, *arguments.listen, workloads=engine.workloads.ids)
    try:
        if plain:
            return print_until_end(pipeline, as_json=arguments.json)
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
        if journal is not None:
            journal.say = unsaid  # the screen is Textual's
        app.run()
        return app.return_code or 0
    finally:
        if exporter is not None:
            exporter.close()


def unsaid(_words: Text) -> None:
    """Say nothing."""


def has_screen() -> bool:
    """Whether a screen can be drawn here."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in {"", "dumb"} and has_signs(os.environ)


def has_signs(environment: Mapping[str, str]) -> bool:
    """Whether the locale can show more than ASCII. One that is not named is taken to: most containers name none."""
    named = next((environment[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "UTF-8")
    return "UTF-8" in named.upper() or "UTF8" in named.upper()


def print_until_end(pipeline: Pipeline, *, as_json: bool) -> int:
    """Print failures until every source has ended or someone says stop."""
    printer = Printer(as_json=as_json)
    pipeline.subscribe(printer)
    stop = threading.Event()
    with stop_on_signals(stop):
        pipeline.start()
        while not pipeline.wait(_LOOK_UP_SECONDS) and not stop.is_set() and not printer.closed.is_set():
            pass
        pipeline.stop()
    if printer.closed.is_set():
        raise BrokenPipeError
    return 0
