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
from typing import TYPE_CHECKING, Any

from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json, size
from gpuwatch.texts import Text, render, show_bytes, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.core.diagnosis import Fits
    from gpuwatch.core.memory.band import Band
    from gpuwatch.core.workload import Claim, Need, WorkloadProfile

VARIANTS = ("tiny", "large")
DTYPES = ("fp32", "amp16", "fp16", "bf16")
REWRITES = ("none", "tail", "fold")
ALLOCATORS = ("native", "expandable", "async")
_BAR_CELLS = 48
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
    learned.add_argument("--batch", type=count, default=1, metavar="N", help=_("pictures or frames (default: 1)"))
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


def count(words: str) -> int:
    """Read a number from 1 on. Raises what argparse reports."""
    if not words.isdecimal() or not 1 <= int(words) <= _MOST_SIDE:
        raise argparse.ArgumentTypeError(render(text("{words} is no number from 1 on", words=words)))
    return int(words)


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


def as_json(
    profile: WorkloadProfile,
    arguments: argparse.Namespace,
    need: Need | None,
    *,
    why: Text | None,
    verdict: Fits | None,
) -> dict[str, Any]:
    """The prediction as JSON: null where the size is invalid."""
    from gpuwatch.core.workload import VISUAL, tokens_of  # noqa: PLC0415

    breakdown = None if need is None else {
        "weights_bytes": need.weights_bytes,
        "activations_bytes": need.live_bytes - need.weights_bytes - need.workspace_bytes,
        "workspace_bytes": need.workspace_bytes,
        "context_bytes": round(need.context_bytes.mid),
    }  # fmt: skip
    return {
        "workload": profile.id,
        "variant": arguments.variant,
        "size": arguments.size,
        "height": arguments.size if arguments.height is None else arguments.height,
        "batch": arguments.batch,
        "dtype": arguments.dtype,
        "rewrite": arguments.rewrite,
        "grad": arguments.grad,
        "arch": arguments.arch,
        "allocator": arguments.allocator,
        "live_bytes": need and need.live_bytes,
        "allocated_bytes": need and need.allocated_bytes,
        "reserved_bytes": None if need is None else band_json(need.reserved_bytes),
        "min_budget_bytes": None if need is None else band_json(need.budget_bytes),
        "process_bytes": None if need is None else band_json(need.process_bytes),
        "breakdown": breakdown,
        "peak_op": need and need.peak_step,
        "gflop": need and round(need.flop / 1e9, 3),
        "tokens": need and tokens_of(need.side_px, need.width_px, need.batch),
        "token_unit": VISUAL,
        "valid": need is not None,
        "why": None if why is None else render(why),
        "fits": verdict,
        "source": "predicted",
    }


def band_json(band: Band) -> dict[str, int]:
    """A band as JSON."""
    return {"low": round(band.low), "mid": round(band.mid), "high": round(band.high)}


def print_page(profile: WorkloadProfile, arguments: argparse.Namespace, need: Need, verdict: Fits | None) -> None:
    """The prediction for a person: the need against the card first, then where it comes from."""
    from rich.text import Text as Line  # noqa: PLC0415 - only where a person reads

    from gpuwatch.core.memory.calibration import pick  # noqa: PLC0415
    from gpuwatch.core.workload import tokens_of  # noqa: PLC0415
    from gpuwatch.faces.report import console_for  # noqa: PLC0415
    from gpuwatch.faces.wording import FITS  # noqa: PLC0415

    console = console_for(sys.stdout)
    head = Line(profile.title, "bold")
    for word in (
        need.variant,
        need.dtype,
        f"{need.width_px}x{need.side_px}",
        f"x{need.batch}" if need.batch > 1 else "",
    ):
        head.append(f" {word}" if word else "")
    if need.rewrite != "none":
        head.append(f" {need.rewrite}")
    if verdict is not None:
        colour = {"yes": "green", "no": "red", "uncertain": "yellow"}[verdict]
        head.append(f"  {render(FITS[verdict])}", f"bold {colour}")
    console.print(head)
    least = need.least_bytes
    if arguments.gpu_memory is not None:
        console.print(f"{bar(least, arguments.gpu_memory)} {show_bytes(arguments.gpu_memory)}")
    rows: list[tuple[Text, str]] = [
        (text("Needs at least"), between(least)),
        (text("  PyTorch"), between(need.budget_bytes)),
        (text("  CUDA context"), between(need.context_bytes)),
        (text("Takes where there is room"), between(need.process_bytes)),
        (text("  allocated at the peak"), show_bytes(need.allocated_bytes)),
        (text("  of it weights"), show_bytes(need.weights_bytes)),
        (text("  reserved by PyTorch"), between(need.reserved_bytes)),
        (text("Most is alive in"), need.peak_step),
        (text("Work"), render(text(
            "{gflop} GFLOP, {image_tokens} visual tokens",
            gflop=f"{need.flop / 1e9:,.0f}", image_tokens=tokens_of(need.side_px, need.width_px, need.batch),
        ))),
    ]  # fmt: skip
    from rich.cells import cell_len  # noqa: PLC0415

    labels = [render(label) for label, _value in rows]
    width = max(cell_len(label) for label in labels) + 2
    for label, (_text, value) in zip(labels, rows, strict=True):
        console.print(label + " " * (width - cell_len(label)) + value, soft_wrap=True)
    constants = pick(profile.calibrations, arguments.arch, arguments.allocator)
    sources = text("From: {source}; {constants}.", source=profile.source, constants=constants.source)
    console.print(visible(render(sources)), style="dim", soft_wrap=True)
    if arguments.arch is not None and constants.arch != arguments.arch:
        unknown = text("No constants are known for {arch}: those of any card stand for it.", arch=arguments.arch)
        console.print(visible(render(unknown)), style="dim", soft_wrap=True)
    if (told := measured_here(profile, arguments)) is not None:
        console.print(render(told), style="dim", soft_wrap=True)
    if arguments.allocator == "async":
        console.print(
            render(text("cudaMallocAsync is approximated: the driver's pool is closed.")), style="dim", soft_wrap=True
        )


def measured_here(profile: WorkloadProfile, arguments: argparse.Namespace) -> Text | None:
    """How far off the predictions of this network were on this machine, where its jobs were seen."""
    from gpuwatch.adapters.journal_runs import read_learned  # noqa: PLC0415
    from gpuwatch.core.learned.offset import offset_of  # noqa: PLC0415
    from gpuwatch.settings import journal_path  # noqa: PLC0415

    learned = read_learned(journal_path())
    if not learned.kinds:
        return None
    off = offset_of(learned, profile, arguments.variant, arguments.dtype, arguments.rewrite)
    if off is None:
        return None
    return text(
        "Measured here: {runs} jobs of this network took {low} to {high} of what is predicted for them.",
        runs=off.runs, low=f"{off.low_ratio:.0%}", high=f"{off.high_ratio:.0%}",
    )  # fmt: skip


def between(band: Band) -> str:
    """A band for a person: from to."""
    low, high = show_bytes(band.low), show_bytes(band.high)
    return low if low == high else render(text("{low} to {high}", low=low, high=high))


def bar(need: Band, card_bytes: int) -> str:
    """The need against the card: sure, possible, free; an arrow where it runs over."""
    sure = round(min(need.low / card_bytes, 1) * _BAR_CELLS)
    possible = round(min(need.high / card_bytes, 1) * _BAR_CELLS) - sure
    over = "▶" if need.low > card_bytes else "▏"
    return "█" * sure + "▒" * possible + "·" * (_BAR_CELLS - sure - possible) + over


def tell_claim(claim: Claim, arguments: argparse.Namespace) -> int:
    """What is published of a workload that nothing was traced of, and what its own jobs here took."""
    from gpuwatch.faces.learned_page import kind_json, kind_lines, kinds_with  # noqa: PLC0415
    from gpuwatch.faces.report import console_for, json_line  # noqa: PLC0415

    own = kinds_with(claim.node_types)
    if arguments.json:
        told = {
            "workload": claim.id,
            "source": "claimed",
            "inputs": {name: render(words) for name, words in claim.inputs.items()},
            "claims": [render(each) for each in claim.claims],
            "references": list(claim.references),
            "learned": [kind_json(known) for known in own],
        }
        print(json_line(told))
        return 0
    from rich.padding import Padding  # noqa: PLC0415 - only where a person reads

    console = console_for(sys.stdout)
    console.print(
        render(
            text(
                "{title}: nothing of it was traced or measured for gpuwatch, so no number is given.", title=claim.title
            )
        )
    )
    for name, words in claim.inputs.items():
        console.print(Padding(visible(f"{name}: {render(words)}"), (0, 0, 0, 2), expand=False))
    console.print(render(text("What was published:")))
    for each in claim.claims:
        console.print(Padding(visible(render(each)), (0, 0, 0, 2), expand=False))
    for reference in claim.references:
        console.print(visible(f"  {reference}"), style="dim", soft_wrap=True)
    if own:
        console.print(render(text("What its jobs took on this machine:")))
    for known in own:
        for line in kind_lines(known):
            console.print(visible(f"  {line}"), soft_wrap=True)
    return 0
