"""What a failure means: its cause in one sentence, the evidence, how sure we are, and the fixes in the order to try them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gpuwatch.texts import Text

Fits = Literal["yes", "no", "uncertain"]
Safety = Literal["safe", "restarts", "changes_output"]
Grounds = Literal["numbers", "signs", "general", "weak"]
"""What speaks for a fix: the case's own numbers say that it is enough; they point there; it helps in most such cases; it may
help where nothing else does."""
GROUNDS: tuple[Grounds, ...] = get_args(Grounds)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a fix will need."""

    peak_bytes: int
    """The high end of what the whole process will hold on the card."""
    fits: Fits


@dataclass(frozen=True, slots=True)
class Fix:
    """One thing to do, as concrete as what is known allows."""

    action: str
    """The planner's name, one of `rules.ACTIONS`."""
    title: Text
    safety: Safety = "safe"
    params: Mapping[str, Any] = field(default_factory=dict)
    predicted: Prediction | None = None
    command: str | None = None
    """What to type, where typing is how it is done."""
    note: Text | None = None
    """What it changes for the picture, or what to watch for."""
    grounds: Grounds = "general"
    """Which fix to try first is decided by it."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why it failed and what helps."""

    cause: Text
    confidence: float
    """0 to 1: how surely the cause is the one named; `core/confidence.py` defines it."""
    evidence: tuple[Text, ...] = ()
    fixes: tuple[Fix, ...] = ()
