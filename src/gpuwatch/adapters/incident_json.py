"""An incident as JSON and back: what the journal keeps of it. Of its rule only what is needed to show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints

from gpuwatch.adapters.recording import from_json, to_json
from gpuwatch.core.incidents import Incident
from gpuwatch.core.rules import Rule

_RULE = ("id", "label", "title", "severity", "why")
_LEFT_OUT = frozenset({"rule", "mute"})
_HINTS = get_type_hints(Incident)
_RULE_HINTS = get_type_hints(Rule)


def incident_to_json(incident: Incident) -> dict[str, Any]:
    """Everything but the rule's patterns and the person's mute."""
    kept = {
        field.name: to_json(getattr(incident, field.name)) for field in fields(incident) if field.name not in _LEFT_OUT
    }
    return {**kept, "rule": {name: to_json(getattr(incident.rule, name)) for name in _RULE}}


def incident_from_json(value: Mapping[str, Any]) -> Incident:
    """The incident as it was kept. Raises what a damaged value raises: ValueError, TypeError or KeyError."""
    told = value["rule"]
    rule = Rule(match=(), **{name: from_json(_RULE_HINTS[name], told[name]) for name in _RULE})
    known = {name: from_json(_HINTS[name], value[name]) for name in _HINTS if name in value and name not in _LEFT_OUT}
    return Incident(rule=rule, **known)


def over(incident: Incident) -> Incident:
    """As it is told once its watch is over: nothing stands open that nobody watches."""
    return replace(incident, state="settled") if incident.state == "open" else incident
