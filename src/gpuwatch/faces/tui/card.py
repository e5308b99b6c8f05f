"""The card at the moment of an out-of-memory failure, drawn to scale: who held what, and how far the request went past it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuwatch.core.balance import Balance, balance_of
from gpuwatch.faces.tui.paint import Row, Span, row, width_of
from gpuwatch.faces.tui.themes import Tone
from gpuwatch.texts import Text, render, show_bytes, text

Part = tuple[int, str, Tone, Text]
_WIDEST = 72


def card_rows(facts: Mapping[str, Any], width: int) -> list[Row]:
    """The card, the request, and what the signs mean; nothing where the message did not tell enough."""
    balance = balance_of(facts)
    parts = parts_of(balance)
    if balance.total_bytes is None or balance.free_bytes is None or not parts or width < 24:
        return []
    taken = balance.total_bytes - balance.free_bytes
    asked = balance.tried_bytes or 0
    scale = max(taken + asked, balance.total_bytes) / min(width - 4, _WIDEST)
    rows = [row(("   ", "text"), *bar_spans(parts, balance.total_bytes, scale))]
    if asked:
        start = round(taken / scale)
        words = render(text("asked for {tried_bytes}", tried_bytes=asked))
        line = "━" * max(round(asked / scale), 1)
        beside = start + len(line) + width_of([(words, "text")]) + 2 <= width - 3
        rows.append(row(("   " + " " * start, "text"), (line, "error"), (("  " + words) if beside else "", "error")))
        if not beside:
            room = max(start + len(line) - width_of([(words, "text")]), 0)
            rows.append(row(("   " + " " * room, "text"), (words, "error")))
    return rows + legend(parts, width)


def parts_of(balance: Balance) -> list[Part]:
    """What filled the card, in the order it is drawn. What nobody told is left to the last, as taken by something else."""
    total, free = balance.total_bytes, balance.free_bytes
    if total is None or free is None:
        return []
    told: list[tuple[int | None, str, Tone, Text]] = [
        (balance.allocated_bytes, "█", "accent", text("tensors")),
        (balance.slack_bytes, "▓", "info", text("idle in PyTorch")),
        (balance.context_bytes, "▒", "dim", text("CUDA itself")),
        (balance.others_bytes, "▞", "warning", text("other programs")),
    ]
    parts: list[Part] = [(size, sign, tone, name) for size, sign, tone, name in told if size]
    unexplained = total - free - sum(size for size, *_rest in parts)
    if unexplained > total // 100:
        parts.append((unexplained, "▚", "dim", text("taken otherwise")))
    return [*parts, (free, "░", "faint", text("free"))]


def bar_spans(parts: list[Part], total: int, scale: float) -> list[Span]:
    """The card's bar; rounding never makes it longer or shorter than the card."""
    spans: list[Span] = []
    end, drawn = 0, 0
    for size, sign, tone, _name in parts:
        end = min(end + size, total)
        cells = max(round(end / scale) - drawn, 0)
        spans.append((sign * cells, tone))
        drawn += cells
    return [*spans, ("▏", "dim")]


def legend(parts: list[Part], width: int) -> list[Row]:
    """What the signs mean, in as many lines as it takes."""
    rows: list[Row] = []
    line: list[Span] = [("   ", "text")]
    for size, sign, tone, name in parts:
        entry: list[Span] = [(sign + " ", tone), (render(name) + " ", "dim"), (show_bytes(size) + "   ", "text")]
        if width_of([*line, *entry]) > width and len(line) > 1:
            rows.append(row(*line))
            line = [("   ", "text")]
        line += entry
    return [*rows, row(*line)]
