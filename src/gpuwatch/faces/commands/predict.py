"""Say how much GPU memory a job will need, before it runs.

Examples:
  gpuwatch predict ddcolor --variant large --size 1280
  gpuwatch predict ddcolor --variant large --size 1280 --gpu-memory 8GiB
  gpuwatch predict ddcolor --variant tiny --size 1024 --rewrite fold --dtype fp16 --batch 4
  gpuwatch predict sonic                      what is published of it

Nothing is run and no GPU is needed: a trace of the network goes through a model of PyTorch's allocator. Ranges are what
the need should stay within. --arch (sm86, sm90 ...) and --allocator make them narrower. ComfyUI's default allocator
on NVIDIA cards is cudaMallocAsync (--allocator async), which is only approximated.
Exit codes: 0 it fits, may fit or no card was named; 1 it does not fit, or the network cannot run at that size.
"""

from __future__ import annotations

import argparse
import sys
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
    sonic = workloads.add_parser("sonic", help=_("what is published of Sonic's need"))
    add_json(sonic)


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
    from gpuwatch.adapters.workloads import load_workloads  # noqa: PLC0415 - not for --help

    workloads = load_workloads()
    profile = workloads.named(arguments.workload)
    if profile is None:
        return tell_claim(next(each for each in workloads.claimed if each.id == arguments.workload), arguments)
    return predict_one(profile, arguments)


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
    if arguments.allocator == "async":
        console.print(
            render(text("cudaMallocAsync is approximated: the driver's pool is closed.")), style="dim", soft_wrap=True
        )


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
    """What is published of a workload that nothing was traced or measured of."""
    from gpuwatch.faces.report import json_line  # noqa: PLC0415

    if arguments.json:
        claims = [render(each) for each in claim.claims]
        references = list(claim.references)
        print(json_line({"workload": claim.id, "source": "claimed", "claims": claims, "references": references}))
        return 0
    print(render(text("{title}: nothing of it was traced or measured here, so no number is given.", title=claim.title)))
    for each in claim.claims:
        print(f"  {render(each)}")
    for reference in claim.references:
        print(f"  {reference}")
    return 0
