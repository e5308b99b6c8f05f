"""Why it failed, in one sentence: with the numbers of message, job, driver and memory model where they are known."""

from __future__ import annotations

import re
from typing import Any

from gpuwatch.core.balance import USUAL_CONTEXT_BYTES
from gpuwatch.core.case import Case, node_name
from gpuwatch.core.rules import MEMORY_LABELS
from gpuwatch.core.workload import MIB, JobShape, Need
from gpuwatch.texts import Text, plain, text

FOREIGN_BYTES = 256 * MIB
"""What the process must hold beyond the job's own need before we say that something else is in the way."""
ABSURD_BYTES = 96 << 30
"""More than a workstation's card has."""
RECKONED_BYTES = 1 << 30
"""What others hold, where it is only reckoned, before anybody is accused: contexts and screens take some of it."""
IMPOSSIBLE_BYTES = 1 << 47
"""More than any machine has: a number that went wrong."""
SMALL_BYTES = 64 * MIB
"""Whoever is refused so little has not asked for too much."""
_KILLED = re.compile(r"\bKill(?:ed)? process (\d{1,10})[ ,]{1,3}\(?([\w.:+-]{1,64})\)?")
_RSS = re.compile(r"anon-rss:\s?([\d,]{1,20})\s?kB")


def cause_of(case: Case) -> Text:
    """The cause in one sentence; a second one where the worker ended with it."""
    why = cause_of_failure(case)
    if not case.incident.worker_dead or case.incident.label == "worker_dead":
        return why
    return text(
        "{why} The thread that runs prompts ended with it: prompts are still taken, and none will run.", why=why
    )


def cause_of_failure(case: Case) -> Text:
    """The cause in one sentence."""
    if case.incident.label in MEMORY_LABELS:
        if case.need is not None and case.shape is not None:
            return cause_of_known_job(case, case.need, case.shape)
        return cause_of_measured_job(case) or cause_in_numbers(case)
    special = OTHERS.get(case.incident.label)
    found = special(case) if special else None
    if found is not None:
        return found
    rule = case.incident.rule
    return Text(rule.why.template, dict(case.incident.facts), rule.why.zh)


def cause_of_known_job(case: Case, need: Need, shape: JobShape) -> Text:
    """The sentence for a job whose node, size and network are known."""
    values: dict[str, Any] = {
        "node": node_name(case),
        "input": shape.profile.size_input,
        "size": need.side_px,
        "variant": need.variant,
        "need_bytes": need.process_bytes.mid,
        "total_bytes": case.balance.total_bytes,
    }
    if case.would_fit or (case.would_fit_alone and (case.others_bytes or 0) >= least_of_others(case)):
        held, others = case.foreign_bytes or 0, case.others_bytes or 0
        if case.would_fit and held >= FOREIGN_BYTES and held >= others:
            return text(
                "{node} at {input} {size} ({variant} network) needs about {need_bytes}, which this card has; "
                "about {held_bytes} of other models in the same process was in the way.",
                **values, held_bytes=held,
            )  # fmt: skip
        if others >= least_of_others(case):
            return text(
                "{node} at {input} {size} ({variant} network) needs about {need_bytes}, which this card has; "
                "other programs held {held_bytes} of it.",
                **values, held_bytes=others,
            )  # fmt: skip
        return text(
            "{node} at {input} {size} ({variant} network) needs about {need_bytes}, which this card has; "
            "something else held the memory.",
            **values,
        )
    if case.balance.total_bytes is None:
        return text("{node} at {input} {size} ({variant} network) needs about {need_bytes}.", **values)
    if case.balance.allowed_bytes is not None and case.would_fit_alone:
        return text(
            "{node} at {input} {size} ({variant} network) needs about {need_bytes}; the card has {total_bytes}, but "
            "PyTorch was limited to {allowed_bytes} here.",
            **values, allowed_bytes=case.balance.allowed_bytes,
        )  # fmt: skip
    return text(
        "{node} at {input} {size} ({variant} network) needs about {need_bytes}; the card has {total_bytes} in all.",
        **values,
    )


def cause_of_measured_job(case: Case) -> Text | None:
    """The sentence for a job whose kind has run here at other sizes, where by those it does not fit, or is larger than all."""
    known, ran, need, room = case.experience, case.ran, case.measured_need, case.measured_room_bytes
    if known is None or known.curve is None or ran is None or room is None or case.balance.oddity is not None:
        return None
    values: dict[str, Any] = {
        "node": node_name(case),
        "megapixels": f"{ran.pixels / 1e6:.2f}",
        "total_bytes": case.balance.total_bytes,
    }
    if need is None and ran.pixels > known.curve.most_pixels:
        return text(
            "{node} ran in a job of {megapixels} megapixels; the largest of this kind measured here had {most} and took about "
            "{need_bytes} of the card's {total_bytes}.",
            most=f"{known.curve.most_pixels / 1e6:.2f}", need_bytes=known.curve.peak_bytes(known.curve.most_pixels).mid,
            **values,
        )  # fmt: skip
    if need is None or need.high <= room:
        return None
    return text(
        "{node} ran in a job of {megapixels} megapixels, which takes about {need_bytes} by the runs measured here; the card has "
        "{total_bytes}.",
        need_bytes=need.mid, **values,
    )  # fmt: skip


def cause_in_numbers(case: Case) -> Text:
    """The sentence where only the message's and the driver's numbers are known, as many as there are."""
    balance = case.balance
    values: dict[str, Any] = {
        "node": node_name(case),
        "tried_bytes": balance.tried_bytes,
        "free_bytes": balance.free_bytes,
        "total_bytes": balance.total_bytes,
        "held_bytes": balance.reserved_bytes if balance.reserved_bytes is not None else balance.allocated_bytes,
    }
    if balance.tried_bytes is None:
        return cause_without_sizes(case)
    if balance.total_bytes is not None and balance.tried_bytes > balance.total_bytes:
        return text("{node} asked for {tried_bytes} at once; the whole card has {total_bytes}.", **values)
    if balance.total_bytes is None and balance.tried_bytes >= ABSURD_BYTES:
        return text(
            "{node} asked for {tried_bytes} at once, more than almost any card has: the picture, the number of frames or the "
            "batch is far too large.",
            **values,
        )
    odd = cause_of_oddity(case, values) or cause_of_block_limit(case, balance.tried_bytes)
    if odd is not None:
        return odd
    if balance.free_bytes is None or balance.total_bytes is None:
        if balance.total_bytes is not None and values["held_bytes"] is not None:
            return text(
                "{node} asked for {tried_bytes} more; PyTorch already held {held_bytes} of {total_bytes}.", **values
            )
        return text("{node} asked for {tried_bytes}; the GPU had less than that left.", **values)
    if balance.fragmented and case.incident.label == "cuda_oom_fragmentation":
        return text(
            "{node} asked for {tried_bytes}; PyTorch held {slack_bytes} idle, but in pieces that are too small.",
            slack_bytes=balance.slack_bytes, **values,
        )  # fmt: skip
    short = balance.short_bytes or 0
    others = case.others_bytes or 0
    if others >= max(short, least_of_others(case)):
        return text(
            "{node} asked for {tried_bytes} while {free_bytes} of {total_bytes} was free; other programs held about "
            "{others_bytes}.",
            others_bytes=others, **values,
        )  # fmt: skip
    rest = (balance.outside_bytes or 0) - USUAL_CONTEXT_BYTES
    if case.allocator == "async" and rest >= FOREIGN_BYTES:
        return text(
            "{node} asked for {tried_bytes} while {free_bytes} of {total_bytes} was free, {short_bytes} too little; tensors "
            "held {held_bytes}, and {rest_bytes} was other programs' or lay idle in the driver's pool.",
            short_bytes=short, rest_bytes=balance.outside_bytes, **values,
        )  # fmt: skip
    if balance.fragmented:
        return text(
            "{node} asked for {tried_bytes} while {free_bytes} of {total_bytes} was free: {short_bytes} too little, and "
            "{slack_bytes} lay idle in pieces.",
            short_bytes=short, slack_bytes=balance.slack_bytes, **values,
        )  # fmt: skip
    return text(
        "{node} asked for {tried_bytes} while {free_bytes} of {total_bytes} was free: {short_bytes} too little.",
        short_bytes=short, **values,
    )  # fmt: skip


def least_of_others(case: Case) -> int:
    """What others must hold to be spoken of: less where somebody told it outright."""
    return FOREIGN_BYTES if case.balance.others_bytes is not None else RECKONED_BYTES


def cause_of_oddity(case: Case, values: dict[str, Any]) -> Text | None:
    """The sentence where the message's numbers contradict each other."""
    oddity = case.balance.oddity
    if oddity in ("limited", "free_enough") and case.balance.total_bytes is None:
        return text(
            "{node} was refused {tried_bytes} although {free_bytes} was free: a limit on the process or the container, on Windows "
            "a full paging file, or another program that held it a moment before.",
            **values,
        )
    if oddity == "limited":
        return text(
            "{node} asked for {tried_bytes} while {free_bytes} of {total_bytes} was free: PyTorch was limited to "
            "{allowed_bytes} in this process (set_per_process_memory_fraction).",
            allowed_bytes=case.balance.allowed_bytes, **values,
        )  # fmt: skip
    if oddity == "beyond_card":
        return text(
            "{node} asked for {tried_bytes} more while {held_bytes} was held on a card of {total_bytes}: the driver had put "
            "the rest into the machine's memory (Windows' shared GPU memory), and that ended too.",
            **{**values, "held_bytes": max(values["held_bytes"] or 0, case.balance.process_bytes or 0)},
        )
    if oddity == "free_enough":
        return text(
            "{node} was refused {tried_bytes} although {free_bytes} of {total_bytes} was free: a limit on the process or the "
            "container, on Windows a full paging file, or another program that held it a moment before.",
            **values,
        )
    return None


def cause_of_block_limit(case: Case, tried_bytes: int) -> Text | None:
    """The sentence where one block was larger than the driver gives in one piece, however much is free."""
    limit = case.incident.facts.get("limit_bytes")
    if not isinstance(limit, int) or tried_bytes <= limit:
        return None
    return text(
        "{node} asked for one block of {tried_bytes}; this GPU gives at most {limit_bytes} in one piece, however much is free.",
        node=node_name(case), tried_bytes=tried_bytes, limit_bytes=limit,
    )  # fmt: skip


def cause_without_sizes(case: Case) -> Text:
    """The sentence where the log gives no sizes: with the driver's word of that second, where there is one."""
    gpu, node, total = case.around.gpu, node_name(case), case.balance.total_bytes
    if gpu is not None and gpu.used_bytes is not None and gpu.total_bytes is not None:
        return text(
            "{node} needed more GPU memory than was left; the log gives no sizes, the driver counted {used_bytes} of "
            "{total_bytes} in use.",
            node=node, used_bytes=gpu.used_bytes, total_bytes=gpu.total_bytes,
        )  # fmt: skip
    if total is not None:
        return text(
            "{node} needed more GPU memory than was left of {total_bytes}; the log gives no sizes.",
            node=node,
            total_bytes=total,
        )
    return text("{node} needed more GPU memory than was left; the log gives no sizes.", node=node)


def cause_of_mps(case: Case) -> Text | None:
    """On a Mac: PyTorch's part, what else is allocated through Metal, and the limit."""
    facts = case.incident.facts
    tried, allowed, other = (
        facts.get(name) for name in ("tried_bytes", "max_allowed_bytes", "other_allocations_bytes")
    )
    held = case.balance.allocated_bytes
    if tried is None or allowed is None or held is None:
        return None
    return text(
        "{node} asked for {tried_bytes} more; PyTorch held {held_bytes} and other allocations {other_bytes} of the "
        "{allowed_bytes} of shared memory that PyTorch allows itself on this Mac.",
        node=node_name(case), tried_bytes=tried, held_bytes=held, other_bytes=other or 0, allowed_bytes=allowed,
    )  # fmt: skip


def cause_of_host_oom(case: Case) -> Text | None:
    """The machine's memory: how much was asked for, and for what."""
    facts, host = case.incident.facts, case.around.host
    tried, shape = facts.get("tried_bytes"), facts.get("tensor_shape")
    if not isinstance(tried, int) or tried >= IMPOSSIBLE_BYTES:
        return None
    if host is not None and host.memory_available_bytes < tried:
        return text(
            "{node} asked for {tried_bytes} of the machine's memory, not the GPU's, while {available_bytes} of {memory_bytes} "
            "was available.",
            node=node_name(case), tried_bytes=tried, available_bytes=host.memory_available_bytes,
            memory_bytes=host.memory_total_bytes,
        )  # fmt: skip
    if shape:
        return text(
            "{node} asked for {tried_bytes} of the machine's memory, not the GPU's, for one array of {shape}.",
            node=node_name(case), tried_bytes=tried, shape=plain(" x ".join(str(side) for side in shape)),
        )  # fmt: skip
    if tried < SMALL_BYTES:
        return text(
            "The machine's memory, not the GPU's, was used up: even {tried_bytes} could not be had.", tried_bytes=tried
        )
    return text("{node} asked for {tried_bytes} of the machine's memory, not the GPU's, and did not get it.",
                node=node_name(case), tried_bytes=tried)  # fmt: skip


def killed_process(case: Case) -> tuple[str, int, int | None] | None:
    """Who was ended for memory, as the kernel tells it: name, pid, and what it held."""
    for line in (case.incident.text, *case.incident.excerpt):
        if (found := _KILLED.search(line[:4000])) is not None:
            held = _RSS.search(line[:4000])
            return found[2], int(found[1]), int(held[1].replace(",", "") or 0) << 10 if held else None
    return None


def cause_of_kill(case: Case) -> Text | None:
    """Which process was ended, and what it held."""
    killed = killed_process(case)
    if killed is None or killed[2] is None:
        return None
    return text(
        "The machine or the container ran out of RAM, and the system ended {name} (pid {pid}), which held {held_bytes}. It could "
        "write no farewell, so its own log just stops.",
        name=killed[0], pid=killed[1], held_bytes=killed[2],
    )  # fmt: skip


def cause_with_size(case: Case) -> Text | None:
    """The rule's words, and what was asked for; or that this cannot be a true size."""
    tried, rule = case.incident.facts.get("tried_bytes"), case.incident.rule
    if not isinstance(tried, int):
        return None
    why = Text(rule.why.template, dict(case.incident.facts), rule.why.zh)
    if tried >= IMPOSSIBLE_BYTES:
        return text(
            "A buffer of {tried_bytes} was asked for, which no machine has: a size was reckoned wrong (a negative or damaged "
            "number), rather than that memory is short.",
            tried_bytes=tried,
        )
    if tried < SMALL_BYTES:
        return text("{why} Even {tried_bytes} could not be had.", why=why, tried_bytes=tried)
    return text("{why} {tried_bytes} was asked for at once.", why=why, tried_bytes=tried)


def cause_of_missing_file(case: Case) -> Text | None:
    """Which file is missed, where the failure names it."""
    named = case.incident.facts.get("path") or case.incident.facts.get("name")
    if not isinstance(named, str) or not named.strip(" /\\"):
        return None
    return text(
        "{name} is not there: the workflow names it, and this server has no such file. Nothing ran that needs it.",
        name=re.split(r"[/\\]", named.rstrip("/\\"))[-1],
    )


def cause_of_missing_node(case: Case) -> Text | None:
    """Which node is missed, where the failure names it."""
    named = case.incident.facts.get("node_type") or case.incident.node.type
    if not isinstance(named, str) or not named.strip():
        return None
    return text(
        "{name} is not on this server: the pack that brings it is not installed or failed to import, or this ComfyUI is older.",
        name=named,
    )


OTHERS = {
    "mps_oom": cause_of_mps,
    "model_missing": cause_of_missing_file,
    "missing_node": cause_of_missing_node,
    "host_oom": cause_of_host_oom,
    "host_oom_killed": cause_of_kill,
    "directml_oom": cause_with_size,
    "tf_oom": cause_with_size,
    "onnxruntime_oom": cause_with_size,
    "tensorrt_oom": cause_with_size,
    "vulkan_oom": cause_with_size,
}
"""Labels whose failures tell numbers of their own; what gives nothing leaves the rule's words."""
