"""What a panel is, as data: a title, what it asks Prometheus, its unit, its thresholds and its runbook.

The boards are in `boards_work.py` and `boards_cards.py`; `generate.py` makes Grafana's JSON of them. Only what gpuwatch tells
today is there: a panel that stays empty teaches people to look away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HERE = 'instance=~"$instance"'


@dataclass(frozen=True)
class Ask:
    """One query, and how its series are called."""

    expr: str
    legend: str = "{{instance}}"


@dataclass(frozen=True)
class Panel:
    """One panel. `limits` are (value, colour) from the value on; `unit` is one of Grafana's."""

    title: str
    asks: tuple[Ask, ...]
    unit: str
    help: str
    runbook: str
    kind: Literal["stat", "lines", "table"] = "lines"
    limits: tuple[tuple[float, str], ...] = ()
    span: int = 12
    stacked: bool = False
    least: float | None = 0
    most: float | None = None


@dataclass(frozen=True)
class Board:
    """One dashboard: its rows of panels, and the variables it has besides datasource and instance."""

    name: str
    title: str
    help: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()


def one(expr: str, legend: str = "{{instance}}") -> tuple[Ask, ...]:
    """A panel's only query."""
    return (Ask(expr, legend),)


BAD = ((1.0, "red"),)
