"""Make memory traces: those that gpuwatch ships, or one of a network of your own.

    python -m gpuwatch_runner.tracing --out rules/workloads/data/ddcolor
    python -m gpuwatch_runner.tracing --network mymodule:build --out traces

Needs torch and no GPU. The same torch makes the same files. `build` takes nothing and gives the network, in eval mode; it is
called on the meta device, so it must load no weights.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.texts import language_of, plain, render, text, use, visible
from gpuwatch_runner.tracing.compiling import Subject, compile_trace
from gpuwatch_runner.tracing.ddcolor import DTYPES, make, shipped_names
from gpuwatch_runner.tracing.files import write_trace_file

_ROOT = Path(__file__).parents[3]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trace and write, several at a time."""
    parser = argparse.ArgumentParser(prog="python -m gpuwatch_runner.tracing", description="Make memory traces.")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: where the shipped ones are, or here")
    parser.add_argument("--only", default="", metavar="WORDS", help="shipped traces with these words in their name")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--network", metavar="MODULE:FUNCTION", help="trace this network instead")
    parser.add_argument("--name", default="network", metavar="WORD", help="what its file is called")
    parser.add_argument("--channels", type=int, default=3, metavar="N", help="channels of its input")
    parser.add_argument("--stride", type=int, default=32, metavar="N", help="heights and widths are multiples of this")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="fp32")
    parser.add_argument("--batch", choices=("one", "many"), default="one")
    given = parser.parse_args(arguments)
    use(language_of(None))
    try:
        if given.network is not None:
            _told(_trace_network(given))
        else:
            _trace_shipped(given)
    except GpuwatchError as error:
        told = [error.message] if error.hint is None else [error.message, error.hint]
        sys.stderr.writelines(f"{visible(render(words))}\n" for words in told)
        return error.exit_code
    return 0


def _trace_shipped(given: argparse.Namespace) -> None:
    folder = given.out or _ROOT / "rules" / "workloads" / "data" / "ddcolor"
    tasks = [(number, folder) for number, name in enumerate(shipped_names()) if given.only in name]
    if given.jobs == 1:
        for task in tasks:
            _told(make(task))
        return
    with get_context("spawn").Pool(max(1, given.jobs)) as pool:
        for path in pool.imap(make, tasks):
            _told(path)


def _trace_network(given: argparse.Namespace) -> Path:
    """Trace a third party's network."""
    if min(given.channels, given.stride) < 1 or not given.name.replace("_", "").isalnum():
        raise UsageError(text("--channels and --stride take 1 or more, --name letters and digits"))
    build = _function(given.network)
    weights, autocast = DTYPES[given.dtype]
    subject = Subject(
        name={"workload": given.name, "variant": given.name, "dtype": given.dtype, "rewrite": "none"},
        build=build,
        channels=given.channels,
        stride_px=given.stride,
        dtype=weights,
        autocast=autocast,
    )
    try:
        return write_trace_file(compile_trace(subject, given.batch), given.out or Path())
    except Exception as error:
        # Whatever a network of somebody else's raises while it is watched.
        raise UsageError(
            text(
                "{network} cannot be traced: {reason}",
                network=given.network,
                reason=plain(f"{type(error).__name__}: {error}"),
            ),
            text("Its steps must be the same at every size, and its values must not be looked at in between"),
        ) from error


def _function(words: str) -> Callable[[], Any]:
    """The function that MODULE:FUNCTION names, from where the person stands."""
    module, _, name = words.partition(":")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        # Whatever the module of somebody else's raises while it is imported.
        raise UsageError(
            text("{network} is no function that can be imported: {reason}", network=words, reason=plain(str(error))),
            text("Write MODULE:FUNCTION, and start where the module lies"),
        ) from error
    if not callable(found):
        raise UsageError(text("{network} is no function", network=words))
    function: Callable[[], Any] = found
    return function


def _told(path: Path) -> None:
    sys.stdout.write(f"{path}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
