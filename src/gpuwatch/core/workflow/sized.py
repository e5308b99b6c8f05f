"""Nodes whose need a profile tells exactly (DDColor): the largest size that fits, the smaller network where none does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gpuwatch.core.balance import Balance
from gpuwatch.core.diagnosis import Fits
from gpuwatch.core.memory.simulate import Size
from gpuwatch.core.workflow.changes import Card, Change, Outlook, Work
from gpuwatch.core.workflow.graph import Node, Workflow
from gpuwatch.core.workflow.inputs import Spot, called, find_input
from gpuwatch.core.workflow.nodes import Bounds, Knowledge
from gpuwatch.core.workflow.places import Edit
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.core.workload import Need, WorkloadProfile, fits, largest_fitting_px, predict
from gpuwatch.texts import Text, text

EXACT_REWRITE = "fold"
_SAME_CARD = (0.85, 1.05)
"""A card's own word on its size is a little below what is printed on its box."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a node's process can have."""

    torch_bytes: float
    context_bytes: float | None
    """What the process holds outside PyTorch, where that was told."""


def need_at(profile: WorkloadProfile, variant: str, side_px: int, room: Room) -> tuple[Need, Fits] | None:
    """What a size needs, and whether it fits; None where no trace tells. The only place that asks the memory model of a size."""
    try:
        need = predict(profile, variant, side_px, context_bytes=room.context_bytes, room_bytes=room.torch_bytes)
    except LookupError:
        return None
    return need, fits(need, room.torch_bytes)


def largest_at(profile: WorkloadProfile, variant: str, room: Room, most_px: int, bounds: Bounds) -> int | None:
    """The largest size that surely fits and that the node takes; None where not even the smallest does."""
    below = min(most_px, round(bounds.high)) + 1
    while (found := largest_fitting_px(profile, variant, room.torch_bytes, below_px=below)) is not None:
        if found < bounds.low:
            return None
        if bounds.takes(found):
            return found
        below = found
    return None


def plan_sized(
    work: Work,
    node: Node,
    profile: WorkloadProfile,
    others: list[Node],
    trouble: Trouble | None,
    *,
    keep_size: bool = False,
) -> None:
    """Make one node of a profile fit, and say what it needs before and after."""
    workflow, card, knowledge, draft = work.workflow, work.card, work.knowledge, work.draft
    profile = profile.with_inputs(form_of(work, node, profile))
    size = find_input(workflow, node, profile.size_input, knowledge)
    checkpoint = find_input(workflow, node, profile.checkpoint_input, knowledge)
    told = trouble.inputs if trouble is not None else {}
    side = _whole(size.value if isinstance(size, Spot) else told.get(profile.size_input))
    name = checkpoint.value if isinstance(checkpoint, Spot) else told.get(profile.checkpoint_input)
    variant = profile.variant_of(name if isinstance(name, str) else None)
    if side is None:
        draft.cannot(
            size
            if isinstance(size, Text)
            else text("{input} of {node} is no whole number.", input=profile.size_input, node=called(node))
        )
        return
    room = room_of(card, profile, trouble.balance if trouble else None)
    room = Room(room.torch_bytes - weights_of(work, others, profile, room), room.context_bytes)
    if variant is None:
        variant = _heaviest(profile, room)
        draft.note(
            text(
                "{node}: which network {checkpoint} is, is not known; reckoned as {variant}, the larger.",
                node=called(node),
                checkpoint=name,
                variant=variant,
            )
            if isinstance(name, str)
            else text(
                "{node}: no network is chosen; reckoned as {variant}, the larger.", node=called(node), variant=variant
            )
        )
    was = need_at(profile, variant, side, room) if profile.valid_px(side) else None
    if was is not None and was[1] == "yes":
        draft.outlooks.append(_outlook(node, was, was, card))
        if trouble is not None:
            draft.cannot(
                text(
                    "{node} at {input} {side} needs at most {need_bytes}, which this card has: something else held its "
                    "memory. Free that first (`POST /free` with free_memory), or close other programs on the card.",
                    node=called(node),
                    input=profile.size_input,
                    side=side,
                    need_bytes=was[0].process_bytes.high,
                )
            )
        return
    wanted = _Wanted(node, profile, size, checkpoint, side, variant, room, knowledge, workflow)
    done = wanted.rewritten() or (wanted.tiny(side) if keep_size else None) or wanted.size(variant) or wanted.tiny(None)
    if done is None:
        draft.outlooks.append(Outlook(node, "no", None, was[0].process_bytes if was else None, card.total_bytes))
        draft.cannot(
            text(
                "{node}: not even the smallest size that it takes surely fits in {room_bytes}.",
                node=called(node),
                room_bytes=max(room.torch_bytes, 0),
            )
        )
        return
    need, changes, blocked = done
    for reason in blocked:
        draft.cannot(reason)
    if blocked:
        draft.outlooks.append(
            _outlook(node, was, was, card) if was else Outlook(node, "no", None, None, card.total_bytes)
        )
        return
    for change in changes:
        draft.change(change)
    draft.outlooks.append(_outlook(node, was, need, card))
    if any(change.input == profile.size_input for change in changes):
        draft.note(text("The size changes the colours, not the sharpness: the photo keeps its own lightness."))


def form_of(work: Work, node: Node, profile: WorkloadProfile) -> dict[str, Any]:
    """The values that say in which precision and with which rewrite the node runs."""
    found: dict[str, Any] = {}
    for asked in (profile.dtype_input, profile.rewrite_input):
        spot = find_input(work.workflow, node, asked.name, work.knowledge) if asked is not None else None
        if asked is not None and isinstance(spot, Spot):
            found[asked.name] = spot.value
    return found


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One node that is to need less."""

    node: Node
    profile: WorkloadProfile
    size_spot: Spot | Text
    checkpoint_spot: Spot | Text
    side_px: int
    variant: str
    room: Room
    knowledge: Knowledge
    workflow: Workflow

    def rewritten(self) -> tuple[tuple[Need, Fits], list[Change], list[Text]] | None:
        """The exact rewrite, where the node has an input for it and does not use it: at the same size, or the largest that fits."""
        asked = self.profile.rewrite_input
        value = asked.value_for(EXACT_REWRITE) if asked is not None else None
        if asked is None or value is None or self.profile.rewrite == EXACT_REWRITE:
            return None
        other = replace(self, profile=replace(self.profile, rewrite=EXACT_REWRITE))
        side = other.largest(self.variant)
        need = None if side is None else need_at(other.profile, self.variant, side, self.room)
        spot = find_input(self.workflow, self.node, asked.name, self.knowledge)
        if side is None or need is None or isinstance(spot, Text):
            return None
        why = text(
            "An exact rewrite: at most {need_bytes}, and colours agree to 1e-5.", need_bytes=need[0].process_bytes.high
        )
        changes, blocked = self.changed(spot, asked.name, value, why)
        if side != self.side_px:
            more, reasons = self.changed(self.size_spot, self.profile.size_input, side, why)
            changes, blocked = changes + more, blocked + reasons
        return need, changes, blocked

    def size(self, variant: str) -> tuple[tuple[Need, Fits], list[Change], list[Text]] | None:
        """The largest size that fits with this network."""
        found = self.largest(variant)
        if found is None or (need := need_at(self.profile, variant, found, self.room)) is None:
            return None
        reason = self.profile.invalid(Size(self.side_px, self.side_px))
        why = (
            text(
                "The largest size that surely fits: at most {need_bytes} with the {variant} network.",
                need_bytes=need[0].process_bytes.high,
                variant=variant,
            )
            if reason is None
            else text("It cannot run as it is: {reason} {side} fits the card.", reason=reason, side=found)
        )
        return need, *self.changed(self.size_spot, self.profile.size_input, found, why)

    def largest(self, variant: str) -> int | None:
        """The largest size that fits, not above the one that is there; one that nothing can have meant counts as the default."""
        known = self.knowledge.of(self.node.type)
        bounds = known.bounds.get(self.profile.size_input) if known else None
        bounds = bounds or Bounds(self.profile.min_px, self.profile.max_px, self.profile.step_px)
        meant = self.side_px if self.side_px >= self.profile.min_px else self.profile.default_px
        return largest_at(self.profile, variant, self.room, meant, bounds)

    def tiny(self, side_px: int | None) -> tuple[tuple[Need, Fits], list[Change], list[Text]] | None:
        """The smaller network, at the size that is asked or at the largest that fits."""
        tiny = self.profile.variants.get("tiny")
        known = self.knowledge.of(self.node.type)
        choices = known.choices.get(self.profile.checkpoint_input) if known else None
        if tiny is None or self.variant == "tiny" or not tiny.checkpoints:
            return None
        checkpoint = next((name for name in tiny.checkpoints if choices is None or name in choices), None)
        side = self.largest("tiny") if side_px is None else side_px
        if checkpoint is None or side is None or not self.profile.valid_px(side):
            return None
        need = need_at(self.profile, "tiny", side, self.room)
        if need is None or need[1] != "yes":
            return None
        why = text(
            "The smaller network at {side}: at most {need_bytes}. It is another network: colours differ.",
            side=side,
            need_bytes=need[0].process_bytes.high,
        )
        changes, blocked = self.changed(self.checkpoint_spot, self.profile.checkpoint_input, checkpoint, why)
        if side != self.side_px:
            more, reasons = self.changed(self.size_spot, self.profile.size_input, side, why)
            changes, blocked = changes + more, blocked + reasons
        return need, changes, blocked

    def changed(self, spot: Spot | Text, name: str, after: Any, why: Text) -> tuple[list[Change], list[Text]]:
        """The change, or why not and what to do by hand."""
        if isinstance(spot, Text):
            by_hand = text(
                "By hand: set {input} of {node} to {after}.", input=name, node=called(self.node), after=after
            )
            return [], [spot, by_hand]
        return [Change(spot.node, spot.input, spot.value, after, why, (Edit(spot.place, after),))], []


def room_of(card: Card, profile: WorkloadProfile, balance: Balance | None) -> Room:
    """What PyTorch can have on the card, as told by the failure where it was on the same card, else less a CUDA context."""
    context = balance.context_bytes if balance else None
    outside = profile.context_bytes.high if context is None else context
    free = card.total_bytes - card.used_bytes - outside
    if balance is not None and balance.told_room and balance.total_bytes:
        told = balance.room_bytes(outside)
        low, high = _SAME_CARD
        if told is not None and low * card.total_bytes <= balance.total_bytes <= high * card.total_bytes:
            free = min(free, told) if not card.used_bytes else free
    return Room(free, context)


def weights_of(work: Work, nodes: list[Node], profile: WorkloadProfile, room: Room) -> int:
    """What other nodes of the profile keep on the card: each holds its own copy of its network."""
    held = 0
    for node in nodes:
        spot = find_input(work.workflow, node, profile.checkpoint_input, work.knowledge)
        name = spot.value if isinstance(spot, Spot) and isinstance(spot.value, str) else None
        variant = profile.variant_of(name) or _heaviest(profile, room)
        need = need_at(profile, variant, profile.default_px, room)
        held += need[0].weights_bytes if need else 0
    return held


def _heaviest(profile: WorkloadProfile, room: Room) -> str:
    """The variant that needs most."""

    def weight(variant: str) -> float:
        need = need_at(profile, variant, profile.default_px, room)
        return need[0].process_bytes.high if need else 0

    return max(profile.variants, key=weight)


def _outlook(node: Node, was: tuple[Need, Fits] | None, now: tuple[Need, Fits] | None, card: Card) -> Outlook:
    return Outlook(
        node,
        now[1] if now else "uncertain",
        now[0].process_bytes if now else None,
        was[0].process_bytes if was else None,
        card.total_bytes - card.used_bytes,
    )


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
