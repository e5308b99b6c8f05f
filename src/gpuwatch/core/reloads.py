"""New rules and mutes while logs are read: what came, or why it did not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from gpuwatch.core.mutes import Mutes
from gpuwatch.core.rules import RuleSet
from gpuwatch.texts import Text

if TYPE_CHECKING:  # who only draws what happened needs no matcher
    from gpuwatch.core.matching.matcher import Matcher


@dataclass(frozen=True, slots=True)
class RulesLoaded:
    """The rule files changed and are sound."""

    at: datetime
    rules: RuleSet
    matcher: Matcher


@dataclass(frozen=True, slots=True)
class RulesRefused:
    """The rule files changed and cannot be used; the rules in force stay."""

    at: datetime
    reason: Text


@dataclass(frozen=True, slots=True)
class MutesLoaded:
    """The file of mutes changed and is sound."""

    at: datetime
    mutes: Mutes


@dataclass(frozen=True, slots=True)
class MutesRefused:
    """The file of mutes changed and cannot be used; the mutes in force stay."""

    at: datetime
    reason: Text


Change = RulesLoaded | RulesRefused | MutesLoaded | MutesRefused
"""What a person's files become while logs are read."""
