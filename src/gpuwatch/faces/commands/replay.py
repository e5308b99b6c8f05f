"""Play a recording as if it happened now: on the screen, or as lines where there is none.

Examples:
  gpuwatch replay session.jsonl.gz
  gpuwatch replay session.jsonl.gz --speed 20
  gpuwatch replay session.jsonl.gz --speed max --plain

Played faster, observations come sooner but keep their times: a failure that took three seconds still took three seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpuwatch.adapters.sources.replay import ReplaySource
from gpuwatch.faces.commands.watch import has_screen
from gpuwatch.faces.options import add_gpu_memory, add_json, add_rules
from gpuwatch.faces.printing import print_until_end
from gpuwatch.faces.watching import make_engine
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import render, text
from gpuwatch.texts import translate as _


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("file", type=Path, metavar="FILE", help=_("what `gpuwatch record` wrote"))
    parser.add_argument(
        "--speed", type=speed, default=1.0, metavar="N", help=_("times its own pace, or max (default: 1)")
    )
    parser.add_argument("--plain", action="store_true", help=_("print diagnoses as lines instead of the screen"))
    parser.set_defaults(from_start=False)
    add_json(parser)
    add_gpu_memory(parser)
    add_rules(parser)


def run(arguments: argparse.Namespace) -> int:
    """Play it."""
    plain = arguments.plain or arguments.json or not (has_screen() and sys.stdin.isatty())
    source = ReplaySource(arguments.file, speed=arguments.speed)
    pipeline = Pipeline(make_engine(arguments, shows_records=False), [source])
    if plain:
        return print_until_end(pipeline, as_json=arguments.json)
    from gpuwatch.faces.tui.app import WatchApp  # noqa: PLC0415 - only for the screen

    app = WatchApp(pipeline, title=arguments.file.name, notice=text("A recording, played at its times."))
    app.run()
    return app.return_code or 0


def speed(words: str) -> float:
    """Read a number, or `max` for no pause at all. Raises what argparse reports."""
    if words == "max":
        return 0.0
    try:
        value = float(words)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(render(text("{words} is no speed; write 1, 20, 0.5 or max", words=words)))
    return value
