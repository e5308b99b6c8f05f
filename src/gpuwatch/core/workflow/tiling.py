"""The one change of a node's type: VAEDecode becomes VAEDecodeTiled, where the decoding is what failed and the server has it.

Both take the same two links. The values that the tiled one has beside them are added; links and ids stay.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpuwatch.core.workflow.changes import Change, Outlook, Work
from gpuwatch.core.workflow.graph import Node
from gpuwatch.core.workflow.inputs import called
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.places import Edit
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.texts import Text, text

DECODE, TILED = "VAEDecode", "VAEDecodeTiled"
SINCE = (0, 3, 10)
"""ComfyUI's version from which on it has these four values."""
VALUES: Mapping[str, int] = {"tile_size": 512, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
_RETRIED_TILE = 256


def plan_tiling(work: Work, node: Node, trouble: Trouble) -> bool:
    """Decode in tiles, where that can be done; whether it was."""
    workflow, draft = work.workflow, work.draft
    if node.type != DECODE or (workflow.form == "api" and not isinstance(node.raw.get("inputs"), dict)):
        return False
    if node.id in workflow.ambiguous:
        draft.cannot(text("Two nodes have the id {id}; which of them failed cannot be told.", id=node.id))
        return False
    values = tiled_values(work.knowledge)
    if isinstance(values, Text):
        draft.note(text("{node} keeps its type: {why}", node=called(node), why=values))
        return False
    if trouble.ran("comfy/sd.py", "decode_tiled_"):  # ComfyUI tried tiles of 512 already, by itself, and failed again
        values = {**values, "tile_size": min(values["tile_size"], _RETRIED_TILE)}
    if workflow.form == "api":
        edits = (Edit((*node.place, "class_type"), TILED), Edit((*node.place, "inputs"), added=values))
    else:
        list_of = list(values.values())
        place = (*node.place, "widgets_values")
        edits = (
            Edit((*node.place, "type"), TILED),
            Edit(place, list_of)
            if "widgets_values" in node.raw
            else Edit(node.place, added={"widgets_values": list_of}),
        )
    why = text(
        "Decodes in tiles of {tile}: the same picture but for faint seams. The node's type changes, its links stay.",
        tile=values["tile_size"],
    )
    draft.change(Change(node, "class_type" if workflow.form == "api" else "type", DECODE, TILED, why, edits))
    draft.outlooks.append(Outlook(node, "uncertain"))
    draft.note(text("Whether that is enough is not known: nothing tells what {node} needs.", node=called(node)))
    return True


def tiled_values(knowledge: Knowledge) -> Mapping[str, int] | Text:
    """The values that the server's tiled decoder needs, or why it cannot be used."""
    told = knowledge.told.get(TILED)
    if told is not None:
        unknown = [name for name in told.bounds if name not in VALUES]
        if unknown or told.widgets is None or not told.bounds:
            return text("the server's {type} has inputs that are not known here.", type=TILED)
        return {name: round(bounds.below(VALUES[name])) for name, bounds in told.bounds.items()}
    if knowledge.complete:
        return text("the server has no {type}.", type=TILED)
    if knowledge.version is not None and knowledge.version >= SINCE:
        return dict(VALUES)
    return text(
        "{type} would help; whether the server has it is not known. Name the server with --server, or replace the node by hand.",
        type=TILED,
    )
