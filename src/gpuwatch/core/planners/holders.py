"""Getting memory back from whoever holds it: other models in the process, other programs, idle pieces of PyTorch's own."""

from __future__ import annotations

import re

from gpuwatch.core.balance import USUAL_CONTEXT_BYTES
from gpuwatch.core.case import Case
from gpuwatch.core.causes import ABSURD_BYTES, FOREIGN_BYTES, SMALL_BYTES, least_of_others
from gpuwatch.core.diagnosis import Fix, Grounds
from gpuwatch.core.observations import GpuProcess
from gpuwatch.core.planners.sizes import STOCK_PROFILE, prediction
from gpuwatch.texts import Text, text

_FREE_COMMAND = (
    "curl -X POST http://{server}/free -H 'Content-Type: application/json' "
    '-d \'{{"unload_models": true, "free_memory": true}}\''
)
_HINT = re.compile(r"try setting (PYTORCH\w{0,20}ALLOC_CONF=expandable_segments:True|max_split_size_mb)")
_SET = re.compile(r"expandable_segments['\"]?\s?[:=]\s?['\"]?True")
PLENTY = 2
"""So many times what was missing is surely enough, though what others hold is only reckoned."""
_MAX_SPLIT = "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:512"


def plan_free_memory(case: Case) -> list[Fix]:
    """Free what the process holds for others, where that is in the way or where nothing is known of the job."""
    if case.need is not None and not case.would_fit:
        return []
    if case.need is None and not freeing_can_help(case):
        return []
    server = case.around.server.server if case.around.server else "127.0.0.1:8188"
    held = case.foreign_bytes if case.need is not None else case.balance.allocated_bytes
    title = (
        text("Free the models and cached nodes that ComfyUI holds (up to {held_bytes}), then queue the prompt again.",
             held_bytes=held)
        if held is not None and held >= FOREIGN_BYTES
        else text("Free the models and cached nodes that ComfyUI holds, then queue the prompt again.")
    )  # fmt: skip
    grounds: Grounds = "general"
    if case.would_fit:
        grounds = "numbers" if (held or 0) >= max(FOREIGN_BYTES, case.others_bytes or 0) else "signs"
    elif case.need is None and case.balance.short_bytes is not None:  # then what it holds is more than was missing
        grounds = "signs"
    return [
        Fix(
            "free_memory",
            title,
            "safe",
            {"unload_models": True, "free_memory": True},
            prediction(case, case.need) if case.need else None,
            _FREE_COMMAND.format(server=server),
            _note_on_freeing(case),
            grounds,
        )
    ]


def freeing_can_help(case: Case) -> bool:
    """Whether what this process holds could be enough for what was missing, as far as the numbers tell."""
    balance = case.balance
    if balance.tried_bytes is not None and balance.tried_bytes >= (balance.total_bytes or ABSURD_BYTES):
        return False
    if balance.allocated_bytes is None or balance.short_bytes is None or balance.oddity is not None:
        return balance.allocated_bytes is None or balance.allocated_bytes >= SMALL_BYTES
    return balance.allocated_bytes + (balance.slack_bytes or 0) >= balance.short_bytes


def _note_on_freeing(case: Case) -> Text:
    if case.profile is not None and case.profile.id == STOCK_PROFILE:
        return text(
            "Each DDColor node keeps its own network where ComfyUI does not count it: only `free_memory` lets go of it, and the "
            "next prompt computes everything anew."
        )
    return text("`free_memory` also drops the cached nodes, so the next prompt computes everything anew.")


def plan_unload_others(case: Case) -> list[Fix]:
    """End what other programs hold, where they hold enough to matter."""
    others = case.others_bytes
    if others is None:
        return _look_for_others(case)
    if others < FOREIGN_BYTES:
        return []
    grounds: Grounds = "general"
    if case.need is not None:
        # With a job that fits as it is, others matter only where nothing in the process itself is in the way.
        if not case.would_fit_alone:
            grounds = "weak"
        elif others >= (case.foreign_bytes or 0):
            grounds = "numbers"
    elif others < least_of_others(case):
        grounds = "weak"
    elif case.balance.short_bytes is not None:
        short = case.balance.short_bytes
        grounds = "numbers" if others >= PLENTY * short else "signs" if others >= short else "weak"
    elif case.balance.oddity == "free_enough" and others >= (case.balance.total_bytes or 0) / 4:
        grounds = "signs"
    worst = heaviest_other(case)
    if worst is not None:
        title = text(
            "Close {name} (pid {pid}): it holds {held_bytes} on this card.",
            name=worst.name or "?",
            pid=worst.pid,
            held_bytes=worst.used_bytes,
        )
        return [Fix("unload_others", title, params={"pid": worst.pid}, grounds=grounds)]
    title = text("Close other programs on this GPU: they hold {held_bytes}.", held_bytes=others)
    if case.balance.others_bytes is None:
        title = text("Close other programs on this GPU: they hold about {held_bytes}.", held_bytes=others)
    return [Fix("unload_others", title, command=tool_of(case), grounds=grounds)]


def tool_of(case: Case) -> str:
    """The vendor's tool that lists who uses the card."""
    return {"hip_oom": "rocm-smi --showpids", "xpu_oom": "xpu-smi ps"}.get(case.incident.label, "nvidia-smi")


def _look_for_others(case: Case) -> list[Fix]:
    """Where PyTorch leaves idle memory to the driver's pool, what tensors do not explain can be that, or other programs'."""
    rest = (case.balance.outside_bytes or 0) - USUAL_CONTEXT_BYTES
    if case.need is not None or rest < FOREIGN_BYTES:
        return []
    title = text(
        "Look who else is on this GPU, and close it: up to {held_bytes} may be other programs'.", held_bytes=rest
    )
    return [Fix("unload_others", title, command=tool_of(case))]


def heaviest_other(case: Case) -> GpuProcess | None:
    """The other program that holds most, as the driver names it; a Python that nobody knows may be ComfyUI itself."""
    own = {"python", "python3", "python.exe"}
    named = [
        process
        for process in (case.around.gpu.processes if case.around.gpu else ())
        if process.used_bytes and process.program == "other" and (process.name or "").rpartition("/")[2] not in own
    ]
    return max(named, key=lambda process: process.used_bytes or 0, default=None)


def plan_expandable_segments(case: Case) -> list[Fix]:
    """Less fragmentation, where idle memory would have been enough, with PyTorch's own allocator, and not set already.

    A PyTorch that does not know expandable segments says so by its hint: for it the older setting is named. On Windows neither
    is there.
    """
    slack = case.balance.slack_bytes
    if case.allocator != "native" or not case.balance.fragmented or slack is None or case.on_windows:
        return []
    lines = (case.incident.text, *case.incident.excerpt)
    hint = next((found[1] for line in lines if (found := _HINT.search(line)) is not None), "")
    flags = case.around.server.argv if case.around.server else ()
    if any(_SET.search(_HINT.sub("", line)) for line in (*lines, *case.incident.before, *flags)):
        return []
    if not hint and "total capacity;" in case.incident.text:  # a PyTorch before either setting
        return []
    grounds: Grounds = "signs" if case.need is None or case.would_fit else "weak"
    if grounds == "signs" and case.incident.label == "cuda_oom_fragmentation":
        grounds = "numbers"
    if hint == "max_split_size_mb":
        if case.said("max_split_size_mb:"):
            return []
        title = text("Keep PyTorch from splitting large blocks: {slack_bytes} lay idle in pieces.", slack_bytes=slack)
        note = text(
            "Expandable segments help more, and are missing or experimental in this PyTorch: update it where that is possible."
        )
        params = {"max_split_size_mb": 512}
        return [
            Fix("expandable_segments", title, "restarts", params, None, f"{_MAX_SPLIT} python main.py", note, grounds)
        ]
    setting = hint or "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
    return [
        Fix(
            "expandable_segments",
            text("Start ComfyUI with expandable segments: {slack_bytes} lay idle in pieces.", slack_bytes=slack),
            "restarts",
            {"expandable_segments": True},
            command=f"{setting} python main.py",
            grounds=grounds,
        )
    ]
