"""Plays the example of a rule that correlates: which of the rules speak of these failures together.

The example is all there is to know, so a label alone may stand for a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk, LogRestarted, Tick
from gpuwatch.core.rules import Label, Rule, RuleSet, Step

_BEGIN = datetime(2000, 1, 1, tzinfo=UTC)


def spoken_of(steps: Sequence[Step], rules: RuleSet, ready: Matcher) -> set[str]:
    """The ids of the rules that correlate and find something in the example."""
    engine = Engine(rules, ready=ready, correlates=True)
    found: set[str] = set()
    for number, step in enumerate(steps, start=1):
        at = _BEGIN + timedelta(seconds=step.at_seconds)
        events: list[Event] = engine.feed(Tick(at))
        if step.log is not None:
            events += engine.feed(LogChunk(at, step.source, step.log.encode() + b"\n"))
            events += engine.feed(LogRestarted(at, step.source))  # what was told is told: it counts now
        elif step.label is not None:
            incident = stand_in(step.label, step.source, number, rules, at)
            if incident is not None:
                found |= {ours.rule.id for ours in engine.correlator.changed(incident)}
                found |= {ours.rule.id for ours, _new in engine.correlator.counted(incident.id, at)}
        found |= {event.incident.rule.id for event in events if isinstance(event, IncidentChanged)}
    return found & {rule.id for rule in rules.correlations}


def stand_in(label: Label, source: str, number: int, rules: RuleSet, at: datetime) -> Incident | None:
    """An incident of the label, by the first rule that tells it; None where no rule does."""
    rule: Rule | None = next((one for one in rules if label in (one.label, *one.refine.values())), None)
    if rule is None:
        return None
    return Incident(f"step-{number}", source, rule, label, "open", number, label, at, at)
