"""A server's card as the server itself tells it: for one on another machine, and where no driver here tells of any.

It says how much it can still have, nothing of load, heat or who holds the rest.
"""

from __future__ import annotations

from gpuwatch.core.observations import ServerSeen
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.tui.paint import Row, Span, bar, cut, cut_front, filling, row, spread
from gpuwatch.texts import render, show_bytes, text, visible
from gpuwatch.texts import translate as _

_GIB = 1 << 30
_LONGEST_NAME = 22


def server_cards(snapshot: Snapshot) -> list[ServerSeen]:
    """The servers that answer and whose card is told by nobody else."""
    sampled = any(snapshot.gpus.values())
    answering = {source.name for source in snapshot.sources.values() if source.state == "up"}
    return [
        seen
        for name, seen in sorted(snapshot.servers.items())
        if name in answering
        and seen.total_bytes
        and seen.free_bytes is not None
        and not (seen.device or "cpu").startswith("cpu")
        and (seen.local is False or not sampled)
    ]


def held_bytes(seen: ServerSeen) -> int:
    """What others hold on its card, and live tensors of its own."""
    return max((seen.total_bytes or 0) - (seen.free_bytes or 0), 0)


def card_spans(seen: ServerSeen, *, named: bool) -> tuple[Span, ...]:
    """Its memory on the line at the top."""
    total = seen.total_bytes or 1
    ratio = min(held_bytes(seen) / total, 1.0)
    tone = filling(ratio)
    label = f"   GPU {cut_front(visible(seen.server), _LONGEST_NAME)} " if named else "   GPU "
    numbers = f"{held_bytes(seen) / _GIB:.1f}/{total / _GIB:.1f} GiB "
    return ((label, "dim"), (numbers, "text" if tone == "accent" else tone), *bar(ratio, 8, tone))


def card_rows_of(seen: ServerSeen, width: int) -> list[Row]:
    """Its memory with a bar, and who tells it."""
    total = seen.total_bytes or 1
    ratio = min(held_bytes(seen) / total, 1.0)
    tone = filling(ratio)
    numbers: list[Span] = [(f"{show_bytes(held_bytes(seen))} / {show_bytes(total)} ", "text")]
    numbers.append((f"{ratio * 100:3.0f} % ", tone))
    told = render(text("as {server} tells it", server=visible(seen.server)))
    return [
        row((" ◇ ", "key"), (cut(visible(seen.device or ""), max(width - 4, 4)), "strong")),
        row(*spread([("   " + _("memory"), "dim")], numbers, width)),
        row(("   ", "text"), *bar(ratio, max(width - 4, 7), tone)),
        row(("   " + cut(told, max(width - 4, 4)), "dim")),
    ]
