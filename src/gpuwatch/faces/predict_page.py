"""A prediction as JSON and as a page: the need against the card first, then where it comes from."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from gpuwatch.core.memory.calibration import pick
from gpuwatch.core.workload import VISUAL, tokens_of
from gpuwatch.texts import Text, render, show_bytes, text, visible

if TYPE_CHECKING:
    from gpuwatch.core.diagnosis import Fits
    from gpuwatch.core.memory.band import Band
    from gpuwatch.core.workload import Claim, Need, WorkloadProfile

_BAR_CELLS = 48


def as_json(
    profile: WorkloadProfile,
    arguments: argparse.Namespace,
    need: Need | None,
    *,
    why: Text | None,
    verdict: Fits | None,
) -> dict[str, Any]:
    """The prediction as JSON: null where the size is invalid."""
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
    from gpuwatch.adapters.journal.runs import read_learned  # noqa: PLC0415
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
