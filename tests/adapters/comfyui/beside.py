"""A watched stand-in: the real source, the real engine, and a way to wait for what they tell."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.pace import Pace
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.sources import Source
from gpuwatch.adapters.sources.comfyui import ComfyuiSource
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event, FailureCounted
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import JobEnded, ServerSeen, SourceDown, SourceUp, Tick
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.pipeline import Pipeline
from tests.standin.prompts import workflow
from tests.standin.server import Standin, standing

PATIENCE_SECONDS = 30
QUICK = Pace(
    busy_seconds=0.05, idle_seconds=0.1, stats_seconds=0.5, ring_seconds=0.3, first_wait_seconds=0.02,
    longest_wait_seconds=0.1,
)  # fmt: skip
RULES, WORKLOADS = load_rules(), load_workloads()


@dataclass
class Beside:
    """What was told of the servers that are watched."""

    pipeline: Pipeline
    events: list[Event] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def listen(self, events: Sequence[Event], _snapshot: Snapshot) -> None:
        with self.changed:
            self.events.extend(events)
            self.changed.notify_all()

    @property
    def snapshot(self) -> Snapshot:
        return self.pipeline.snapshot

    def until(self, happened: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.changed:
            while not (value := happened()):
                left_seconds = deadline - time.monotonic()
                assert left_seconds > 0, self.story()
                self.changed.wait(min(left_seconds, 0.05))  # some conditions are not ours to notify
            return value

    def story(self) -> str:
        """What happened, for a test that waited in vain."""
        told = [
            f"{i.id} {i.source} {i.label} {i.state} x{i.count} fresh={i.fresh} node={i.node.id} job={i.job_id} also={i.also_in}"
            for i in self.snapshot.incidents.values()
        ]
        kinds = " ".join(type(event).__name__ for event in self.events if not isinstance(event, Tick | ServerSeen))
        return "\n".join(["it did not happen", *told, f"{self.failures()} counted", kinds[-1500:], *self.downs()])

    def failures(self) -> int:
        return sum(event.failures for event in self.events if isinstance(event, FailureCounted) and event.fresh)

    def incidents(self, label: str) -> list[Incident]:
        return [each for each in self.snapshot.incidents.values() if each.label == label and each.fresh]

    def jobs(self) -> list[JobEnded]:
        return [event for event in self.events if isinstance(event, JobEnded)]

    def downs(self) -> list[str]:
        return [str(event.reason) for event in self.events if isinstance(event, SourceDown) and event.failed]

    def ups(self) -> int:
        return sum(isinstance(event, SourceUp) and event.note is None for event in self.events)

    def heard(self, standin: Standin) -> None:
        """Wait until the source hears the server's log, and has taken stock of what was before."""
        self.until(lambda: standin.comfyui.subscribed and self.snapshot.queues)


def engine(*, correlates: bool = True) -> Engine:
    return Engine(RULES, WORKLOADS, shows_records=False, correlates=correlates)


def source(standin: Standin, **options: Any) -> ComfyuiSource:
    return ComfyuiSource(server_of(standin.url), pace=options.pop("pace", QUICK), **options)


@contextmanager
def watching(*sources: Source, from_start: bool = False) -> Iterator[Beside]:
    """Sources, watched until the end of the block."""
    beside = Beside(Pipeline(engine(correlates=not from_start), sources))
    beside.pipeline.subscribe(beside.listen)
    beside.pipeline.start()
    try:
        yield beside
    finally:
        beside.pipeline.stop()


@contextmanager
def watched(standin: Standin, **options: Any) -> Iterator[Beside]:
    """The stand-in, watched, its log subscribed to."""
    with watching(source(standin, **options), from_start=bool(options.get("from_start"))) as beside:
        beside.heard(standin)
        yield beside


@contextmanager
def a_server(**options: Any) -> Iterator[Standin]:
    with standing(**options) as standin:
        yield standin


def submit(standin: Standin, prompt: dict[str, Any] | None = None, **body: Any) -> str:
    """Queue a prompt; the large network at 1280, which the card does not hold, where none is given."""
    status, answer = standin.comfyui.submit({"prompt": prompt or workflow(1280), **body})
    assert status == 200, answer
    return str(answer["prompt_id"])
