"""The examples of rules, run: what each must match and what it must leave alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.rulebook import load_rules, read_rules
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.records import plain_text
from gpuwatch.core.rehearsal import spoken_of
from gpuwatch.core.rules import Rule
from gpuwatch.core.talk import is_talk
from gpuwatch.texts import Text, render, text, visible


def run_examples(folder: Path | None) -> int:
    """Run the examples of every rule in the folder; without one, of every rule in force."""
    rules = load_rules(folder)
    own = rules if folder is None else read_rules(folder).rules
    every = Matcher(rules)
    passed = 0
    failed: list[str] = []
    for rule in own:
        for number, example in enumerate(rule.matching_examples, start=1):
            found = [incident for incident in incidents_of(example.log, every) if incident.rule.id == rule.id]
            facts = {name: value for incident in found for name, value in known_facts(incident).items()}
            wrong = {name: facts.get(name) for name, value in example.facts.items() if facts.get(name) != value}
            if found and not wrong:
                passed += 1
            elif not found:
                unasked = any(is_talk(plain_text(line)) for line in example.log.encode().splitlines())
                failed.append(render((never_asked if unasked else not_matched)(rule, number)))
            else:
                told = text(
                    "{where}: {id}: example {number}: found {facts}.",
                    where=rule.where,
                    id=rule.id,
                    number=number,
                    facts=str(wrong),
                )
                failed.append(render(told))
        for number, log in enumerate(rule.ignored_examples, start=1):
            if any(incident.rule.id == rule.id for incident in incidents_of(log, every)):
                failed.append(render(matched_wrongly(rule, number)))
            else:
                passed += 1
    for rule in own.correlations:
        for number, steps in enumerate(rule.matching_sequences, start=1):
            if rule.id in spoken_of(steps, rules, every):
                passed += 1
            else:
                failed.append(render(not_matched(rule, number)))
        for number, steps in enumerate(rule.ignored_sequences, start=1):
            if rule.id in spoken_of(steps, rules, every):
                failed.append(render(matched_wrongly(rule, number)))
            else:
                passed += 1
    for line in failed:
        print(visible(line), file=sys.stderr)
    print(f"{passed} passed, {len(failed)} failed")
    return 2 if failed else 0


def not_matched(rule: Rule, number: int) -> Text:
    """An example that the rule should find."""
    return text("{where}: {id}: example {number} is not matched.", where=rule.where, id=rule.id, number=number)


def never_asked(rule: Rule, number: int) -> Text:
    """An example that the rule should find, but that no rule is asked about."""
    return text(
        "{where}: {id}: example {number} is not matched: no rule is asked about a note, a commit, a prompt or a metric.",
        where=rule.where,
        id=rule.id,
        number=number,
    )


def matched_wrongly(rule: Rule, number: int) -> Text:
    """An example that the rule should leave alone."""
    return text("{where}: {id}: counter-example {number} is matched.", where=rule.where, id=rule.id, number=number)


def known_facts(incident: Incident) -> dict[str, Any]:
    """The incident's facts, with the node as one of them."""
    node = {"node_id": incident.node.id, "node_type": incident.node.type}
    return {**{name: value for name, value in node.items() if value}, **incident.facts}


def incidents_of(log: str, rules: Matcher) -> list[Incident]:
    """What the engine finds in one log."""
    engine, at = Engine(rules.rules, ready=rules), utc_now()
    events = [*engine.feed(LogChunk(at, "example", log.encode())), *engine.end(at)]
    return list({event.incident.id: event.incident for event in events if isinstance(event, IncidentChanged)}.values())
