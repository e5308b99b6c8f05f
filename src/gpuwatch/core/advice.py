"""From an incident and what surrounds it to a diagnosis: the cause in one sentence, evidence, and fixes that can work.

A fix is offered only where it can work: a size only where the node has that input, with the need that the profile predicts;
"free memory" only where something that can be freed is in the way. The stock DDColor node has no precision input, so no
precision is ever advised for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.core.balance import Balance, balance_of
from gpuwatch.core.diagnosis import Diagnosis, Fix, Prediction, Safety
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import GpuSample, JobEnded, ServerSeen
from gpuwatch.core.rules import RuleFix
from gpuwatch.core.workload import (
    MIB,
    JobShape,
    Need,
    WorkloadProfile,
    Workloads,
    fits,
    largest_fitting_px,
    predict,
    shape_from_inputs,
    shape_from_numbers,
)
from gpuwatch.texts import Text, text

MEMORY_LABELS = frozenset({"cuda_oom", "cuda_oom_fragmentation", "hip_oom", "xpu_oom"})
_FOREIGN_BYTES = 256 * MIB
"""What the process must hold beyond the job's own need before we say that something else is in the way."""
_FREE_COMMAND = (
    "curl -X POST http://{server}/free -H 'Content-Type: application/json' "
    '-d \'{{"unload_models": true, "free_memory": true}}\''
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was known besides the log when the incident was diagnosed."""

    workloads: Workloads = field(default_factory=Workloads)
    gpu_total_bytes: int | None = None
    """Told by the person on the command line."""
    gpu: GpuSample | None = None
    """The driver's word on the card, nearest to the failure."""
    server: ServerSeen | None = None
    job: JobEnded | None = None
    known_total_bytes: int | None = None
    """The card's size as an earlier failure of the same log told it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One failure with everything a planner may ask."""

    incident: Incident
    around: Surroundings
    balance: Balance
    profile: WorkloadProfile | None
    shape: JobShape | None
    need: Need | None
    room_bytes: float | None

    @property
    def foreign_bytes(self) -> int | None:
        """What the process holds beyond this job's own need: other models, another node's copy."""
        if self.need is None or self.balance.allocated_bytes is None:
            return None
        return max(self.balance.allocated_bytes - self.need.live_bytes, 0)

    @property
    def would_fit(self) -> bool:
        """Whether the job as it was would fit if what is in its way were gone."""
        return self.need is not None and self.room_bytes is not None and fits(self.need, self.room_bytes) == "yes"


def diagnose(incident: Incident, around: Surroundings) -> Diagnosis:
    """Explain an incident. Pure: the same incident and surroundings give the same diagnosis."""
    case = case_of(incident, around)
    fixes: list[Fix] = []
    for wanted in incident.rule.fixes:
        fixes.extend(plan(wanted, case))
    cause, confidence = cause_of(case)
    return Diagnosis(cause, confidence, evidence_of(case), tuple(fixes))


def case_of(incident: Incident, around: Surroundings) -> Case:
    """Put together what is known of the card, the job and its need."""
    balance = balance_of(incident.facts)
    if around.gpu_total_bytes is not None:
        balance = (
            Balance(total_bytes=around.gpu_total_bytes, tried_bytes=balance.tried_bytes, total_from="command line")
            if (balance.total_bytes is not None and balance.total_bytes != around.gpu_total_bytes)
            else balance.with_total(around.gpu_total_bytes, "command line")
        )
    if around.gpu is not None:
        balance = balance.with_total(around.gpu.total_bytes, "driver")
    if around.server is not None:
        balance = balance.with_total(around.server.total_bytes, "server")
    balance = balance.with_total(around.known_total_bytes, "earlier failure")
    profile = around.workloads.find(incident.node.type, incident.node.pack)
    shape = shape_of(profile, incident, balance) if profile else None
    need = None
    if profile and shape and shape.side_px and shape.variant and profile.valid_px(shape.side_px):
        need = predict(profile, shape.variant, shape.side_px, context_bytes=told_context(profile, balance))
    context = profile.context_bytes.high if profile else 0.6 * (1 << 30)
    return Case(incident, around, balance, profile, shape, need, balance.room_bytes(context))


def told_context(profile: WorkloadProfile, balance: Balance) -> float | None:
    """What the process holds outside PyTorch, as far as the message tells: exactly, or at most what is nobody else's."""
    if balance.context_bytes is not None:
        return balance.context_bytes
    room = balance.room_bytes(0)
    if balance.told_room and room is not None and balance.total_bytes is not None:
        return max(min(profile.context_bytes.high, balance.total_bytes - room), 0)
    return None


def shape_of(profile: WorkloadProfile, incident: Incident, balance: Balance) -> JobShape:
    """Which job it was: the failed node's own inputs first, the message's numbers turned round second."""
    return (
        shape_from_inputs(profile, incident.node.inputs)
        or shape_from_numbers(profile, balance.tried_bytes, balance.allocated_bytes)
        or JobShape(profile)
    )


# -- the sentence ----------------------------------------------------------------------------------------------------------


def cause_of(case: Case) -> tuple[Text, float]:
    """The cause in one sentence and how sure it is."""
    incident, balance = case.incident, case.balance
    if incident.label not in MEMORY_LABELS:
        return Text(incident.rule.why.template, dict(incident.facts), incident.rule.why.zh), 0.8
    if case.need is not None and case.shape is not None:
        return cause_of_known_job(case, case.need, case.shape)
    asked = {"tried_bytes": balance.tried_bytes, "free_bytes": balance.free_bytes, "total_bytes": balance.total_bytes}
    node = node_name(case)
    if balance.tried_bytes and balance.total_bytes and balance.tried_bytes > balance.total_bytes:
        return text(
            "{node} asked for {tried_bytes} at once; the whole card has {total_bytes}.", node=node, **asked
        ), 0.9
    if balance.tried_bytes and balance.free_bytes is not None and balance.total_bytes:
        if incident.label == "cuda_oom_fragmentation":
            return text(
                "{node} asked for {tried_bytes}; PyTorch held {slack_bytes} idle, but in pieces that are too small.",
                node=node, slack_bytes=balance.slack_bytes, **asked,
            ), 0.85  # fmt: skip
        return text(
            "{node} asked for {tried_bytes} more while {free_bytes} of {total_bytes} was free.", node=node, **asked
        ), 0.7
    if balance.tried_bytes:
        return text("{node} asked for {tried_bytes} more than the GPU had left.", node=node, **asked), 0.6
    if balance.total_bytes:
        return text(
            "{node} needed more GPU memory than was left of {total_bytes}; the log gives no sizes.", node=node, **asked
        ), 0.5
    return text("{node} needed more GPU memory than was left; the log gives no sizes.", node=node), 0.5


def cause_of_known_job(case: Case, need: Need, shape: JobShape) -> tuple[Text, float]:
    """The sentence for a job whose node, size and network are known."""
    values: dict[str, Any] = {
        "node": node_name(case),
        "input": shape.profile.size_input,
        "size": need.side_px,
        "variant": need.variant,
        "need_bytes": need.process_bytes.mid,
        "total_bytes": case.balance.total_bytes,
        "room_bytes": case.room_bytes,
    }
    sure = 0.95 if shape.known_from == "inputs" else 0.9
    if case.would_fit:
        held = case.foreign_bytes or 0
        if held >= _FOREIGN_BYTES:
            return text(
                "{node} at {input} {size} ({variant} network) needs about {need_bytes}, which this card has; "
                "about {held_bytes} of other models in the same process was in the way.",
                **values, held_bytes=held,
            ), sure - 0.1  # fmt: skip
        return text(
            "{node} at {input} {size} ({variant} network) needs about {need_bytes}, which this card has; "
            "something else held the memory.",
            **values,
        ), sure - 0.2  # fmt: skip
    if case.balance.total_bytes is None:
        return text("{node} at {input} {size} ({variant} network) needs about {need_bytes}.", **values), sure - 0.2
    return text(
        "{node} at {input} {size} ({variant} network) needs about {need_bytes}; the card has {total_bytes} in all.",
        **values,
    ), sure


def node_name(case: Case) -> Text | str:
    """What to call the failed node: its type, else the workload, else the pack that the traceback ran through."""
    node = case.incident.node
    return node.type or node.pack or text("The job")


def evidence_of(case: Case) -> tuple[Text, ...]:
    """What the diagnosis rests on, one sentence each."""
    incident, balance, lines = case.incident, case.balance, []
    lines.append(
        text("Line {line} of {source}: {words}", line=incident.line, source=incident.source, words=incident.text[:240])
    )
    if balance.allocated_bytes is not None:
        lines.append(
            text(
                "PyTorch held {allocated_bytes} in tensors and {slack_bytes} idle.",
                allocated_bytes=balance.allocated_bytes,
                slack_bytes=balance.slack_bytes,
            )
            if balance.slack_bytes is not None
            else text("PyTorch held {allocated_bytes} in tensors.", allocated_bytes=balance.allocated_bytes)
        )
    if balance.others_bytes is not None:
        lines.append(
            text(
                "Other processes held {others_bytes}; this process held {context_bytes} outside PyTorch.",
                others_bytes=balance.others_bytes,
                context_bytes=balance.context_bytes,
            )
        )
    if case.shape and case.shape.known_from == "numbers" and case.shape.side_px:
        lines.append(
            text(
                "{tried_bytes} is what the network asks for at its peak when {input} is {size}.",
                tried_bytes=balance.tried_bytes,
                input=case.shape.profile.size_input,
                size=case.shape.side_px,
            )
        )
    if case.around.job is not None and incident.node.inputs:
        shown = ", ".join(f"{name}={value}" for name, value in list(incident.node.inputs.items())[:6])
        lines.append(text("The failed node's inputs: {inputs}.", inputs=shown))
    gpu = case.around.gpu
    if gpu is not None and gpu.used_bytes is not None and gpu.total_bytes is not None:
        lines.append(
            text(
                "The driver counted {used_bytes} of {total_bytes} in use on {gpu}.",
                used_bytes=gpu.used_bytes,
                total_bytes=gpu.total_bytes,
                gpu=gpu.name,
            )
        )
    if case.need is not None and case.shape is not None:
        lines.append(text("Predicted need: {source}.", source=case.shape.profile.source))
    return tuple(lines)


# -- fixes -----------------------------------------------------------------------------------------------------------------


def plan(wanted: RuleFix, case: Case) -> list[Fix]:
    """The fixes that a rule's entry comes to in this case; none where it cannot work."""
    if wanted.title is not None:
        title = Text(wanted.title.template, dict(case.incident.facts), wanted.title.zh)
        command = wanted.command and fill(wanted.command, case.incident.facts)
        return [Fix(wanted.action, title, wanted.safety or SAFETY.get(wanted.action, "safe"), command=command)]
    return PLANNERS[wanted.action](case)


def fill(command: str, facts: Mapping[str, Any]) -> str:
    """A rule's command with its facts in place."""
    for name, value in facts.items():
        command = command.replace("{" + name + "}", str(value))
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
                text("Use a smaller image or latent size, or fewer frames, for {node}.", node=node_name(case)),
                "changes_output",
                note=text("No memory profile of this node is known, so no number can be given."),
            )
        ]
    if case.would_fit:
        return []
    was = case.shape.side_px if case.shape else None
    variant = (case.shape.variant if case.shape else None) or next(iter(profile.variants))
    if case.room_bytes is None:
        to = min(profile.default_px, was - profile.step_px) if was else profile.default_px
    else:
        fitting = largest_fitting_px(profile, variant, case.room_bytes, below_px=was)
        if fitting is None:
            return []
        to = fitting
    need = predict(profile, variant, to, context_bytes=told_context(profile, case.balance))
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
    need = predict(profile, "tiny", shape.side_px, context_bytes=told_context(profile, case.balance))
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
    if others is None or others < _FOREIGN_BYTES:
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
