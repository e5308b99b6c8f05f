"""Say how much GPU memory a job will need, before it runs.

Examples:
  gpuwatch predict ddcolor --variant large --size 1280
  gpuwatch predict ddcolor --variant large --size 1280 --gpu-memory 8GiB
  gpuwatch predict ddcolor --variant tiny --size 1024 --rewrite fold --dtype fp16 --batch 4
  gpuwatch predict sonic                      what is published of it
  gpuwatch predict learned                    the kinds of job that ran here, and how many of each were measured
  gpuwatch predict learned 3f2a91 --size 1216x832 --batch 2

Nothing is run and no GPU is needed: a trace of the network goes through a model of PyTorch's allocator. Ranges are what
the need should stay within. --arch (sm86, sm90 ...) and --allocator make them narrower. ComfyUI's default allocator
on NVIDIA cards is cudaMallocAsync (--allocator async), which is only approximated.
Exit codes: 0 it fits, may fit or no card was named; 1 it does not fit, or the network cannot run at that size.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json, size, whole
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.core.diagnosis import Fits
    from gpuwatch.core.workload import Need, WorkloadProfile

VARIANTS = ("tiny", "large")
DTYPES = ("fp32", "amp16", "fp16", "bf16")
REWRITES = ("none", "tail", "fold")
ALLOCATORS = ("native", "expandable", "async")
_SIDES = re.compile(r"(\d{1,6})(?:[x*](\d{1,6}))?")
_MOST_SIDE = 1 << 17


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    workloads = parser.add_subparsers(dest="workload", metavar=_("WORKLOAD"), required=True)
    ddcolor = workloads.add_parser("ddcolor", help=_("colorize photos with DDColor"))
    ddcolor.add_argument("--variant", choices=VARIANTS, required=True, help=_("the network"))
    ddcolor.add_argument(
        "--size", type=int, required=True, metavar="N", help=_("side in pixels that the network sees, a multiple of 32")
    )
    ddcolor.add_argument("--height", type=int, metavar="N", help=_("the height, where it is not the same as the width"))
    ddcolor.add_argument("--batch", type=int, default=1, metavar="N", help=_("photos a pass (default: 1)"))
    ddcolor.add_argument("--dtype", choices=DTYPES, default="fp32", help=_("precision (default: fp32)"))
    ddcolor.add_argument("--grad", action="store_true", help=_("gradients were left on"))
    ddcolor.add_argument(
        "--rewrite",
        choices=REWRITES,
        default="none",
        help=_("an exact rewrite that needs less memory (default: none)"),
    )
    add_card(ddcolor)
    ddcolor.add_argument("--gpu-memory", type=size, metavar="SIZE", help=_("the card's memory: 8GiB, 12GiB"))
    add_json(ddcolor)
    learned = workloads.add_parser("learned", help=_("any workflow whose jobs gpuwatch saw run on this machine"))
    learned.add_argument("kind", nargs="?", metavar="ID", help=_("a kind of job, by the first letters of its id"))
    learned.add_argument(
        "--size", type=sides, metavar="WxH", help=_("pixels of the largest picture in it: 1024, 1216x832")
    )
    learned.add_argument(
        "--batch", type=whole(1, _MOST_SIDE), default=1, metavar="N", help=_("pictures or frames (default: 1)")
    )
    learned.add_argument("--gpu-memory", type=size, metavar="SIZE", help=_("the card's memory: 8GiB, 12GiB"))
    add_learned_journal(learned)
    add_json(learned)
    sonic = workloads.add_parser("sonic", help=_("what is published of Sonic's need"))
    add_json(sonic)


def add_learned_journal(parser: argparse.ArgumentParser) -> None:
    """`--journal`, for what was learned."""
    parser.add_argument("--journal", type=Path, metavar="FILE", help=_("another journal than your own"))


def sides(words: str) -> tuple[int, int]:
    """Read `1024` or `1216x832`. Raises what argparse reports."""
    found = _SIDES.fullmatch(words.strip().lower())
    if found is None or not all(0 < int(side) <= _MOST_SIDE for side in (found[1], found[2] or found[1])):
        raise argparse.ArgumentTypeError(
            render(text("{words} is no size of a picture; write 1024 or 1216x832", words=words))
        )
    return int(found[1]), int(found[2] or found[1])


def add_card(parser: argparse.ArgumentParser) -> None:
    """`--arch` and `--allocator`."""
    parser.add_argument(
        "--arch", metavar="smNN", help=_("the card's architecture: sm86 for an RTX 3060, sm89, sm90 ...")
    )
    parser.add_argument(
        "--allocator", choices=ALLOCATORS, default="native", help=_("PyTorch's allocator (default: native)")
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict, and print it."""
    if arguments.workload == "learned":
        return predict_learned(arguments)
    from gpuwatch.adapters.workloads import load_workloads  # noqa: PLC0415 - not for --help

    workloads = load_workloads()
    profile = workloads.named(arguments.workload)
    if profile is None:
        from gpuwatch.faces.predict_page import tell_claim  # noqa: PLC0415

        return tell_claim(next(each for each in workloads.claimed if each.id == arguments.workload), arguments)
    return predict_one(profile, arguments)


def predict_learned(arguments: argparse.Namespace) -> int:
    """From the jobs that ran here; the exit code."""
    from gpuwatch.faces.learned_page import predict_kind, tell_kinds  # noqa: PLC0415 - not for --help

    if arguments.kind is None:
        return tell_kinds(arguments)
    if arguments.size is None:
        raise UsageError(text("--size is missing: the pixels of the picture, as 1024 or 1216x832."))
    return predict_kind(arguments)


def predict_one(profile: WorkloadProfile, arguments: argparse.Namespace) -> int:
    """Predict for one job; the exit code."""
    from gpuwatch.core.memory.predict import fits_card  # noqa: PLC0415
    from gpuwatch.core.memory.simulate import Size  # noqa: PLC0415
    from gpuwatch.core.workload import predict  # noqa: PLC0415
    from gpuwatch.faces.predict_page import as_json, print_page  # noqa: PLC0415
    from gpuwatch.faces.report import json_line  # noqa: PLC0415

    height = arguments.size if arguments.height is None else arguments.height
    why = profile.invalid(Size(height, arguments.size, arguments.batch), arguments.rewrite)
    need: Need | None = None
    verdict: Fits | None = None
    if why is None:
        try:
            need = predict(
                profile,
                arguments.variant,
                height,
                arguments.dtype,
                width_px=arguments.size,
                batch=arguments.batch,
                rewrite=arguments.rewrite,
                grad=arguments.grad,
                arch=arguments.arch,
                allocator=arguments.allocator,
            )
        except KeyError as error:
            raise UsageError(
                text("no trace of {job} is shipped.", job=str(error.args[0])),
                text("Gradients are traced without a rewrite alone; leave --rewrite out."),
            ) from error
        if arguments.gpu_memory is not None:
            verdict = fits_card(need, arguments.gpu_memory)
            need = need.on_card(arguments.gpu_memory - need.context_bytes.high)
    if arguments.json:
        print(json_line(as_json(profile, arguments, need, why=why, verdict=verdict)))
    elif need is None:
        print(visible(render(why or "")), file=sys.stderr)
    else:
        print_page(profile, arguments, need, verdict)
    return 1 if need is None or verdict == "no" else 0
