"""The metrics of gpuwatch itself: which one it is, whether it keeps up, whether its page is well."""

from __future__ import annotations

from typing import get_args

from gpuwatch import __version__
from gpuwatch.core.notices import NOTICE_OUTCOMES
from gpuwatch.core.tallies import OTHER
from gpuwatch.faces.exporter.repeating import PushOutcome, Way
from gpuwatch.faces.exporter.rows import Row, Samples, Value, View

MOST_RULES = 64


def lag(view: View) -> Samples:
    """How far what is known lies behind the clock; a recording that is played fast is ahead, and lags by nothing."""
    if view.snapshot.at is not None:
        yield Value((), max(0.0, (view.now - view.snapshot.at).total_seconds()))


def web_config(view: View) -> Samples:
    """1 where the web configuration as it is now is in force."""
    if view.serving.config_taken is not None:
        yield Value((), float(view.serving.config_taken))


def rule_times(view: View) -> Samples:
    """Each rule that was tried among the first, all that came later in one sum."""
    times = list(view.snapshot.vitals.rule_seconds.items())
    for rule, seconds in times[:MOST_RULES]:
        yield Value((rule,), seconds)
    if rest := times[MOST_RULES:]:
        yield Value((OTHER,), sum(seconds for _rule, seconds in rest))


def journal_bytes(view: View) -> Samples:
    """What the journal takes on disk."""
    if view.snapshot.journal is not None:
        yield Value((), view.snapshot.journal.size_bytes)


def journal_kept(view: View) -> Samples:
    """1 where this gpuwatch keeps the journal."""
    if view.snapshot.journal is not None:
        yield Value((), float(view.snapshot.journal.kept))


def journal_oldest(view: View) -> Samples:
    """When the journal's oldest record was."""
    if view.snapshot.journal is not None and view.snapshot.journal.oldest_at is not None:
        yield Value((), view.snapshot.journal.oldest_at.timestamp())


ROWS: tuple[Row, ...] = (
    Row("gpuwatch_build_info", "Which gpuwatch this is.", ("version",), lambda _v: [Value((__version__,), 1.0)]),
    Row(
        "gpuwatch_lag_seconds",
        "How far what is known lies behind the clock; under a second where gpuwatch keeps up.",
        (),
        lag,
    ),
    Row(
        "gpuwatch_busy_seconds_total",
        "Time spent reading records, matching rules and diagnosing.",
        (),
        lambda v: [Value((), v.snapshot.vitals.busy_seconds)],
        "counter",
        "seconds",
    ),
    Row(
        "gpuwatch_rule_seconds_total",
        "Time spent in a rule's patterns: the first 64 rules that were tried, the rest as other.",
        ("rule",),
        rule_times,
        "counter",
        "seconds",
    ),
    Row(
        "gpuwatch_observations_total",
        "Observations taken from sources: pieces of logs, samples, queue states, jobs.",
        (),
        lambda v: [Value((), v.snapshot.vitals.observations)],
        "counter",
        "observations",
    ),
    Row(
        "gpuwatch_observations_waiting",
        "Observations that wait to be read. Sources wait while the queue is full; none is dropped.",
        (),
        lambda v: [Value((), v.snapshot.vitals.waiting)],
        unit="observations",
    ),
    Row(
        "gpuwatch_observations_waiting_most",
        "How many observations may wait.",
        (),
        lambda v: [Value((), v.snapshot.vitals.most_waiting)],
        unit="observations",
    ),
    Row(
        "gpuwatch_journal_kept",
        "1 where this gpuwatch keeps the journal, 0 where another does or it cannot be; none without one.",
        (),
        journal_kept,
        unit="0 or 1",
    ),
    Row(
        "gpuwatch_journal_size_bytes",
        "What the journal takes on disk, its write-ahead log included.",
        (),
        journal_bytes,
    ),
    Row(
        "gpuwatch_journal_rows_written_total",
        "Incidents, jobs, fixes and places written to the journal since the start; a change is written again.",
        (),
        lambda v: [Value((), v.snapshot.journal.rows_written if v.snapshot.journal is not None else 0)],
        "counter",
        "rows",
    ),
    Row(
        "gpuwatch_journal_write_errors_total",
        "How often the journal could not be written; what waits is written later.",
        (),
        lambda v: [Value((), v.snapshot.journal.write_errors if v.snapshot.journal is not None else 0)],
        "counter",
        "errors",
    ),
    Row(
        "gpuwatch_journal_oldest_timestamp_seconds",
        "When the journal's oldest record was; older ones are let go after 90 days or 64 MiB.",
        (),
        journal_oldest,
    ),
    Row(
        "gpuwatch_scrapes_refused_total",
        "Requests for this page that were sent away: too many at once (busy), or without a right password (unauthorized).",
        ("reason",),
        lambda v: [Value(("busy",), v.serving.refused), Value(("unauthorized",), v.serving.unauthorized)],
        "counter",
        "requests",
    ),
    Row(
        "gpuwatch_pushes_total",
        "Times that the metrics were written (textfile) or pushed (otlp) without being asked for, and how that went.",
        ("to", "outcome"),
        lambda v: (
            Value((way, outcome), v.pushes.get((way, outcome), 0))
            for way in get_args(Way)
            for outcome in get_args(PushOutcome)
        ),
        "counter",
        "pushes",
    ),
    Row(
        "gpuwatch_web_config_last_reload_success",
        "1 where the web configuration as it is now is in force, 0 where a change was refused; none without one.",
        (),
        web_config,
        unit="0 or 1",
    ),
    Row(
        "gpuwatch_notifications_total",
        "Notices, by what became of them: delivered, refused for good, failed for an hour, dropped for want of room or time, "
        "or held back because there were too many.",
        ("outcome",),
        lambda v: [Value((outcome,), v.notified.get(outcome, 0)) for outcome in NOTICE_OUTCOMES],
        "counter",
        "notices",
    ),
)
