"""How one set of rules follows another while logs are read: what the earlier ones opened is still theirs."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.rules import Rule

_MOST_EARLIER = 3
"""How many sets of rules before the one in force are kept for the incidents that they opened."""


class Succession(Matcher):
    """The newest rules' matcher that also knows the rules before them, for what they opened. New records are matched by the
    newest alone, whose compiled patterns and set-aside rules it shares."""

    __slots__ = ("_matchers",)

    def __init__(self, newest: Matcher, earlier: tuple[Matcher, ...]) -> None:
        for each in fields(newest):
            setattr(self, each.name, getattr(newest, each.name))
        self._matchers = (newest, *earlier)

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        """The newest first."""
        return self._matchers

    def facts(self, rule: Rule, text: bytes, *, across: int | None = None) -> list[tuple[str, Any]]:
        """The facts by the rule as it was when the incident was opened; none where that is long gone."""
        for matcher in self._matchers:
            if matcher.rules.by_id.get(rule.id) is rule:
                return matcher.facts(rule, text, across=across)
        return []

    def clears(self, rule_id: str, text: bytes) -> bool:
        """Whether the rule says so as it is, or as it was."""
        return any(matcher.clears(rule_id, text) for matcher in self._matchers)


def handed_over(newest: Matcher, before: Matcher) -> Succession:
    """The newest rules, with those before them at hand for the incidents that they opened."""
    known = before.matchers if isinstance(before, Succession) else (before,)
    return Succession(newest, known[:_MOST_EARLIER])
