"""A workflow of a kind that has run here: the largest size that fits by the curve through those runs."""

from __future__ import annotations

from gpuwatch.core.learned.reading import ran_of
from gpuwatch.core.learned.runs import Learned, shrunk
from gpuwatch.core.workflow.changes import Change, Outlook, Work
from gpuwatch.core.workflow.graph import Node
from gpuwatch.core.workflow.inputs import Spot, find_input
from gpuwatch.core.workflow.nodes import Bounds
from gpuwatch.core.workflow.places import Edit
from gpuwatch.texts import Text, text

_NUMBER = Bounds(0, 2**53, 1e-6, whole=False)


def plan_measured(work: Work, learned: Learned, failed: Node | None = None) -> bool:
    """Make the workflow as large as surely fits, where its kind has run here often enough to tell; whether it told anything.

    Of a workflow in which a node failed it tells nothing where by the runs here it fits: then they are not the whole story.
    """
    ran = ran_of(work.workflow, work.knowledge)
    known = learned.experience(ran)
    sized = work.workflow.node(ran.sized.id) if ran is not None else None
    if ran is None or known is None or known.curve is None or sized is None:
        return False
    room = work.card.total_bytes - work.card.used_bytes
    was = known.need(ran.pixels)
    if was is not None and was.high <= room:
        if failed is None:
            work.draft.outlooks.append(Outlook(sized, known.fits(ran.pixels, room), was, was, room))
        return failed is None
    found = shrunk(known, ran, room)
    if found is None:
        return False
    sizes, then = found
    why = text(
        "Needs at most {need_bytes} by {runs} runs of this kind of job measured here, within {error_ratio}.",
        need_bytes=then.high, runs=known.curve.runs, error_ratio=known.curve.within_ratio,
    )  # fmt: skip
    changes = []
    bounds = known_type.bounds if (known_type := work.knowledge.of(sized.type)) is not None else {}
    for name, size in sizes.items():
        spot = find_input(work.workflow, sized, name, work.knowledge)
        if isinstance(spot, Text):
            work.draft.cannot(spot)
            return False
        after = bounds.get(name, _NUMBER).below(size)
        if after > size:
            return False
        changes.append(_change(spot, after, why))
    for change in changes:
        work.draft.change(change)
    work.draft.outlooks.append(Outlook(failed or sized, "yes", then, was, room))
    return True


def _change(spot: Spot, after: float, why: Text) -> Change:
    value = round(after) if isinstance(spot.value, int) else after
    return Change(spot.node, spot.input, spot.value, value, why, (Edit(spot.place, value),))
