"""A workflow's plan as a page for people and as JSON for programs: what changes, what it then needs, what cannot be helped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuwatch.core.memory.band import Band
from gpuwatch.core.workflow.changes import Change, Outlook, Plan, as_json
from gpuwatch.core.workflow.graph import Node
from gpuwatch.faces.wording import FITS
from gpuwatch.texts import render, show_bytes, text, visible

if TYPE_CHECKING:
    from rich.console import Console

_BAR_COLUMNS = 30
_LONGEST_VALUE = 60
_FITS_COLOUR = {"yes": "green", "no": "red", "uncertain": "yellow"}


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as `fix --json` gives it."""
    return {
        "changes": [
            {**as_json(change), "title": change.node.title, "why": render(change.why)} for change in plan.changes
        ],
        "predicted": {
            "peak_bytes": plan.peak_bytes,
            "fits": plan.fits,
            "nodes": [outlook_json(outlook) for outlook in plan.outlooks],
        },
        "unfixable": [render(why) for why in plan.unfixable],
        "notes": [render(words) for words in plan.notes],
    }


def outlook_json(outlook: Outlook) -> dict[str, Any]:
    """One node's need as `fix --json` gives it."""
    return {
        "node_id": outlook.node.id,
        "class_type": outlook.node.type,
        "fits": outlook.fits,
        "process_bytes": _band(outlook.need_bytes),
        "was_bytes": _band(outlook.was_bytes),
    }


def _band(band: Band | None) -> dict[str, int] | None:
    return {"low": round(band.low), "mid": round(band.mid), "high": round(band.high)} if band is not None else None


def print_plan(console: Console, plan: Plan) -> None:
    """Print the plan for a person: node by node, the old value and the new one."""
    from rich.padding import Padding  # noqa: PLC0415 - only where a person reads
    from rich.text import Text as Line  # noqa: PLC0415

    for node in _in_order(plan):
        head = Line("● ", "bold cyan")
        head.append(visible(node.type), "bold")
        head.append(f"  #{visible(node.id)}", "cyan")
        if node.title and node.title != node.type:
            head.append(f"  {visible(node.title)}", "dim")
        console.print(head)
        changes = [change for change in plan.changes if change.node is node]
        widest = max((len(change.input) for change in changes), default=0)
        for change in changes:
            line = Line("  ")
            line.append(f"{visible(change.input):{widest}}  ")
            line.append(shown(change.before), "red")
            line.append("  →  ", "dim")
            line.append(shown(change.after), "green")
            console.print(line)
        for outlook in plan.outlooks:
            if outlook.node is node and outlook.need_bytes is not None:
                console.print(bar(outlook))
        for why in dict.fromkeys(render(change.why) for change in changes):
            console.print(Padding(Line(visible(why), "dim"), (0, 0, 0, 2)))
        console.print()
    for words in plan.unfixable:
        line = Line("✗ ", "red")
        line.append(visible(render(words)))
        console.print(line)
    for words in plan.notes:
        line = Line("· ", "dim")
        line.append(visible(render(words)), "dim")
        console.print(line)


def _in_order(plan: Plan) -> list[Node]:
    """The nodes with something to show, each once."""
    nodes: dict[str, Node] = {change.node.id: change.node for change in plan.changes}
    for outlook in plan.outlooks:
        if outlook.need_bytes is not None:
            nodes.setdefault(outlook.node.id, outlook.node)
    return list(nodes.values())


def bar(outlook: Outlook) -> Any:
    """The need against what the card has for it, to scale: certain part, band, room."""
    from rich.text import Text as Line  # noqa: PLC0415

    need, room = outlook.need_bytes, outlook.room_bytes or 0
    line = Line("  ")
    if need is None or room <= 0:
        return line
    scale = _BAR_COLUMNS / max(room, need.high)
    low, high = round(need.low * scale), round(need.high * scale)
    colour = _FITS_COLOUR[outlook.fits]
    line.append("█" * low, colour)
    line.append("▒" * (high - low), colour)
    line.append("░" * max(round(room * scale) - high, 0), "dim")
    words = render(text("{need_bytes} of {room_bytes}", need_bytes=need.high, room_bytes=room))
    line.append(f"  {words}  ")
    line.append(render(FITS[outlook.fits]), colour)
    if outlook.was_bytes is not None and outlook.was_bytes is not need:
        was = render(text("was {was_bytes}", was_bytes=outlook.was_bytes.high))
        line.append(f"  ({was})", "dim")
    return line


def shown(value: Any) -> str:
    """A value as the workflow has it, cut where it is long."""
    words = value if isinstance(value, str) else repr(value)
    return visible(words if len(words) <= _LONGEST_VALUE else words[:_LONGEST_VALUE] + " …")


def summary(changes: tuple[Change, ...], where: str) -> str:
    """The line after writing."""
    return render(text("Written: {path}, with {count} changed.", count=len(changes), path=where))


__all__ = ["plan_json", "print_plan", "show_bytes", "summary"]
