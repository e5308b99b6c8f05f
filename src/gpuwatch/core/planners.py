"""Fixes: one planner a name. A planner gives what can work in this case, as concrete as what is known allows, or nothing.

The stock DDColor node has no precision input and takes one image at a time, so neither precision nor batch is ever advised
for it; a size only where the node has that input, with the need that the profile predicts.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from gpuwatch.core.case import Case, node_name, told_context
from gpuwatch.core.diagnosis import Fix, Prediction, Safety
from gpuwatch.core.memory.simulate import Size
from gpuwatch.core.rules import RuleFix
from gpuwatch.core.workload import MIB, Need, fits, largest_fitting_px, predict
from gpuwatch.texts import Text, text

FOREIGN_BYTES = 256 * MIB
"""What the process must hold beyond the job's own need before we say that something else is in the way."""
REWRITING_NODE = "GpuwatchDDColor"
"""The node that `gpuwatch node install` puts in place; it takes the stock node's inputs."""
_REWRITE = "fold"
_FREE_COMMAND = (
    "curl -X POST http://{server}/free -H 'Content-Type: application/json' "
    '-d \'{{"unload_models": true, "free_memory": true}}\''
)


def plan(wanted: RuleFix, case: Case) -> list[Fix]:
    """The fixes that a rule's entry comes to in this case; none where it cannot work."""
    if wanted.title is not None:
        title = Text(wanted.title.template, dict(case.incident.facts), wanted.title.zh)
        command = wanted.command and fill(wanted.command, case.incident.facts)
        return [Fix(wanted.action, title, wanted.safety or SAFETY.get(wanted.action, "safe"), command=command)]
    return PLANNERS[wanted.action](case)


def fill(command: str, facts: Mapping[str, Any]) -> str:
    """A rule's command with its facts in place, quoted: they come from a log."""
    for name, value in facts.items():
        command = command.replace("{" + name + "}", shlex.quote(str(value)))
    return command


def prediction(case: Case, need: Need) -> Prediction | None:
    """What a need comes to on this card."""
    if case.room_bytes is None:
        return Prediction(round(need.process_bytes.high), "uncertain")
    verdict = fits(need, case.room_bytes)
    return Prediction(round(need.process_bytes.high), verdict)


def plan_shrink_size(case: Case) -> list[Fix]:
    """A smaller size: the largest that surely fits, where the node and its network are known."""
    profile = case.profile
    if profile is None:
        return [
            Fix(
                "shrink_size",
                text("Use a smaller image or latent size, or fewer frames, for {node}.", node=node_name(case))
                if case.incident.node.type or case.incident.node.pack
                else text("Use a smaller image or latent size, or fewer frames."),
                "changes_output",
                note=text("No memory profile of this node is known, so no number can be given."),
            )
        ]
    if case.would_fit:
        return []
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
    need = predict(profile, variant, to, context_bytes=told_context(profile, case.balance), room_bytes=case.room_bytes)
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
    note = (
        text("The size changes the colours, not the sharpness: the photo keeps its own lightness.")
        if case.shape and case.shape.variant
        else text(
            "The log does not say which checkpoint ran; the number is for the {variant} network.", variant=variant
        )
    )
    return [Fix("shrink_size", title, "changes_output", params, prediction(case, need), note=note)]


def plan_tiny_checkpoint(case: Case) -> list[Fix]:
    """The smaller network at the same size, where that fits and is not what ran."""
    profile, shape = case.profile, case.shape
    if profile is None or shape is None or shape.side_px is None or case.room_bytes is None or case.would_fit:
        return []
    tiny = profile.variants.get("tiny")
    if tiny is None or shape.variant in (None, "tiny") or not profile.valid_px(shape.side_px):
        return []
    need = predict(
        profile,
        "tiny",
        shape.side_px,
        context_bytes=told_context(profile, case.balance),
        room_bytes=case.room_bytes,
    )
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
        )
    ]


def plan_switch_node(case: Case) -> list[Fix]:
    """gpuwatch's own node with its exact rewrite, where the same size then fits and the stock node's does not."""
    profile, shape = case.profile, case.shape
    if profile is None or profile.id != "ddcolor" or shape is None or shape.side_px is None or case.room_bytes is None:
        return []
    size = Size(shape.side_px, shape.side_px)
    variant = shape.variant or next(iter(profile.variants))
    told: dict[str, Any] = {"context_bytes": told_context(profile, case.balance), "room_bytes": case.room_bytes}
    stock = None if profile.invalid(size) else predict(profile, variant, shape.side_px, **told)
    if profile.invalid(size, _REWRITE) or (stock is not None and fits(stock, case.room_bytes) == "yes"):
        return []
    need = predict(profile, variant, shape.side_px, rewrite=_REWRITE, **told)
    if fits(need, case.room_bytes) != "yes":
        return []
    title = text(
        "Use the node {to} with low_memory {rewrite} and keep {input} {size}: needs at most {need_bytes}.",
        to=REWRITING_NODE, rewrite=_REWRITE, input=profile.size_input, size=shape.side_px,
        need_bytes=need.process_bytes.high,
    )  # fmt: skip
    note = text(
        "Install it once and restart ComfyUI; in the workflow only the node's type changes. Colours agree to 1e-5."
    )
    params = {"node_type": case.incident.node.type, "to": REWRITING_NODE, "inputs": {"low_memory": _REWRITE}}
    command = "gpuwatch node install COMFYUI_DIR"
    return [Fix("switch_node", title, "restarts", params, prediction(case, need), command, note)]


def plan_free_memory(case: Case) -> list[Fix]:
    """Free what the process holds for others, where that is in the way or where nothing is known of the job."""
    if case.need is not None and not case.would_fit:
        return []
    server = case.around.server.server if case.around.server else "127.0.0.1:8188"
    return [
        Fix(
            "free_memory",
            text("Free the models and cached nodes that ComfyUI holds, then queue the prompt again."),
            "safe",
            {"unload_models": True, "free_memory": True},
            prediction(case, case.need) if case.need else None,
            _FREE_COMMAND.format(server=server),
            text("`free_memory` also drops the cached nodes, so the next prompt computes everything anew."),
        )
    ]


def plan_unload_others(case: Case) -> list[Fix]:
    """End what other programs hold, where they hold enough to matter."""
    others = case.balance.others_bytes
    if others is None or others < FOREIGN_BYTES:
        return []
    own = {"python", "python3"}
    named = [
        p for p in (case.around.gpu.processes if case.around.gpu else ()) if p.used_bytes and (p.name or "") not in own
    ]
    worst = max(named, key=lambda process: process.used_bytes or 0, default=None)
    if worst is not None:
        return [
            Fix(
                "unload_others",
                text(
                    "Close {name} (pid {pid}): it holds {held_bytes} on this card.",
                    name=worst.name or "?",
                    pid=worst.pid,
                    held_bytes=worst.used_bytes,
                ),
                params={"pid": worst.pid},
            )
        ]
    return [
        Fix(
            "unload_others",
            text("Close other programs on this GPU: they hold {held_bytes}.", held_bytes=others),
            command="nvidia-smi",
        )
    ]


def plan_expandable_segments(case: Case) -> list[Fix]:
    """Less fragmentation, where idle memory would have been enough and the native allocator is in use."""
    slack, tried = case.balance.slack_bytes, case.balance.tried_bytes
    if slack is None or tried is None or slack < tried:
        return []
    return [
        Fix(
            "expandable_segments",
            text("Start ComfyUI with expandable segments: {slack_bytes} lay idle in pieces.", slack_bytes=slack),
            "restarts",
            {"expandable_segments": True},
            command="PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True python main.py",
        )
    ]


def plan_tile_vae(case: Case) -> list[Fix]:
    """Tiles for the VAE, where the traceback is in it."""
    names = {f"{frame.function or ''} {frame.file}".lower() for frame in case.incident.frames}
    in_vae = any("vae" in name or "autoencoder" in name for name in names) or (
        case.incident.node.type or ""
    ).startswith("VAE")
    if not in_vae:
        return []
    return [
        Fix(
            "tile_vae",
            text("Replace VAEDecode by VAEDecodeTiled (tile size 512): the image is the same but for faint seams."),
            "changes_output",
        )
    ]


def plan_reduce_batch(case: Case) -> list[Fix]:
    """A smaller batch, where the node's memory grows with it."""
    if case.profile is not None:  # DDColor's node takes one image at a time: its batch does not raise the peak
        return []
    return [Fix("reduce_batch", text("Lower batch_size: most nodes' memory grows in proportion."), "changes_output")]


def simple(
    action: str, title: Text, safety: Safety = "safe", command: str | None = None
) -> Callable[[Case], list[Fix]]:
    """A planner whose advice does not depend on numbers."""
    return lambda _case: [Fix(action, title, safety, command=command)]


PLANNERS: Mapping[str, Callable[[Case], list[Fix]]] = {
    "shrink_size": plan_shrink_size,
    "switch_node": plan_switch_node,
    "tiny_checkpoint": plan_tiny_checkpoint,
    "free_memory": plan_free_memory,
    "unload_others": plan_unload_others,
    "expandable_segments": plan_expandable_segments,
    "tile_vae": plan_tile_vae,
    "reduce_batch": plan_reduce_batch,
    "restart_server": simple("restart_server", text("Restart ComfyUI, then queue the prompt again."), "restarts"),
    "isolate_node": simple(
        "isolate_node",
        text("Run once with CUDA_LAUNCH_BLOCKING=1: the traceback then names the node that is really at fault."),
        "restarts",
        "CUDA_LAUNCH_BLOCKING=1 python main.py",
    ),
    "reset_gpu": simple(
        "reset_gpu",
        text("Reset the GPU, or reboot where the reset is refused."),
        "restarts",
        "sudo nvidia-smi --gpu-reset",
    ),
    "reboot": simple("reboot", text("Reboot the machine."), "restarts"),
    "update_driver": simple("update_driver", text("Update the NVIDIA driver."), "restarts"),
    "free_disk": simple("free_disk", text("Free space on the disk that is full."), "safe", "df -h"),
    "free_host_memory": simple(
        "free_host_memory", text("Close other programs or add swap: the machine's own memory ran out, not the GPU's.")
    ),
    "contact_support": simple(
        "contact_support", text("If it comes again after a reboot, have the card checked by its vendor.")
    ),
}
"""Planner by name. The remaining names of `rules.ACTIONS` need words of the rule's own: a rule gives them a title."""

SAFETY: Mapping[str, Safety] = {
    "restart_server": "restarts", "launch_flag": "restarts", "reset_gpu": "restarts", "reboot": "restarts",
    "update_driver": "restarts", "expandable_segments": "restarts", "shrink_size": "changes_output",
    "tile_vae": "changes_output", "reduce_batch": "changes_output", "tiny_checkpoint": "changes_output",
}  # fmt: skip
