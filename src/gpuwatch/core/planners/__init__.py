"""Fixes: one planner a name. A planner gives what can work in this case, as concrete as what is known allows, or nothing.

No planner offers an input, a flag or a setting that the node, the version or the allocator of this case does not have.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from gpuwatch.core.case import Case
from gpuwatch.core.diagnosis import Fix, Safety
from gpuwatch.core.planners.holders import plan_expandable_segments, plan_free_memory, plan_unload_others
from gpuwatch.core.planners.levers import plan_launch_flag, plan_reduce_batch, plan_tile_vae
from gpuwatch.core.planners.machine import (
    plan_free_disk,
    plan_free_host_memory,
    plan_free_shared_memory,
    plan_isolate_node,
    plan_matching_build,
    plan_older_build,
    plan_reset_gpu,
    plan_restart_server,
    plan_smaller_array,
    plan_update_driver,
)
from gpuwatch.core.planners.sizes import (
    REWRITING_NODE,
    plan_correct_input,
    plan_shrink_size,
    plan_switch_node,
    plan_tiny_checkpoint,
)
from gpuwatch.core.rules import RuleFix
from gpuwatch.texts import Text, text

__all__ = ["EXACT", "PLANNERS", "REWRITING_NODE", "SAFETY", "fill", "plan"]
Planner = Callable[[Case], list[Fix]]
_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def plan(wanted: RuleFix, case: Case) -> list[Fix]:
    """The fixes that a rule's entry comes to in this case; none where it cannot work."""
    if wanted.title is None:
        return PLANNERS[wanted.action](case)
    exact = EXACT.get((case.incident.label, wanted.action))
    fixes = exact(case) if exact else []
    if fixes:
        return fixes
    title = Text(wanted.title.template, dict(case.incident.facts), wanted.title.zh)
    command = wanted.command and fill(wanted.command, case.incident.facts)
    return [Fix(wanted.action, title, wanted.safety or SAFETY.get(wanted.action, "safe"), command=command)]


def fill(command: str, facts: Mapping[str, Any]) -> str:
    """A rule's command with its facts in place, quoted: they come from a log. In one pass: a fact may read like a place itself."""
    return _PLACE.sub(lambda place: shlex.quote(str(facts[place[1]])) if place[1] in facts else place[0], command)


def simple(action: str, title: Text, safety: Safety = "safe", command: str | None = None) -> Planner:
    """A planner whose advice does not depend on numbers."""
    return lambda _case: [Fix(action, title, safety, command=command)]


PLANNERS: Mapping[str, Planner] = {
    "shrink_size": plan_shrink_size,
    "correct_input": plan_correct_input,
    "switch_node": plan_switch_node,
    "tiny_checkpoint": plan_tiny_checkpoint,
    "free_memory": plan_free_memory,
    "unload_others": plan_unload_others,
    "expandable_segments": plan_expandable_segments,
    "tile_vae": plan_tile_vae,
    "reduce_batch": plan_reduce_batch,
    "launch_flag": plan_launch_flag,
    "restart_server": plan_restart_server,
    "isolate_node": plan_isolate_node,
    "reset_gpu": plan_reset_gpu,
    "reboot": simple("reboot", text("Reboot the machine."), "restarts"),
    "update_driver": plan_update_driver,
    "free_disk": plan_free_disk,
    "free_host_memory": plan_free_host_memory,
    "contact_support": simple(
        "contact_support", text("If it comes again after a reboot, have the card checked by its vendor.")
    ),
}
"""Planner by name. The remaining names of `rules.ACTIONS` need words of the rule's own: a rule gives them a title."""

EXACT: Mapping[tuple[str, str], Planner] = {
    ("no_kernel_image", "install"): plan_matching_build,
    ("driver_too_old", "install"): plan_older_build,
    ("host_oom", "reduce_batch"): plan_smaller_array,
    ("mps_oom", "free_host_memory"): plan_free_shared_memory,
}
"""By label and action: who knows better than a rule's own words, where the failure tells enough; those words stand otherwise."""

SAFETY: Mapping[str, Safety] = {
    "restart_server": "restarts", "launch_flag": "restarts", "reset_gpu": "restarts", "reboot": "restarts",
    "update_driver": "restarts", "expandable_segments": "restarts", "shrink_size": "changes_output",
    "tile_vae": "changes_output", "reduce_batch": "changes_output", "tiny_checkpoint": "changes_output",
}  # fmt: skip
