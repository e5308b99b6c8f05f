"""A log for an engine: what is said into it, and what the engine has told so far."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, FailureCounted, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.observations import LogChunk, Tick
from gpuwatch.core.rules import RuleSet

AT = datetime(2026, 11, 21, tzinfo=UTC)
RULES, WORKLOADS = load_rules(), load_workloads()
READY = Matcher(RULES)
HEAD = "!!! Exception during processing !!! "
TRACE = 'Traceback (most recent call last):\n  File "/opt/ComfyUI/execution.py", line 1, in execute\n'
NATIVE = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which 1.00 GiB is free."
)
DONE = "Prompt executed in 0.25 seconds\n"


def block(message: str, kind: str = "torch.OutOfMemoryError") -> str:
    return f"{HEAD}{message}\n{TRACE}{kind}: {message}\n\nGot an OOM, unloading all loaded models.\n"


class Log:
    """An engine and what it has told so far."""

    def __init__(self, rules: RuleSet = RULES, *, looked_at: bool = True) -> None:
        self.engine = Engine(rules, WORKLOADS, shows_records=looked_at, ready=READY if rules is RULES else None)
        self.incidents: dict[str, Incident] = {}
        self.counted = 0
        self.events: list[Event] = []

    def take(self, events: list[Event]) -> None:
        self.events += events
        for event in events:
            if isinstance(event, IncidentChanged):
                self.incidents[event.incident.id] = event.incident
            elif isinstance(event, FailureCounted) and event.fresh:
                self.counted += event.failures

    def say(self, words: str, after: float = 0, *, fresh: bool = True) -> None:
        self.take(self.engine.feed(LogChunk(AT + timedelta(seconds=after), "log", words.encode(), fresh=fresh)))

    def wait(self, seconds: float) -> None:
        self.take(self.engine.feed(Tick(AT + timedelta(seconds=seconds))))

    def end(self) -> None:
        self.take(self.engine.end(AT))

    @property
    def only(self) -> Incident:
        (incident,) = self.incidents.values()
        return incident
