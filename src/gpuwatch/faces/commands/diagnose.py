"""Read logs and say what failed, why, and what to do.

Examples:
  gpuwatch diagnose comfyui.log
  gpuwatch diagnose --gpu-memory 8GiB comfyui.log        the log does not tell the card's size
  gpuwatch diagnose --json *.log | jq .incidents
  ssh box cat comfyui.log | gpuwatch diagnose -
  head -c 1G DEVICE | gpuwatch diagnose -                what never ends, such as /dev/zero, is read until Ctrl-C

What `gpuwatch rules mutes` lists is shown as muted and is no failure for the exit code.

Exit codes: 0 nothing above info, 1 a failure was found, 2 an input could not be read (the others still are).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from gpuwatch.adapters.mutes import own_mutes
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.scanning import as_printed, scanned, scanned_file
from gpuwatch.adapters.sources.decoding import decoded
from gpuwatch.errors import GpuwatchError
from gpuwatch.faces.cli import tell
from gpuwatch.faces.options import add_gpu_memory, add_json, add_rules
from gpuwatch.loading import loading
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.core.matching.matcher import Matcher
    from gpuwatch.core.mutes import Mutes
    from gpuwatch.faces.diagnosing import Told

MOST_WORKERS = 64
_CHUNK_BYTES = 1 << 18


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("files", nargs="+", metavar="FILE", help=_("a log file; - is standard input"))
    add_json(parser)
    add_gpu_memory(parser)
    add_rules(parser)
    parser.add_argument(
        "--workers",
        type=workers,
        metavar="N",
        help=_("how many processes look through a file (default: 2 from 64 MiB on, else 1)"),
    )


def workers(words: str) -> int:
    """Read a number of processes. Raises what argparse reports."""
    if not (words.isascii() and words.isdigit() and 1 <= int(words) <= MOST_WORKERS):
        raise argparse.ArgumentTypeError(
            render(
                text("{words} is no number of processes; write one from 1 to {most}", words=words, most=MOST_WORKERS)
            )
        )
    return int(words)


def run(arguments: argparse.Namespace) -> int:
    """Diagnose each input; the exit code of the worst."""
    with loading():
        matcher, mutes = load_matcher(arguments.rules), own_mutes()
    begin = partial(begun, arguments, matcher, mutes)
    worst = 0
    for name in arguments.files:
        source = "stdin" if name == "-" else name
        told: Told | None = None
        try:
            standard = name == "-"
            pieces = (
                scanned(as_printed(decoded(read_stdin())), matcher)
                if standard
                else scanned_file(name, matcher, arguments.workers)
            )
            for piece in pieces:
                told = told or begin(source)
                told.read(piece)
        except GpuwatchError as error:
            tell(error)
            worst = 2
            if told is None:
                continue
        told = told or begin(source)
        told.end()
        if told.failures and worst == 0:
            worst = 1
    tell_overruns(matcher, mutes)
    return worst


def begun(arguments: argparse.Namespace, matcher: Matcher, mutes: Mutes, source: str) -> Told:
    """What understands an input, before its first bytes."""
    with loading():
        # To scan the first bytes, the engine is not needed yet.
        from gpuwatch.faces.diagnosing import AsJson, AsPage, Told  # noqa: PLC0415

    printed = AsJson() if arguments.json else AsPage(headed=len(arguments.files) > 1)
    return Told(source, matcher, mutes, arguments.gpu_memory, printed)


def tell_overruns(matcher: Matcher, mutes: Mutes) -> None:
    """Say which patterns took too long, and so what may be missing, or not muted, in what was printed."""
    if matcher.quarantined:
        told = text("set aside for taking too long: {rules}", rules=", ".join(sorted(matcher.quarantined)))
        print(visible(render(told)), file=sys.stderr)
    for mute in mutes.overran:
        told = text(
            "{where}: its pattern takes too long; failures that it should mute are not muted.", where=mute.where
        )
        print(visible(render(told)), file=sys.stderr)


def read_stdin() -> Iterator[bytes]:
    """Standard input's bytes."""
    while chunk := os.read(sys.stdin.fileno(), _CHUNK_BYTES):
        yield chunk
