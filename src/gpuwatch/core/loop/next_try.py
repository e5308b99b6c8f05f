"""What to try next on a prompt that ran out of GPU memory, or why nothing is.

In this order: the same picture by gpuwatch's node, where the server has it; freeing what others hold, where the prompt fits by
itself; the largest size that fits; and where that failed against the prediction, the next smaller ones. Nothing is tried twice
on one prompt, and what failed before on this server in this scene is passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from gpuwatch.core.learned.runs import Learned
from gpuwatch.core.loop.rewrite import plan_rewrite
from gpuwatch.core.loop.tried import Scene, Tried, Values, values_of
from gpuwatch.core.rules import QUEUE_AGAIN
from gpuwatch.core.workflow.changes import Card, Change, Plan
from gpuwatch.core.workflow.graph import Workflow, read_workflow
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.places import edited
from gpuwatch.core.workflow.plan import plan_fix
from gpuwatch.core.workflow.tiling import TILED
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.core.workloads import Workloads
from gpuwatch.texts import Text, text

MOST_TRIES = 3
_SQUEEZES = (0.04, 0.08, 0.12, 0.18, 0.25, 0.33, 0.42, 0.52, 0.64, 0.76)
"""Shares of the card that are supposed to be taken, where a size failed that was said to fit."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is known of the server, and how far one may go."""

    server: str
    card: Card
    workloads: Workloads
    knowledge: Knowledge
    at: datetime
    tried: Tried = field(default_factory=Tried)
    most_tries: int = MOST_TRIES
    min_px: int | None = None
    """No side is set below this."""
    learned: Learned = field(default_factory=Learned)
    """What jobs took here."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A prompt that ran out of memory, and what is known of that."""

    prompt: Mapping[str, Any]
    troubles: tuple[Trouble, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """One thing to try."""

    action: str
    """The planner's name, one of `rules.ACTIONS`."""
    prompt: Mapping[str, Any]
    plan: Plan
    digest: str
    """Of what is queued, so that it is not queued twice."""
    scene: Scene
    after: Values = ()

    @property
    def frees(self) -> bool:
        """Whether the server is to free memory first."""
        return self.action == "free_memory"

    @property
    def repeats(self) -> bool:
        """Whether the prompt is the failed one, and what changed lies outside it."""
        return self.action == QUEUE_AGAIN


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing is left to try."""

    why: Text
    plan: Plan = field(default_factory=Plan)


@dataclass(frozen=True, slots=True)
class Lineage:
    """One job and what was tried for it, over the prompts that came of it."""

    tries: tuple[Retry, ...] = ()
    base: Failed | None = None
    """The last of them that failed as the node that it was queued with; what is smaller is reckoned from it."""
    held: str | None = None
    """The action that the job ran to its end with already: it needs no smaller size, at most another way."""

    def after(self, failed: Failed, retry: Retry) -> Lineage:
        """With one more try."""
        return Lineage((*self.tries, retry), self._base(failed), self.held)

    def _base(self, failed: Failed) -> Failed:
        # After our node failed too, smaller sizes are reckoned for the stock one, whose need is known best.
        switched = bool(self.tries) and self.tries[-1].action == "switch_node"
        return self.base if switched and self.base is not None else failed

    def next(self, failed: Failed, conditions: Conditions) -> Retry | GiveUp:
        """What to try now that this failed."""
        if not failed.troubles:
            return GiveUp(text("The failure is not about GPU memory."))
        if len(self.tries) >= conditions.most_tries:
            return GiveUp(text("{count} tries did not help.", count=len(self.tries)))
        return next_try(self._base(failed), self, conditions)


def next_try(failed: Failed, lineage: Lineage, conditions: Conditions) -> Retry | GiveUp:
    """The first candidate that was not tried, did not fail here before, and is not too small."""
    workflow = read_workflow(failed.prompt)
    plan = plan_fix(
        workflow,
        failed.troubles,
        conditions.card,
        conditions.workloads,
        conditions.knowledge,
        learned=conditions.learned,
    )
    scene = scene_of(failed.troubles[0], conditions)
    done = {retry.digest for retry in lineage.tries}
    too_small: Change | None = None
    passed_over = False
    for action, each in _candidates(workflow, plan, failed, conditions, smaller=lineage.held is None):
        if action == lineage.held:
            continue
        after = values_of({change.input: change.after for change in each.changes})
        prompt = edited(failed.prompt, each.edits)
        digest = digest_of(action, prompt)
        if digest in done:
            continue
        if conditions.tried.failed(scene, action, after, conditions.at):
            passed_over = True
            continue
        if (small := _too_small(each, conditions.min_px)) is not None:
            too_small = too_small or small
            continue
        return Retry(action, prompt, each, digest, scene, after)
    if lineage.held is not None:
        return GiveUp(text("There is no other way to run it on this server."))
    return GiveUp(_why_none(plan, too_small, conditions, passed_over=passed_over), plan)


def _candidates(
    workflow: Workflow, plan: Plan, failed: Failed, conditions: Conditions, *, smaller: bool
) -> Iterator[tuple[str, Plan]]:
    """What may help, the best first. `smaller`: also less than what surely fits."""
    card, workloads, knowledge = conditions.card, conditions.workloads, conditions.knowledge
    would_fit = not plan.changes and plan.fits == "yes"
    if would_fit:
        yield "free_memory", plan
    rewritten = plan_rewrite(workflow, failed.troubles[0], card, workloads, knowledge)
    if rewritten is not None:
        yield "switch_node", rewritten
    if plan.changes:
        yield action_of(plan), plan
    if plan.fits is None or not smaller:
        return
    for share in _SQUEEZES:
        used = max(card.used_bytes, round(card.total_bytes * share))
        tighter = replace(card, used_bytes=used)
        less = plan_fix(workflow, failed.troubles, tighter, workloads, knowledge, learned=conditions.learned)
        if less.changes:
            yield action_of(less), less


def _why_none(plan: Plan, too_small: Change | None, conditions: Conditions, *, passed_over: bool) -> Text:
    if too_small is not None:
        return text(
            "{input} would have to be {side}, and less than {least_px} is not wanted.",
            input=too_small.input,
            side=too_small.after,
            least_px=conditions.min_px,
        )
    if passed_over:
        return text("What could be tried has failed on this server before.")
    return plan.unfixable[0] if plan.unfixable else text("Nothing is left to try.")


def _too_small(plan: Plan, min_px: int | None) -> Change | None:
    if min_px is None:
        return None
    return next(
        (
            change
            for change in plan.changes
            if isinstance(change.after, int | float) and change.after < min_px and _is_side(change.input)
        ),
        None,
    )


def _is_side(name: str) -> bool:
    return any(word in name for word in ("size", "width", "height", "resolution", "side")) and "batch" not in name


def action_of(plan: Plan) -> str:
    """The planner's name for what a plan changes."""
    names = {change.input for change in plan.changes}
    after = {change.after for change in plan.changes if isinstance(change.after, str)}
    if TILED in after:
        return "tile_vae"
    if any("checkpoint" in name for name in names):
        return "tiny_checkpoint"
    return "reduce_batch" if names and all("batch" in name for name in names) else "shrink_size"


def scene_of(trouble: Trouble, conditions: Conditions) -> Scene:
    """Where the failure was: the node's values that its memory depends on, as far as that is known; else all numbers."""
    profile = conditions.workloads.find(trouble.node_type, trouble.pack)
    names = {profile.size_input, profile.checkpoint_input} if profile else None
    inputs = {
        name: value
        for name, value in trouble.inputs.items()
        if (name in names if names is not None else not isinstance(value, str))
    }
    return Scene(conditions.server, trouble.node_type or trouble.pack or "?", values_of(inputs))


def digest_of(action: str, prompt: Mapping[str, Any]) -> str:
    """Of what is queued; freeing makes the same prompt another try."""
    words = json.dumps(prompt, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace")
    return hashlib.blake2s((b"free\0" if action == "free_memory" else b"") + words, digest_size=8).hexdigest()
