"""Failures printed as they come, for `watch --plain`, `serve` and `record`: each once, when its facts are together."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence

from gpuwatch.core.awaiting import Awaiting, Telling
from gpuwatch.core.events import Event, FailureCounted, RulesQuarantined
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import LogGap, SourceDown, SourceUp
from gpuwatch.core.reloads import MutesLoaded, MutesRefused, RulesLoaded, RulesRefused
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.narration import Narrate, in_words
from gpuwatch.faces.report import console_for, head_line, incident_json, json_line, print_incident
from gpuwatch.faces.watching import stop_on_signals
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text, plain, render, text, visible

_MOST_INPUTS = 6
_LOOK_UP_SECONDS = 1.0
"""How soon it is noticed that the reader of our output is gone; a signal and the end of the sources are, at once."""


class Printer:
    """Prints each failure once, when its facts are together. A listener of the pipeline."""

    def __init__(self, *, as_json: bool = False, say: Narrate = in_words) -> None:
        self._as_json = as_json
        self._say = say
        self._printed: dict[str, int] = {}
        self._down: set[str] = set()
        self._awaiting = Awaiting()
        self._snapshot = Snapshot()
        self.failures = 0
        self.closed = threading.Event()
        """Set when whoever read the output has gone."""

    def __call__(self, events: Sequence[Event], snapshot: Snapshot) -> None:
        """Print what the events tell."""
        self._snapshot = snapshot
        if self.closed.is_set():
            return
        try:
            for event in events:
                if isinstance(event, FailureCounted):
                    self.failures += event.failures
                else:
                    self._narrate(event)
            self._tell(self._awaiting.hear(events, snapshot.incidents, snapshot.sources))
        except BrokenPipeError:
            self.closed.set()

    def flush(self) -> None:
        """Print what still waits for its job; once the pipeline has stopped."""
        seen = self._snapshot
        if self.closed.is_set() or seen.at is None:
            return
        try:
            self._tell(self._awaiting.flush(seen.at, seen.incidents))
        except BrokenPipeError:
            self.closed.set()

    def _narrate(self, event: Event) -> None:
        if isinstance(event, SourceDown):
            told = plain(f"{event.source}: {render(event.reason)}")
            if render(event.reason).startswith(f"{event.source}:"):
                told = event.reason
            self._down.add(event.source)
            self._say(told, event="source_down", level="error" if event.failed else "info", source=event.source)
        elif isinstance(event, SourceUp) and (event.note is not None or event.source in self._down):
            told = event.note or text("{source}: is back", source=event.source)
            self._down.discard(event.source)
            self._say(told, event="source_up", source=event.source)
        elif isinstance(event, LogGap):
            told = text("{source}: a part of the log was missed", source=event.source)
            self._say(told, event="log_gap", level="warning", source=event.source)
        elif isinstance(event, RulesQuarantined):
            if event.rule_ids:
                told = text("set aside for taking too long: {rules}", rules=", ".join(sorted(event.rule_ids)))
                self._say(told, event="rules_quarantined", level="warning", rules=sorted(event.rule_ids))
        elif isinstance(event, RulesLoaded | MutesLoaded):
            self._say(reload_words(event), event="reloaded")
        elif isinstance(event, RulesRefused | MutesRefused):
            self._say(reload_words(event), event="reload_refused", level="warning")

    def _tell(self, tellings: Iterable[Telling]) -> None:
        for telling in tellings:
            if telling.failures:
                self._print(telling.incident)
                self._log(telling)
            else:
                self._print_late(telling.incident)
        sys.stdout.flush()

    def _log(self, telling: Telling) -> None:
        incident = telling.incident
        self._say(
            incident.title,
            event="failure",
            level=incident.severity,
            incident=incident.id,
            label=incident.label,
            rule=incident.rule.id,
            source=incident.source,
            line=incident.line,
            failures=telling.failures,
            muted=incident.muted,
            node=incident.node.type,
            job=incident.job_id,
            text=incident.text,
        )

    def _print(self, incident: Incident) -> None:
        if self._as_json:
            print(json_line({"source": incident.source, **incident_json(incident)}))
            return
        if incident.muted:
            if incident.id not in self._printed:
                console_for(sys.stdout).print(head_line(incident), style="dim")
        elif incident.id in self._printed:
            print(f"  ×{incident.count}  {visible(render(incident.title))}")
        else:
            print_incident(console_for(sys.stdout), incident)
        self._printed[incident.id] = incident.count

    def _print_late(self, incident: Incident) -> None:
        """What the job adds to a failure that was printed without it."""
        if self._as_json:
            print(json_line({"source": incident.source, **incident_json(incident), "supplement": True}))
        elif not incident.muted:
            node, inputs = incident.node, list(incident.node.inputs.items())[:_MOST_INPUTS]
            told = text("{title}: it was job {job}", title=incident.title, job=incident.job_id or "?")
            where = f", {node.type or '?'} #{node.id or '?'}"
            given = f" ({', '.join(f'{name}={value}' for name, value in inputs)})" if inputs else ""
            print(visible(f"  ↳ {render(told)}{where}{given}"))


def reload_words(event: RulesLoaded | RulesRefused | MutesLoaded | MutesRefused) -> Text:
    """What is said when rules or mutes were read anew, or could not be."""
    match event:
        case RulesLoaded():
            return text("Rules read anew: {count} in force.", count=len(event.rules.every))
        case RulesRefused():
            return text("The rules stay as they were: {reason}", reason=event.reason)
        case MutesLoaded():
            return text("Mutes read anew: {count} in force.", count=len(event.mutes.entries))
        case MutesRefused():
            return text("The mutes stay as they were: {reason}", reason=event.reason)


def print_until_end(pipeline: Pipeline, *, as_json: bool, say: Narrate = in_words) -> int:
    """Print failures until every source has ended or someone says stop."""
    printer = Printer(as_json=as_json, say=say)
    pipeline.subscribe(printer)
    stop = threading.Event()
    pipeline.when_ended(stop.set)
    with stop_on_signals(stop):
        pipeline.start()
        while not stop.wait(_LOOK_UP_SECONDS) and not printer.closed.is_set():
            pass
        pipeline.wait(0)
        pipeline.stop()
        printer.flush()
    if printer.closed.is_set():
        raise BrokenPipeError
    return 0
