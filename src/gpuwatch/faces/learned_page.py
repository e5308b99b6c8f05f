"""What jobs took on this machine, as JSON and as a page: the kinds of job that are known, and what one needs or what fits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from math import isqrt
from typing import Any

from gpuwatch.adapters.journal.runs import asked_learned, read_learned
from gpuwatch.core.learned.runs import Experience
from gpuwatch.core.memory.curve import FEWEST_SIZES
from gpuwatch.errors import UsageError
from gpuwatch.faces.report import console_for, json_line
from gpuwatch.faces.wording import FITS
from gpuwatch.settings import journal_path
from gpuwatch.texts import render, text, visible


def learned_kinds(arguments: argparse.Namespace) -> list[Experience]:
    """The kinds of job in the journal, the newest first."""
    return asked_learned(journal_path(arguments.journal)).every()


def kind_named(arguments: argparse.Namespace) -> Experience:
    """The kind that was named by the first letters of its id, with its curve. Raises UsageError."""
    kinds = learned_kinds(arguments)
    found = [known for known in kinds if known.kind.id.startswith(arguments.kind)]
    if len(found) != 1:
        raise UsageError(
            text("{name} names no kind of job that ran here.", name=arguments.kind)
            if not found
            else text("{name} names several kinds of job.", name=arguments.kind),
            text("Known are: {known}", known=", ".join(f"{k.kind.id} {k.kind.title}" for k in kinds))
            if kinds
            else _nothing(),
        )
    if found[0].curve is None:
        raise UsageError(
            text("{title}: no curve goes through its runs yet.", title=found[0].kind.title),
            text(
                "It takes jobs of at least {fewest} sizes; {sizes} are known.",
                fewest=FEWEST_SIZES,
                sizes=found[0].sizes,
            ),
        )
    return found[0]


def tell_kinds(arguments: argparse.Namespace) -> int:
    """List what is known."""
    kinds = learned_kinds(arguments)
    if arguments.json:
        print(json_line({"learned": [kind_json(known) for known in kinds]}))
        return 0
    if not kinds:
        print(render(_nothing()), file=sys.stderr)
        return 0
    for known in kinds:
        for line in kind_lines(known):
            print(visible(line))
    return 0


def kind_lines(known: Experience) -> tuple[str, str]:
    """A kind for a person: what it is, and what is known of it."""
    return f"{known.kind.id}  {known.kind.title}", f"          {render(_state(known))}"


def kinds_with(node_types: Sequence[str]) -> list[Experience]:
    """The kinds of job in the person's own journal in which one of these nodes worked."""
    every = read_learned(journal_path()).every()
    return [known for known in every if set(node_types) & set(known.kind.nodes)]


def predict_kind(arguments: argparse.Namespace) -> int:
    """What a size of one kind takes; the exit code."""
    known, (width, height) = kind_named(arguments), arguments.size
    pixels = width * height * arguments.batch
    need = known.need(pixels)
    room = arguments.gpu_memory
    fits = None if room is None else known.fits(pixels, room)
    why = None if need is not None else _unanswered(known)
    if arguments.json:
        band = None if need is None else {"low": round(need.low), "mid": round(need.mid), "high": round(need.high)}
        told = {"pixels": pixels, "process_bytes": band, "fits": fits, "why": why and render(why), "source": "measured"}
        print(json_line({**kind_json(known), **told}))
        return 1 if fits == "no" else 0
    console = console_for(sys.stdout)
    verdict = "" if fits is None else f"  {render(FITS[fits])}"
    console.print(
        visible(
            f"{known.kind.title}  {width}x{height}" + (f" x{arguments.batch}" if arguments.batch > 1 else "") + verdict
        )
    )
    if need is None:
        console.print(render(why or ""))
    else:
        words = text("Takes {low_bytes} to {high_bytes}: the whole process.", low_bytes=need.low, high_bytes=need.high)
        if not known.alone:
            words = text("Takes {low_bytes} to {high_bytes}: everything on the card, as the server counts it.",
                         low_bytes=need.low, high_bytes=need.high)  # fmt: skip
        console.print(render(words))
    console.print(render(_state(known)), style="dim")
    return 1 if fits == "no" else 0


def fit_kind(arguments: argparse.Namespace) -> int:
    """The largest size of one kind that surely fits; the exit code."""
    known = kind_named(arguments)
    room = arguments.gpu_memory - arguments.used
    pixels = known.largest_pixels(room)
    need = known.need(pixels) if pixels is not None else None
    if arguments.json:
        choice = None if need is None or pixels is None else {
            "workload": known.kind.id, "pixels": pixels, "size": isqrt(pixels), "predicted_bytes": round(need.high),
            "headroom_bytes": round(room - need.high), "source": "measured",
        }  # fmt: skip
        print(json_line({**kind_json(known), "choices": [choice] if choice else []}))
    elif need is None or pixels is None:
        print(
            render(text("Not even the smallest size that was measured fits in {room_bytes}.", room_bytes=max(room, 0)))
        )
    else:
        print(visible(known.kind.title))
        told = text(
            "Up to {megapixels} megapixels ({side} x {side}): at most {need_bytes} of {room_bytes}.",
            megapixels=f"{pixels / 1e6:.2f}", side=isqrt(pixels), need_bytes=need.high, room_bytes=room,
        )  # fmt: skip
        print(visible(render(told)))
        print(render(_state(known)))
    return 0 if need is not None else 1


def kind_json(known: Experience) -> dict[str, Any]:
    """What is known of a kind."""
    curve = known.curve
    return {
        "workload": known.kind.id,
        "title": known.kind.title,
        "nodes": list(known.kind.nodes),
        "settings": list(known.kind.settings),
        "runs": len(known.runs),
        "sizes": known.sizes,
        "largest_ran_pixels": known.ran_pixels,
        "counts": "process" if known.alone else "card",
        "curve": None
        if curve is None
        else {
            "runs": curve.runs,
            "least_pixels": curve.least_pixels,
            "most_pixels": curve.most_pixels,
            "error_ratio": round(curve.within_ratio, 4),
            "power": curve.power,
        },
        "last_at": known.runs[-1].at.isoformat(),
    }


def _state(known: Experience) -> Any:
    curve = known.curve
    if curve is None:
        ran = f"{(known.ran_pixels or 0) / 1e6:.2f}"
        if known.sizes < FEWEST_SIZES:
            return text(
                "No curve yet: sizes measured {sizes} of {fewest}; jobs of up to {ran} megapixels ran.",
                sizes=known.sizes,
                fewest=FEWEST_SIZES,
                ran=ran,
            )
        return text(
            "The {sizes} sizes that were measured follow no curve; jobs of up to {ran} megapixels ran.",
            sizes=known.sizes,
            ran=ran,
        )
    return text(
        "{runs} jobs measured here, {least} to {most} megapixels, within {error_ratio}; {least_bytes} to {most_bytes}.",
        runs=curve.runs, least=f"{curve.least_pixels / 1e6:.2f}", most=f"{curve.most_pixels / 1e6:.2f}",
        error_ratio=curve.within_ratio, least_bytes=curve.peak_bytes(curve.least_pixels).mid,
        most_bytes=curve.peak_bytes(curve.most_pixels).mid,
    )  # fmt: skip


def _unanswered(known: Experience) -> Any:
    curve = known.curve
    assert curve is not None  # noqa: S101 - a kind that is named has one
    return text(
        "Uncertain: it was measured from {least} to {most} megapixels, and this is too far from there.",
        least=f"{curve.least_pixels / 1e6:.2f}",
        most=f"{curve.most_pixels / 1e6:.2f}",
    )


def _nothing() -> Any:
    return text(
        "Nothing is known yet: `gpuwatch watch` or `gpuwatch serve` beside a ComfyUI server (http://HOST:PORT) learns from the "
        "jobs that it runs."
    )
