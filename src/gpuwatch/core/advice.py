"""From an incident and what surrounds it to a diagnosis: the cause in one sentence, the evidence, the fixes in order."""

from __future__ import annotations

from typing import Any

from gpuwatch.core.case import Case, Surroundings, case_of, node_name
from gpuwatch.core.diagnosis import Diagnosis, Fix
from gpuwatch.core.incidents import Incident
from gpuwatch.core.planners import FOREIGN_BYTES, plan
from gpuwatch.core.workload import JobShape, Need
from gpuwatch.texts import Text, plain, text

_LONGEST_QUOTE = 200
MOST_JOBS = 4
"""Beyond so many jobs that agree with a message, they tell nothing."""
MEMORY_LABELS = frozenset({"cuda_oom", "cuda_oom_fragmentation", "hip_oom", "xpu_oom"})


def diagnose(incident: Incident, around: Surroundings) -> Diagnosis:
    """Explain an incident. Pure: the same incident and surroundings give the same diagnosis."""
    case = case_of(incident, around)
    fixes: list[Fix] = []
    for wanted in incident.rule.fixes:
        fixes.extend(plan(wanted, case))
    cause, confidence = cause_of(case)
    return Diagnosis(cause, confidence, evidence_of(case), tuple(fixes))


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
        if held >= FOREIGN_BYTES:
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


def evidence_of(case: Case) -> tuple[Text, ...]:
    """What the diagnosis rests on, one sentence each."""
    incident, balance, lines = case.incident, case.balance, []
    lines.append(
        text(
            "Line {line} of {source}: {words}",
            line=incident.line,
            source=incident.source,
            words=shortened(incident.text),
        )
    )
    if incident.also_in:
        lines.append(text("{sources} tells it too.", sources=", ".join(incident.also_in)))
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
    lines += where_of(case)
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


def where_of(case: Case) -> list[Text]:
    """What the message's numbers say of the job: where in the network it died, or which jobs they agree with."""
    shape, died = case.shape, case.died or next(iter(case.answer.candidates), None)
    if shape is None or died is None:
        return []
    values = {"tried_bytes": case.balance.tried_bytes, "input": shape.profile.size_input, "size": died.job.side_px}
    if shape.side_px is not None:
        return [
            text("{tried_bytes} is what {step} asks for when {input} is {size}.", step=plain(died.step), **values),
        ]
    jobs = list(dict.fromkeys((c.job.variant, c.job.side_px) for c in case.answer.candidates))
    if len(jobs) > MOST_JOBS:
        return []
    return [
        text(
            "{tried_bytes} agrees with several jobs: {jobs}.",
            tried_bytes=case.balance.tried_bytes,
            jobs=plain(", ".join(f"{variant} {side}" for variant, side in jobs)),
        )
    ]


def shortened(words: str) -> str:
    """The begin of a long line, an ellipsis where it goes on."""
    return words if len(words) <= _LONGEST_QUOTE else words[:_LONGEST_QUOTE].rpartition(" ")[0] + " …"
