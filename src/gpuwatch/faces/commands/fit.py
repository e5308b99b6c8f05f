"""Say what fits a card: for each network the largest size that surely does.

Examples:
  gpuwatch fit ddcolor --gpu-memory 8GiB
  gpuwatch fit ddcolor --gpu-memory 12GiB --used 3GiB --variant large
  gpuwatch fit ddcolor --gpu-memory 8GiB --dtype fp16
  gpuwatch fit ddcolor --table                 cards from 4 to 24 GiB, three profiles each
  gpuwatch fit learned 3f2a91 --gpu-memory 8GiB    a workflow whose jobs ran here; `gpuwatch predict learned` lists them

--gpu-memory is the card's total as the driver reports it, --used what other programs hold. Profiles leave half of the
card (low), a quarter (middle) or nothing (high) to other models. A rewrite needs gpuwatch's own node or the runner.
Exit codes: 0 something fits, 1 nothing does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpuwatch.errors import UsageError
from gpuwatch.faces.commands.predict import DTYPES, REWRITES, VARIANTS, add_card, add_learned_journal
from gpuwatch.faces.options import add_json, size
from gpuwatch.texts import render, show_bytes, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.core.memory.fit import Choice, Row
    from gpuwatch.core.workload import WorkloadProfile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    workloads = parser.add_subparsers(dest="workload", metavar=_("WORKLOAD"), required=True)
    ddcolor = workloads.add_parser("ddcolor", help=_("colorize photos with DDColor"))
    ddcolor.add_argument("--gpu-memory", type=size, metavar="SIZE", help=_("the card's memory: 8GiB, 12GiB"))
    ddcolor.add_argument("--used", type=size, default=0, metavar="SIZE", help=_("what other programs hold of it"))
    ddcolor.add_argument("--variant", choices=VARIANTS, help=_("the network (default: both)"))
    ddcolor.add_argument("--dtype", choices=DTYPES, help=_("precision (default: fp32, and fp16 where it gains)"))
    ddcolor.add_argument("--rewrite", choices=REWRITES, help=_("an exact rewrite (default: all)"))
    ddcolor.add_argument("--table", action="store_true", help=_("low, middle and high profiles for each card"))
    add_card(ddcolor)
    add_json(ddcolor)
    learned = workloads.add_parser("learned", help=_("any workflow whose jobs gpuwatch saw run on this machine"))
    learned.add_argument("kind", metavar="ID", help=_("a kind of job, by the first letters of its id"))
    learned.add_argument(
        "--gpu-memory", type=size, metavar="SIZE", required=True, help=_("the card's memory: 8GiB, 12GiB")
    )
    learned.add_argument("--used", type=size, default=0, metavar="SIZE", help=_("what other programs hold of it"))
    add_learned_journal(learned)
    add_json(learned)


def run(arguments: argparse.Namespace) -> int:
    """List what fits."""
    if arguments.workload == "learned":
        from gpuwatch.faces.learned_page import fit_kind  # noqa: PLC0415 - not for --help

        return fit_kind(arguments)
    from gpuwatch.adapters.workloads import load_workloads  # noqa: PLC0415 - not for --help

    profile = load_workloads().named(arguments.workload)
    assert profile is not None  # noqa: S101 - the parser takes no other
    if arguments.table:
        return print_table(profile, arguments)
    if arguments.gpu_memory is None:
        raise UsageError(
            text("--gpu-memory is missing: the card's memory, as 8GiB."),
            text("`gpuwatch fit ddcolor --table` lists usual cards."),
        )
    return print_choices(profile, arguments)


def print_choices(profile: WorkloadProfile, arguments: argparse.Namespace) -> int:
    """The choices for one card; the exit code."""
    from gpuwatch.core.memory.fit import choices  # noqa: PLC0415
    from gpuwatch.faces.report import console_for, json_line  # noqa: PLC0415

    found = choices(
        profile,
        arguments.gpu_memory,
        arguments.used,
        variants=one(arguments.variant),
        dtypes=one(arguments.dtype),
        rewrites=one(arguments.rewrite),
        arch=arguments.arch,
        allocator=arguments.allocator,
    )
    if arguments.json:
        print(json_line({"choices": [choice_json(choice) for choice in found]}))
        return 0 if found else 1
    console = console_for(sys.stdout)
    if not found:
        console.print(
            render(
                text(
                    "Nothing surely fits: of {total_bytes}, {used_bytes} is used, and the CUDA context takes its part.",
                    total_bytes=arguments.gpu_memory,
                    used_bytes=arguments.used,
                )
            )
        )
        return 1
    for choice in found:
        need = choice.need
        line = f"{need.variant:5} {need.side_px:>4}  {need.dtype:5} {need.rewrite:4}  {show_bytes(choice.process_bytes):>9}"
        console.print(f"{line}  {visible(render(NEEDS[choice.needs]))}  {visible(render(choice.note))}", soft_wrap=True)
    console.print(visible(render(text("From: {source}.", source=profile.source))), style="dim", soft_wrap=True)
    return 0


def print_table(profile: WorkloadProfile, arguments: argparse.Namespace) -> int:
    """Low, middle and high for each card; the exit code."""
    from gpuwatch.core.memory.fit import CARDS_GIB, GIB, rows  # noqa: PLC0415
    from gpuwatch.faces.report import console_for, json_line  # noqa: PLC0415

    cards = [arguments.gpu_memory] if arguments.gpu_memory else [card * GIB for card in CARDS_GIB]
    table = rows(profile, cards, arch=arguments.arch, allocator=arguments.allocator)
    if arguments.json:
        print(json_line({"profiles": [row_json(row) for row in table]}))
        return 0
    from rich.table import Table  # noqa: PLC0415

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for title in (_("card"), _("profile"), _("left to others"), _("stock node"), _("exact rewrite")):
        drawn.add_column(title, no_wrap=True)
    for row in table:
        drawn.add_row(
            show_bytes(row.card_bytes) if row.profile == "low" else "",
            render(PROFILES[row.profile]),
            show_bytes(row.left_bytes) if row.left_bytes else "–",
            cell(row.stock),
            cell(row.exact),
        )
    console = console_for(sys.stdout)
    console.print(drawn)
    console.print(visible(render(text("From: {source}.", source=profile.source))), style="dim", soft_wrap=True)
    return 0


def cell(choice: Choice | None) -> str:
    """A choice in a table."""
    return f"{choice.need.variant} {choice.need.side_px}" if choice else "–"


def one(word: str | None) -> Sequence[str]:
    """A single choice as a list; empty for none."""
    return (word,) if word else ()


def choice_json(choice: Choice) -> dict[str, Any]:
    """A choice as JSON."""
    need = choice.need
    return {
        "variant": need.variant,
        "size": need.side_px,
        "dtype": need.dtype,
        "rewrite": need.rewrite,
        "predicted_bytes": round(choice.process_bytes),
        "headroom_bytes": round(choice.headroom_bytes),
        "needs": choice.needs,
        "note": render(choice.note),
    }


def row_json(row: Row) -> dict[str, Any]:
    """A row of the table as JSON."""
    return {
        "gpu_memory_bytes": row.card_bytes,
        "profile": row.profile,
        "left_bytes": row.left_bytes,
        "stock": row.stock and choice_json(row.stock),
        "exact": row.exact and choice_json(row.exact),
    }


NEEDS = {
    "widget": text("stock node"),
    "node": text("gpuwatch's node or the runner"),
    "runner": text("the runner"),
}
PROFILES = {"low": text("low"), "middle": text("middle"), "high": text("high")}
