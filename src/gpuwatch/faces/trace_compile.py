"""`gpuwatch trace compile`: a memory trace of somebody's own network, made by the runner, which has torch."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from gpuwatch.errors import UsageError
from gpuwatch.faces.options import whole
from gpuwatch.texts import current, text
from gpuwatch.texts import translate as _

_MOST = 4096
_PASSED = ("out", "name", "channels", "stride", "dtype", "batch")


def add_compile(parser: argparse.ArgumentParser) -> None:
    """The options; the same words are the runner's own."""
    parser.add_argument("network", metavar="MODULE:FUNCTION", help=_("what builds the network, in eval mode"))
    parser.add_argument("--out", metavar="DIR", help=_("where the trace goes (default: here)"))
    parser.add_argument("--name", metavar="WORD", help=_("what its file is called"))
    parser.add_argument("--channels", type=whole(1, _MOST), metavar="N", help=_("channels of its input (default: 3)"))
    parser.add_argument(
        "--stride", type=whole(1, _MOST), metavar="N", help=_("heights and widths are multiples of this (default: 32)")
    )
    parser.add_argument("--dtype", choices=("amp16", "bf16", "fp16", "fp32"), help=_("precision (default: fp32)"))
    parser.add_argument("--batch", choices=("one", "many"), help=_("one image a pass, or several (default: one)"))


def compile_network(arguments: argparse.Namespace) -> int:
    """Have the runner trace the network; its words and its exit code. Raises UsageError where torch is missing."""
    words = [sys.executable, "-m", "gpuwatch_runner.tracing", f"--network={arguments.network}"]
    for name in _PASSED:
        value = getattr(arguments, name)
        if value is not None:
            words.append(f"--{name}={value}")
    language = {"en": "C.UTF-8", "zh": "zh_CN.UTF-8"}[current()]
    code = subprocess.call(words, env={**os.environ, "LC_ALL": language})
    if code == 1:  # Python's own, for an error that nobody caught: no torch, above all
        raise UsageError(
            text("the network was not traced."), text("Tracing needs torch: pip install 'gpuwatch[runner]'.")
        )
    return code
