"""From an incident and what surrounds it to a diagnosis: the cause in one sentence, the evidence, the fixes in order."""

from __future__ import annotations

from gpuwatch.core.case import Case, Surroundings, case_of
from gpuwatch.core.causes import cause_of
from gpuwatch.core.confidence import confidence_in_memory, confidence_otherwise
from gpuwatch.core.diagnosis import GROUNDS, Diagnosis, Fix
from gpuwatch.core.incidents import Incident
from gpuwatch.core.memory.curve import Curve
from gpuwatch.core.planners import plan
from gpuwatch.core.rules import MEMORY_LABELS
from gpuwatch.texts import Text, plain, text

_LONGEST_QUOTE = 200
MOST_JOBS = 4
"""Beyond so many jobs that agree with a message, they tell nothing."""


def diagnose(incident: Incident, around: Surroundings) -> Diagnosis:
    """Explain an incident. Pure: the same incident and surroundings give the same diagnosis."""
    case = case_of(incident, around)
    fixes: list[Fix] = []
    for wanted in incident.rule.fixes:
        fixes.extend(plan(wanted, case))
    sure = confidence_in_memory(case) if incident.label in MEMORY_LABELS else confidence_otherwise(case)
    return Diagnosis(cause_of(case), sure, evidence_of(case), ranked(fixes, case))


def ranked(fixes: list[Fix], case: Case) -> tuple[Fix, ...]:
    """The fixes, those first for which most speaks; among equals in the rule's order. What was tried here and did not hold is
    last."""
    by_grounds = sorted(fixes, key=lambda fix: GROUNDS.index(fix.grounds))
    return case.around.tried.ordered(by_grounds, case.server, case.incident.node.type, case.incident.last_at)


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
    if balance.others_bytes is not None and balance.context_bytes is None:
        lines.append(text("Other processes held {others_bytes}.", others_bytes=balance.others_bytes))
    elif balance.others_bytes is not None:
        lines.append(
            text(
                "Other processes held {others_bytes}; this process held {context_bytes} outside PyTorch.",
                others_bytes=balance.others_bytes,
                context_bytes=balance.context_bytes,
            )
        )
    if xids := incident.facts.get("xids"):
        lines.append(text("The driver reported Xid {xids}.", xids=", ".join(str(number) for number in xids)))
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
        if case.allocator == "async":
            lines.append(
                text(
                    "It is that of PyTorch's own allocator; cudaMallocAsync's pool, which was in use, is only known roughly."
                )
            )
    if case.need is None and (known := case.experience) is not None and known.curve is not None:
        lines.append(measured_here(known.curve))
    return tuple(lines)


def measured_here(curve: Curve) -> Text:
    """What a curve rests on."""
    return text(
        "Measured here: {runs} runs of this kind of job, of {least} to {most} megapixels, within {error_ratio}.",
        runs=curve.runs, least=f"{curve.least_pixels / 1e6:.2f}", most=f"{curve.most_pixels / 1e6:.2f}",
        error_ratio=curve.within_ratio,
    )  # fmt: skip


def where_of(case: Case) -> list[Text]:
    """What the message's numbers say of the job: where in the network it died, or which jobs they agree with."""
    if case.strange_request and case.shape is not None:
        return [
            text(
                "No step of the network asks for {tried_bytes} at {input} {size}: the request was another's, or the pack differs.",
                tried_bytes=case.balance.tried_bytes, input=case.shape.profile.size_input, size=case.shape.side_px,
            )
        ]  # fmt: skip
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
