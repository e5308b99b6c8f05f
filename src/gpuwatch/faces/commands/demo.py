"""Show what gpuwatch does, on any machine: a recorded out-of-memory session and a real DDColor run.

Examples:
  gpuwatch demo                 the screen
  gpuwatch demo < /dev/null     the same as text: diagnosis, fix, report, metrics
  gpuwatch demo --checkpoint ddcolor_paper_tiny.pth --out coloured
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from gpuwatch.adapters.heap import give_large_blocks_back
from gpuwatch.errors import UsageError
from gpuwatch.faces.commands.watch import has_screen
from gpuwatch.faces.options import address
from gpuwatch.loading import loading
from gpuwatch.texts import text
from gpuwatch.texts import translate as _

NOTICE = text("A recorded session, played fast; the runner beside it is real. q ends the demo.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--plain", action="store_true", help=_("print instead of the screen"))
    parser.add_argument(
        "--listen", type=address, metavar="HOST:PORT", default=("127.0.0.1", 0), help=_("default: any free port")
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help=_("published weights, so that the colours mean something")
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help=_("keep the colorized photo and the trace here"))


def run(arguments: argparse.Namespace) -> int:
    """Play the session and run the network, on the screen or in print."""
    if arguments.out is not None and os.path.lexists(arguments.out) and not arguments.out.is_dir():
        raise UsageError(
            text("{folder} is no folder.", folder=str(arguments.out)), text("Name another place with --out.")
        )
    if arguments.plain or not (has_screen() and sys.stdin.isatty()):
        return print_plainly(arguments)
    give_large_blocks_back()
    with loading():
        from gpuwatch.faces.tui.app import Watched  # noqa: PLC0415 - only for the screen
        from gpuwatch.faces.tui.entrance import draw_first  # noqa: PLC0415

    def opens(_app: object, opened: ExitStack) -> Watched:
        from gpuwatch.faces.demonstrating import open_demo  # noqa: PLC0415 - it comes behind the first screen

        demo = open_demo(arguments, opened, on_screen=True)
        return Watched(demo.pipeline, demo.exporter.address)

    return draw_first(opens, title="demo", notice=NOTICE)


def print_plainly(arguments: argparse.Namespace) -> int:
    """The same as text."""
    with ExitStack() as opened:
        with loading():
            from gpuwatch.faces.demo_page import print_demo  # noqa: PLC0415 - only where there is no screen
            from gpuwatch.faces.demonstrating import open_demo  # noqa: PLC0415 - as above

            demo = open_demo(arguments, opened, on_screen=False)
        return print_demo(demo, kept=arguments.out is not None)
