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
from collections.abc import Mapping, Sequence

from gpuwatch.adapters.heap import give_large_blocks_back
from gpuwatch.adapters.sources import Source
from gpuwatch.adapters.sources.stdin import take_terminal
from gpuwatch.faces.narration import narrator
from gpuwatch.faces.options import add_bell, add_watching
from gpuwatch.faces.sourcing import headers_of, named_sources
from gpuwatch.loading import loading
from gpuwatch.texts import translate as _


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
    return watch_plainly(sources, arguments) if plain else watch_on_screen(sources, arguments)


def watch_plainly(sources: Sequence[Source], arguments: argparse.Namespace) -> int:
    """Print failures until every source has ended."""
    with loading():
        from gpuwatch.faces.notifying import Ringer  # noqa: PLC0415 - the screen is drawn before the engine is brought
        from gpuwatch.faces.opening import open_watch  # noqa: PLC0415 - as above
        from gpuwatch.faces.printing import print_until_end  # noqa: PLC0415 - as above

    say = narrator(arguments.log_format)
    with open_watch(sources, arguments, say) as opened:
        if sys.stderr.isatty():
            opened.desk.ring = Ringer(ring_plainly, bell=arguments.bell, desktop=arguments.desktop)
        return print_until_end(opened.pipeline, as_json=as_json(arguments), say=say)


def watch_on_screen(sources: Sequence[Source], arguments: argparse.Namespace, *, read_only: bool = False) -> int:
    """Show the screen until the person leaves."""
    give_large_blocks_back()
    with loading():
        from gpuwatch.faces.tui.entrance import show  # noqa: PLC0415 - Textual reads keys from fd 0, which is set only now

    return show(sources, arguments, read_only=read_only)


def ring_plainly(signal: str) -> None:
    """Ring where no screen is drawn."""
    print(signal, end="", file=sys.stderr, flush=True)


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
