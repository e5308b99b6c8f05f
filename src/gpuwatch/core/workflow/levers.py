"""Nodes whose need nothing tells exactly: fewer pictures, fewer frames, smaller tiles or sides, by the share that failed.

The values that count stand on the failed node itself or on one that its work comes from: a sampler's size is that of the
empty latent at the other end of its links. How much less is read off the failure's own numbers; whether it is enough then
is not known, and is called uncertain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from gpuwatch.core.workflow.changes import Change, Outlook, Work
from gpuwatch.core.workflow.graph import Node
from gpuwatch.core.workflow.inputs import Spot, called, find_input
from gpuwatch.core.workflow.nodes import Bounds, NodeType
from gpuwatch.core.workflow.places import Edit
from gpuwatch.core.workflow.shrink import (
    UNKNOWN_SHARE,
    fewer,
    share_of,
    smaller_area,
    smaller_factor,
    smaller_sides,
)
from gpuwatch.core.workflow.trouble import Trouble, upstream
from gpuwatch.texts import Text, text

ENOUGH = 0.999
_MOST_BEFORE = 500
"""Nodes that are looked at before a failed one: real workflows have a tenth."""
_MOST = 2**40
"""More pixels, frames or pictures than any picture has."""
_NUMBER = Bounds(0, 2**53, 1)
Smaller = Callable[[float, float, Bounds], tuple[float, float]]
"""A value, the share that may stay, what the input takes -> the smaller value and the share that it comes to."""


@dataclass(slots=True)
class Shrinking:
    """The share that may stay, as it is used up by one change after the other."""

    work: Work
    share: float
    why: Text
    changed: bool = False
    pictures: bool = True
    """Whether only what brings the picture is looked at, not what guides it: a reference made smaller frees little."""
    reasons: list[Text] = field(default_factory=list)
    """Why values could not be changed; told where it is not enough without them."""

    def done(self) -> bool:
        """Whether enough has gone."""
        return self.share >= ENOUGH

    def spot(self, node: Node, name: str) -> Spot | None:
        """Where a number stands; what keeps it from being changed is told."""
        found = find_input(self.work.workflow, node, name, self.work.knowledge)
        if isinstance(found, Text):
            self.reasons.append(found)
            return None
        number = isinstance(found.value, int | float) and not isinstance(found.value, bool)
        if not number or not 0 < found.value <= _MOST:
            self.reasons.append(
                text(
                    "{input} of {node} is {value}: nothing to make smaller.",
                    input=name,
                    node=called(node),
                    value=str(found.value)[:60],
                )
            )
            return None
        return found

    def put(self, spot: Spot, after: float) -> None:
        """Take one change."""
        if after != spot.value:
            change = Change(spot.node, spot.input, spot.value, after, self.why, (Edit(spot.place, after),))
            self.work.draft.change(change)
            self.changed = True


def plan_levers(work: Work, node: Node, trouble: Trouble) -> None:
    """Make a failed node ask for less, by what it and the nodes before it have."""
    card, draft = work.card, work.draft
    balance = trouble.balance
    less = max((balance.total_bytes or 0) - card.total_bytes, 0)
    told = share_of(balance, less)
    share = UNKNOWN_SHARE if told is None else told
    if told is None:
        why = text("The failure gave no sizes: asks for half as much.")
    else:
        why = text(
            "{tried_bytes} were asked for and {had_bytes} could be had: asks for {share_ratio} of it.",
            tried_bytes=balance.tried_bytes,
            had_bytes=(balance.free_bytes or 0) + (balance.slack_bytes or 0),
            share_ratio=share,
        )
        if (balance.free_bytes or 0) > (balance.tried_bytes or 0):
            draft.note(
                text(
                    "The message says that {free_bytes} were free, more than the {tried_bytes} that it could not get: "
                    "the free memory lay in pieces, or a limit was set. Expandable segments may help without any change.",
                    tried_bytes=balance.tried_bytes,
                    free_bytes=balance.free_bytes,
                )
            )
    shrinking = Shrinking(work, share, why)
    for pictures in (True, False):
        shrinking.pictures = pictures
        for planner in PLANNERS:
            if not shrinking.done():
                planner(shrinking, node)
        if shrinking.changed:
            break
    if not shrinking.done():
        for reason in shrinking.reasons:
            draft.cannot(reason)
    if shrinking.changed:
        draft.outlooks.append(Outlook(node, "uncertain"))
        draft.note(
            text("Whether that is enough is not known: nothing tells what {node} needs.", node=called(node))
            if shrinking.done()
            else text("{node}: the values allow no less; it may still not be enough.", node=called(node))
        )
    elif not shrinking.reasons:
        draft.cannot(
            text(
                "{node}: neither it nor a node before it has a value that is known to lower its memory. "
                "`gpuwatch diagnose` says what else helps.",
                node=called(node),
            )
        )


def shrink_tile(shrinking: Shrinking, node: Node) -> None:
    """Smaller tiles, on the failed node itself. One that has a width and a height gets both smaller."""
    known = shrinking.work.knowledge.of(node.type)
    names = known.of_lever("tile") if known else []
    left = shrinking.share
    for name in names:
        if (spot := shrinking.spot(node, name)) is not None and known is not None:
            after, share = smaller_factor(spot.value, left, known.bounds.get(name, _NUMBER))
            if 0 < share < ENOUGH:
                shrinking.put(spot, after)
                shrinking.share = min(left / share, 1.0)


def reduce_batch(shrinking: Shrinking, node: Node) -> None:
    """Fewer pictures at once."""
    for other, known in known_before(shrinking, node):
        for name in known.of_lever("batch"):
            _less(shrinking, other, known, name, fewer)


def reduce_frames(shrinking: Shrinking, node: Node) -> None:
    """A shorter video, but no less than half of it at one go: the rest is left to the size."""
    for other, known in known_before(shrinking, node):
        for name in known.of_lever("frames"):
            _less(shrinking, other, known, name, partial(fewer, least=known.frames_floor), least_share=0.5)


def reduce_scale(shrinking: Shrinking, node: Node) -> None:
    """Less enlarging, or fewer pixels to scale to."""
    for other, known in known_before(shrinking, node):
        for name in known.of_lever("scale", "side"):
            _less(shrinking, other, known, name, smaller_factor)
        for name in known.of_lever("area"):
            _less(shrinking, other, known, name, smaller_area)


def shrink_sides(shrinking: Shrinking, node: Node) -> None:
    """A smaller picture of the same shape."""
    for other, known in known_before(shrinking, node):
        widths, heights = known.of_lever("width"), known.of_lever("height")
        for wide_name, high_name in zip(widths, heights, strict=False):
            if shrinking.done():
                return
            wide, high = shrinking.spot(other, wide_name), shrinking.spot(other, high_name)
            if wide is None or high is None:
                continue
            wide_bounds, high_bounds = known.bounds.get(wide_name, _NUMBER), known.bounds.get(high_name, _NUMBER)
            to_wide, to_high, share = smaller_sides(wide.value, high.value, shrinking.share, wide_bounds, high_bounds)
            if 0 < share < ENOUGH:
                shrinking.put(wide, to_wide)
                shrinking.put(high, to_high)
                shrinking.share = min(shrinking.share / share, 1.0)


PLANNERS: tuple[Callable[[Shrinking, Node], None], ...] = (
    shrink_tile,
    reduce_batch,
    reduce_frames,
    reduce_scale,
    shrink_sides,
)
"""In the order of what they cost: tiles change nothing but seams, a batch the number of pictures, a size each picture."""


def known_before(shrinking: Shrinking, node: Node) -> Iterator[tuple[Node, NodeType]]:
    """The node and those before it that are known to hold a lever, nearest first."""
    for each in (node, *upstream(shrinking.work.workflow, node, pictures=shrinking.pictures)[:_MOST_BEFORE]):
        known = shrinking.work.knowledge.of(each.type)
        if known is not None and known.levers:
            yield each, known


def _less(
    shrinking: Shrinking, node: Node, known: NodeType, name: str, smaller: Smaller, *, least_share: float = 0.0
) -> None:
    if shrinking.done() or (spot := shrinking.spot(node, name)) is None:
        return
    bounds = known.bounds.get(name, _NUMBER)
    if spot.value <= bounds.low:
        return
    after, share = smaller(spot.value, max(shrinking.share, least_share), bounds)
    if 0 < share < ENOUGH:
        shrinking.put(spot, after)
        shrinking.share = min(shrinking.share / share, 1.0)
