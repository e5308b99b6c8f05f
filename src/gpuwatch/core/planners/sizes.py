"""Asking for less: a smaller size, the smaller network, the exact rewrite, half precision where the node has an input for it.

The stock DDColor node has no precision input, so that is never advised for it; a size only where the node has that input, with
the need that the profile predicts.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

from gpuwatch.core.case import Case, node_name, told_context
from gpuwatch.core.causes import ABSURD_BYTES, IMPOSSIBLE_BYTES, SMALL_BYTES, least_of_others
from gpuwatch.core.diagnosis import Fix, Grounds, Prediction, Safety
from gpuwatch.core.memory.simulate import Size
from gpuwatch.core.planners.measured import plan_measured_size
from gpuwatch.core.workload import FormInput, Need, WorkloadProfile, fits, largest_fitting_px, predict
from gpuwatch.texts import Text, text

REWRITING_NODE = "GpuwatchDDColor"
"""The node that `gpuwatch node install` puts in place; it takes the stock node's inputs."""
STOCK_PROFILE = "ddcolor"
REWRITE = "fold"
_MARGIN = 0.95
_LEAST_SHARE, _MOST_SHARE = 0.2, 0.95
"""Outside of these a share of the pixels is no advice: so little is another picture, and so much is none less."""


def prediction(case: Case, need: Need) -> Prediction | None:
    """What a need comes to on this card."""
    peak = round(need.on_card(case.room_bytes).process_bytes.high)
    return Prediction(peak, "uncertain" if case.room_bytes is None else fits(need, case.room_bytes))


def need_in(case: Case, profile: WorkloadProfile, variant: str, side_px: int) -> Need:
    """What a size needs on this card, in the profile's precision and rewrite."""
    told = told_context(profile, case.balance)
    return predict(profile, variant, side_px, context_bytes=told, room_bytes=case.room_bytes)


def grounds_of_job(case: Case) -> Grounds:
    """What speaks for a job that needs less: less than usual where it would fit as it is without other programs."""
    in_the_way = (case.others_bytes or 0) >= least_of_others(case)
    return "signs" if case.would_fit_alone and in_the_way else "numbers"


def plan_shrink_size(case: Case) -> list[Fix]:
    """A smaller size: the largest that surely fits, where the node and its network are known."""
    if case.profile is None:
        return plan_measured_size(case) or plan_fewer_pixels(case)
    if case.would_fit and not case.failed_here("free_memory"):
        return []
    profile = case.profile
    was = case.shape.side_px if case.shape else None
    variant = (case.shape.variant if case.shape else None) or next(iter(profile.variants))
    if case.room_bytes is None:
        below = max((was - 1) // profile.step_px * profile.step_px, profile.min_px) if was else profile.default_px
        to = min(profile.default_px, below)
        if to == was:
            return []
    else:
        fitting = largest_fitting_px(profile, variant, case.room_bytes, below_px=was)
        if fitting is None:
            return []
        to = fitting
    need = need_in(case, profile, variant, to)
    params: dict[str, Any] = {
        "node_type": case.incident.node.type,
        "input": profile.size_input,
        "from": was,
        "to": to,
        "variant": variant,
    }
    words: dict[str, Any] = {
        "input": profile.size_input,
        "size": to,
        "was": was,
        "node": node_name(case),
        "need_bytes": need.process_bytes.high,
    }
    title = (
        text("Set {input} to {size} on {node} (it was {was}): needs at most {need_bytes}.", **words)
        if was
        else text("If {input} on {node} is above {size}, set it to {size}: needs at most {need_bytes}.", **words)
    )
    return [
        Fix(
            "shrink_size",
            title,
            "changes_output",
            params,
            prediction(case, need),
            note=_note_on_size(case, variant),
            grounds=grounds_of_job(case) if was and case.room_bytes is not None else "general",
        )
    ]


def _note_on_size(case: Case, variant: str) -> Text:
    if case.room_bytes is None:
        return text("Neither the log nor a driver tells the card's size: `gpuwatch diagnose --gpu-memory 8GiB` gives the size "
                    "that fits it.")  # fmt: skip
    if case.shape and case.shape.variant:
        return text("The size changes the colours, not the sharpness: the photo keeps its own lightness.")
    return text("The log does not say which checkpoint ran; the number is for the {variant} network.", variant=variant)


def plan_fewer_pixels(case: Case) -> list[Fix]:
    """For a node without a profile: by how much its picture must shrink, where the failed request tells that."""
    node, balance = case.incident.node, case.balance
    if (node.type or "").endswith("Loader"):
        return [_smaller_model(case)]
    if balance.tried_bytes is not None and balance.tried_bytes >= IMPOSSIBLE_BYTES:
        title = text(
            "Update the node's pack and its runtime: a size is reckoned wrong there, which no setting changes."
        )
        return [Fix("install", title, "restarts")]
    named = bool(node.type or node.pack)
    share = share_of_pixels(case)
    if share is not None:
        words: dict[str, Any] = {"share_ratio": share, "factor": f"{sqrt(share):.2f}", "node": node_name(case)}
        title = (
            text("Give {node} about {share_ratio} of the pixels (each side times {factor}), or of the frames.", **words)
            if named
            else text("Use about {share_ratio} of the pixels (each side times {factor}), or of the frames.", **words)
        )
        note = text(
            "Computed: {tried_bytes} was asked for at once and {free_bytes} was free. It holds where that request grows with the "
            "picture; `gpuwatch fix` changes the workflow so.",
            tried_bytes=balance.tried_bytes, free_bytes=balance.free_bytes,
        )  # fmt: skip
        return [Fix("shrink_size", title, "changes_output", params={"share": share}, note=note, grounds="signs")]
    title = (
        text("Use a smaller image or latent size, or fewer frames, for {node}.", node=node_name(case))
        if named
        else text("Use a smaller image or latent size, or fewer frames.")
    )
    whole = balance.total_bytes or ABSURD_BYTES
    if balance.tried_bytes is not None and balance.tried_bytes >= whole:
        note = text(
            "Freeing memory cannot help: this one request is {times} times what the card has.",
            times=f"{balance.tried_bytes / whole:.1f}",
        ) if balance.total_bytes else text("Freeing memory cannot help against a request of this size.")  # fmt: skip
        return [Fix("shrink_size", title, "changes_output", note=note, grounds="numbers")]
    if balance.tried_bytes is None:
        note = text(
            "The log gives no sizes, so no number can be given; the vendor's tool (`nvidia-smi`, `rocm-smi`) tells the card's "
            "size and who holds it."
        )
    elif balance.short_bytes is not None:
        note = text(
            "{short_bytes} was missing. How much smaller that is cannot be said: no memory profile of this node is known.",
            short_bytes=balance.short_bytes,
        )
    else:
        note = text("No memory profile of this node is known, so no number can be given.")
    return [Fix("shrink_size", title, "changes_output", note=note, grounds=grounds_of_less(case))]


def grounds_of_less(case: Case) -> Grounds:
    """What speaks for asking for less: little, where enough was free or next to nothing was asked for."""
    tried = case.balance.tried_bytes
    small = tried is not None and tried < SMALL_BYTES
    return "weak" if small or case.balance.oddity == "free_enough" else "general"


def share_of_pixels(case: Case) -> float | None:
    """The share of the failed request that was free, with a margin; None where that tells nothing of the size."""
    balance = case.balance
    if case.incident.label == "cuda_oom_fragmentation":
        return None
    if balance.oddity is not None or balance.tried_bytes is None or balance.short_bytes is None:
        return None
    share = _MARGIN * (balance.free_bytes or 0) / balance.tried_bytes
    return round(share, 2) if _LEAST_SHARE <= share <= _MOST_SHARE else None


def _smaller_model(case: Case) -> Fix:
    """For a node that loads a model: no picture's size helps it."""
    title = text("Choose a smaller or quantised file of the model in {node} (fp8, GGUF).", node=node_name(case))
    return Fix(
        "correct_input", title, "changes_output", note=text("It failed while a model was loaded: sizes do not matter.")
    )


def plan_tiny_checkpoint(case: Case) -> list[Fix]:
    """The smaller network at the same size, where that fits and is not what ran."""
    profile, shape = case.profile, case.shape
    if profile is None or shape is None or shape.side_px is None or case.room_bytes is None or case.would_fit:
        return []
    tiny = profile.variants.get("tiny")
    if tiny is None or shape.variant in (None, "tiny") or case.need is None:
        return []
    need = need_in(case, profile, "tiny", shape.side_px)
    if fits(need, case.room_bytes) != "yes":
        return []
    params = {"node_type": case.incident.node.type, "input": profile.checkpoint_input, "to": tiny.checkpoints[0]}
    title = text(
        "Use {checkpoint} and keep {input} {size}: needs at most {need_bytes}.",
        checkpoint=tiny.checkpoints[0], input=profile.size_input, size=shape.side_px, need_bytes=need.process_bytes.high,
    )  # fmt: skip
    return [
        Fix(
            "tiny_checkpoint",
            title,
            "changes_output",
            params,
            prediction(case, need),
            note=text("It is another network: colours differ."),
            grounds=grounds_of_job(case),
        )
    ]


def plan_switch_node(case: Case) -> list[Fix]:
    """gpuwatch's own node with its exact rewrite, where the same size then fits and the stock node's does not."""
    profile, shape = case.profile, case.shape
    if profile is None or profile.id != STOCK_PROFILE or shape is None or shape.side_px is None:
        return []
    room, variant = case.room_bytes, shape.variant or next(iter(profile.variants))
    size, rewritten = Size(shape.side_px, shape.side_px), replace(profile, rewrite=REWRITE)
    if room is None or rewritten.invalid(size) is not None:
        return []
    if profile.invalid(size) is None and fits(need_in(case, profile, variant, shape.side_px), room) == "yes":
        return []
    need = need_in(case, rewritten, variant, shape.side_px)
    if fits(need, room) != "yes":
        return []
    title = text(
        "Use the node {to} with low_memory {rewrite} and keep {input} {size}: needs at most {need_bytes}.",
        to=REWRITING_NODE, rewrite=REWRITE, input=profile.size_input, size=shape.side_px,
        need_bytes=need.process_bytes.high,
    )  # fmt: skip
    note = text(
        "Install it once and restart ComfyUI; in the workflow only the node's type changes. Colours agree to 1e-5."
    )
    params = {"node_type": case.incident.node.type, "to": REWRITING_NODE, "inputs": {"low_memory": REWRITE}}
    command = "gpuwatch node install COMFYUI_DIR"
    return [Fix("switch_node", title, "restarts", params, prediction(case, need), command, note, grounds_of_job(case))]


def plan_correct_input(case: Case) -> list[Fix]:
    """Inputs that only gpuwatch's own node has: its exact rewrite, then half precision, each where the same size then fits."""
    profile, shape, room = case.profile, case.shape, case.room_bytes
    if profile is None or shape is None or not shape.side_px or not shape.variant or room is None or case.would_fit:
        return []
    forms: list[tuple[FormInput, str, WorkloadProfile, Text, Safety]] = []
    if profile.rewrite_input is not None and profile.rewrite != REWRITE:
        note = text("An exact rewrite: colours agree to 1e-5.")
        forms.append((profile.rewrite_input, REWRITE, replace(profile, rewrite=REWRITE), note, "safe"))
    if profile.dtype_input is not None and profile.dtype == "fp32":
        note = text("Half precision: colours differ slightly.")
        forms.append((profile.dtype_input, "fp16", replace(profile, dtype="fp16"), note, "changes_output"))
    for asked, form, other, note, safety in forms:
        value = asked.value_for(form)
        if value is None or other.invalid(Size(shape.side_px, shape.side_px)) is not None:
            continue
        need = need_in(case, other, shape.variant, shape.side_px)
        if fits(need, room) != "yes":
            continue
        title = text(
            "Set {input} to {value} on {node} and keep {size_input} {size}: needs at most {need_bytes}.",
            input=asked.name, value=value, node=node_name(case), size_input=profile.size_input, size=shape.side_px,
            need_bytes=need.process_bytes.high,
        )  # fmt: skip
        params = {"node_type": case.incident.node.type, "input": asked.name, "to": value}
        return [
            Fix("correct_input", title, safety, params, prediction(case, need), note=note, grounds=grounds_of_job(case))
        ]
    return []
