"""Whether a server computes anything any more: where it does not, what is queued there fails or waits for ever.

An illegal access poisons the CUDA context of its process, and a worker that died takes no more prompts. Only another process
helps. What fails for another reason may still be one that only a restart mends: that the failure's own rule says.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuwatch.core.incidents import Incident
from gpuwatch.core.rules import Label

BREAKING: frozenset[Label] = frozenset({
    "worker_dead", "poisoned_context", "illegal_memory_access", "misaligned_address", "illegal_instruction",
    "device_side_assert", "launch_failure", "gpu_lost",
})  # fmt: skip
"""After these a process computes nothing any more."""
_RESTARTS = frozenset({"restart_server", "reset_gpu", "reboot"})


def breakage(incidents: Iterable[Incident], server: str) -> Incident | None:
    """What broke a server and is not over; None where it computes."""
    return next(
        (
            each
            for each in incidents
            if each.active and (each.label in BREAKING or each.worker_dead) and server in (each.source, *each.also_in)
        ),
        None,
    )


def only_a_restart_helps(incident: Incident | None) -> bool:
    """Whether the rule that knows a failure names a restart first."""
    return incident is not None and bool(incident.rule.fixes) and incident.rule.fixes[0].action in _RESTARTS
