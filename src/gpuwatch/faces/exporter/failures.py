"""The metrics of what failed and of what was done: incidents, fixes, logs, rules."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from gpuwatch.core.observations import FixOutcome, SourceKind
from gpuwatch.core.rules import ACTIONS, LABELS, QUEUE_AGAIN, Label, RuleSet, Severity
from gpuwatch.core.snapshot import RecordOutcome, Snapshot
from gpuwatch.core.status import Reload, SourceState
from gpuwatch.faces.exporter.rows import Exemplar, Row, Samples, Value, View, at_zero

_RECORD_SOURCES: tuple[SourceKind, ...] = ("file", "stdin", "cmd", "comfyui", "kernel", "journal", "docker")
_RECORD_OUTCOMES: tuple[RecordOutcome, ...] = get_args(RecordOutcome)


def severities(rules: RuleSet) -> dict[Label, set[Severity]]:
    """The severities that each label's rules have."""
    known: dict[Label, set[Severity]] = {label: set() for label in LABELS}
    for rule in rules.every:
        for label in (rule.label, *rule.refine.values()):
            known[label].add(rule.severity)
    return known


def failures(view: View) -> Samples:
    """Failures by label and severity; what no failure has told yet stands at 0."""
    totals: dict[tuple[Label, Severity], int] = {
        (label, severity): 0 for label, each in severities(view.rules).items() for severity in each or {"error"}
    }
    for (label, severity), count in {**totals, **view.snapshot.failures_total}.items():
        yield Value((label, severity), count, exemplar(view.snapshot, label, severity) if count else None)


def exemplar(snapshot: Snapshot, label: Label, severity: Severity) -> Exemplar | None:
    """Which incident raised the count last: its id, as every other face shows it."""
    incident = snapshot.incidents.get(snapshot.failure_last_id.get(label, ""))
    if incident is None or incident.severity != severity:
        return None
    return Exemplar(incident.id, snapshot.failure_last_at[label])


def active(view: View) -> Samples:
    """Standing incidents by label."""
    standing = view.snapshot.standing
    return (Value((label,), standing[label]) for label in LABELS)


def fixes(view: View) -> Samples:
    """Fixes by what they are and what became of them."""
    told = view.snapshot.tallies.fixes
    return (
        Value((action, outcome), at_zero(told.get((action, outcome))))
        for action in (*ACTIONS, QUEUE_AGAIN)
        for outcome in get_args(FixOutcome)
    )


def records(view: View) -> Samples:
    """Records by the kind of source and whether a rule spoke of them."""
    told = view.snapshot.records_total
    return (
        Value((source, outcome), at_zero(told.get((source, outcome))))
        for source in _RECORD_SOURCES
        for outcome in _RECORD_OUTCOMES
    )


def gaps(view: View) -> Samples:
    """Gaps by the kind of source."""
    told = view.snapshot.tallies.gaps
    return (Value((source,), at_zero(told.get(source))) for source in _RECORD_SOURCES)


def sources(view: View) -> Samples:
    """How many sources of a kind are in which state."""
    told = Counter((status.kind, status.state) for status in view.snapshot.sources.values())
    kinds = sorted({kind for kind, _state in told})
    return (Value((kind, state), told[kind, state]) for kind in kinds for state in get_args(SourceState))


def reload_success(reload: Reload | None) -> Samples:
    """1 where the files as they are now are in force."""
    return [Value((), float(reload is None or reload.refused is None))]


def reload_time(reload: Reload | None) -> Samples:
    """When the files were last read anew and taken."""
    return [] if reload is None or reload.succeeded_at is None else [Value((), reload.succeeded_at.timestamp())]


ROWS: tuple[Row, ...] = (
    Row(
        "gpuwatch_incidents_total",
        "Failures seen, each once, by label.",
        ("label", "severity"),
        failures,
        "counter",
        "failures",
    ),
    Row(
        "gpuwatch_incident_active",
        "Incidents of a label that stand: told, neither recovered nor cleared, and not muted.",
        ("label",),
        active,
        unit="incidents",
    ),
    Row(
        "gpuwatch_incidents_muted_total",
        "Failures among gpuwatch_incidents_total that a person has muted.",
        ("label",),
        lambda v: (Value((label,), v.snapshot.muted_total.get(label, 0)) for label in LABELS),
        "counter",
        "failures",
    ),
    Row(
        "gpuwatch_incident_last_timestamp_seconds",
        "When the last failure of a label was seen, in seconds since 1970.",
        ("label",),
        lambda v: (Value((label,), at.timestamp()) for label, at in v.snapshot.failure_last_at.items()),
    ),
    Row(
        "gpuwatch_fixes_total",
        "Fixes, by what they did and what became of them: applied, then held or failed.",
        ("action", "outcome"),
        fixes,
        "counter",
        "fixes",
    ),
    Row(
        "gpuwatch_log_records_total",
        "Records read, by kind of source.",
        ("source", "outcome"),
        records,
        "counter",
        "records",
    ),
    Row(
        "gpuwatch_log_gaps_total",
        "Times that a log went on after something between was missed, because its writer keeps only so much.",
        ("source",),
        gaps,
        "counter",
        "gaps",
    ),
    Row(
        "gpuwatch_sources",
        "Sources by kind and state.",
        ("source", "state"),
        sources,
        unit="sources",
    ),
    Row(
        "gpuwatch_rules_quarantined",
        "Rules set aside because their patterns took too long.",
        (),
        lambda v: [Value((), len(v.snapshot.quarantined))],
        unit="rules",
    ),
    Row(
        "gpuwatch_rules_last_reload_success",
        "1 where the rule files as they are now are in force, 0 where a change was refused and the rules before it stay.",
        (),
        lambda v: reload_success(v.snapshot.rules_reload),
        unit="0 or 1",
    ),
    Row(
        "gpuwatch_rules_last_reload_success_timestamp_seconds",
        "When changed rule files were last taken, in seconds since 1970; none before the first change.",
        (),
        lambda v: reload_time(v.snapshot.rules_reload),
    ),
    Row(
        "gpuwatch_mutes_last_reload_success",
        "1 where the mutes as they are now are in force, 0 where a change was refused and the mutes before it stay.",
        (),
        lambda v: reload_success(v.snapshot.mutes_reload),
        unit="0 or 1",
    ),
)
