"""What a plan comes to: the values that change, what the job then needs, and what could not be helped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.core.diagnosis import Fits
from gpuwatch.core.memory.band import Band
from gpuwatch.core.workflow.graph import Node, Workflow
from gpuwatch.core.workflow.nodes import Knowledge
from gpuwatch.core.workflow.places import Edit
from gpuwatch.texts import Text


@dataclass(frozen=True, slots=True)
class Card:
    """The card that the workflow is to run on."""

    total_bytes: int
    used_bytes: int = 0
    """What others hold on it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One value of one node, before and after."""

    node: Node
    input: str
    before: Any
    after: Any
    why: Text
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one node needs before and after, against what it can have."""

    node: Node
    fits: Fits
    need_bytes: Band | None = None
    """Of the whole process, for this node; None where no profile tells it."""
    was_bytes: Band | None = None
    room_bytes: float | None = None
    """What of the card is left for this node's process."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is to change, and why the rest is not."""

    changes: tuple[Change, ...] = ()
    outlooks: tuple[Outlook, ...] = ()
    unfixable: tuple[Text, ...] = ()
    notes: tuple[Text, ...] = ()

    @property
    def edits(self) -> list[Edit]:
        """The edits of all changes."""
        return [edit for change in self.changes for edit in change.edits]

    @property
    def fits(self) -> Fits | None:
        """Whether the workflow fits then: the worst of its nodes; None where nothing was looked at."""
        verdicts = {outlook.fits for outlook in self.outlooks}
        order: tuple[Fits, ...] = ("no", "uncertain", "yes")
        return next((verdict for verdict in order if verdict in verdicts), None)

    @property
    def peak_bytes(self) -> int | None:
        """The most that a node of it needs; None where that is not known of one."""
        needs = [outlook.need_bytes for outlook in self.outlooks]
        if not needs or any(need is None for need in needs):
            return None
        return max(round(need.high) for need in needs if need is not None)


@dataclass(slots=True)
class Draft:
    """A plan while it is made. A value that two failures would change gets the smaller of both."""

    changes: dict[Any, Change] = field(default_factory=dict)
    outlooks: list[Outlook] = field(default_factory=list)
    unfixable: list[Text] = field(default_factory=list)
    notes: list[Text] = field(default_factory=list)

    def change(self, change: Change) -> None:
        """Take a change, unless what is there already goes further."""
        key = change.edits[0].place
        known = self.changes.get(key)
        if known is not None and isinstance(known.after, int | float) and isinstance(change.after, int | float):
            if known.after <= change.after:
                return
        elif known is not None:
            return
        self.changes[key] = change

    def cannot(self, why: Text) -> None:
        """Keep a reason, once."""
        if why not in self.unfixable:
            self.unfixable.append(why)

    def note(self, words: Text) -> None:
        """Keep a note, once."""
        if words not in self.notes:
            self.notes.append(words)

    def done(self) -> Plan:
        """The plan."""
        return Plan(tuple(self.changes.values()), tuple(self.outlooks), tuple(self.unfixable), tuple(self.notes))


@dataclass(frozen=True, slots=True)
class Work:
    """What every planner is given, and the plan that it adds to."""

    workflow: Workflow
    card: Card
    knowledge: Knowledge
    draft: Draft


def as_json(change: Change) -> Mapping[str, Any]:
    """A change as programs read it; `why` is left to the face, which knows the language."""
    return {
        "node_id": change.node.id,
        "class_type": change.node.type,
        "input": change.input,
        "from": change.before,
        "to": change.after,
    }
