"""The one loop: sources in, snapshots out; one source's fault is not the others'."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.sources import Emit
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event
from gpuwatch.core.observations import LogChunk, SourceKind
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import UsageError
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text, text

AT = datetime(2026, 11, 21, tzinfo=UTC)
RULES = load_rules()
OOM = b"RuntimeError: CUDA error: out of memory\n"
PATIENCE_SECONDS = 60


class Given:
    """A source that delivers what it was given, then ends, fails, or waits to be stopped."""

    kind: SourceKind = "file"

    def __init__(
        self, name: str, data: Sequence[bytes] = (), error: Exception | None = None, *, stays: bool = False
    ) -> None:
        self.name = name
        self._data = data
        self._error = error
        self._stays = stays

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        for data in self._data:
            emit(LogChunk(AT, self.name, data))
        if self._error is not None:
            raise self._error
        if self._stays:
            stop.wait(PATIENCE_SECONDS)
        return text("the pipe ended")


def run(*sources: Given) -> Snapshot:
    pipeline = Pipeline(Engine(RULES), sources)
    pipeline.start()
    assert pipeline.wait(PATIENCE_SECONDS)
    return pipeline.snapshot


def test_it_ends_when_every_source_has_ended_and_everything_was_read() -> None:
    snapshot = run(Given("one", [OOM] * 500), Given("two", [b"fine\n"]))
    assert snapshot.failures_total == {("cuda_oom", "error"): 500}
    assert {status.state for status in snapshot.sources.values()} == {"ended"}
    assert any(seconds > 0 for seconds in snapshot.vitals.rule_seconds.values())
    assert snapshot.sources["one"].records == 500


@pytest.mark.parametrize("error", [RuntimeError("odd"), UsageError(text("no such thing."), text("Try another."))])
def test_a_source_that_fails_is_told_and_the_others_carry_on(error: Exception) -> None:
    snapshot = run(Given("bad", error=error), Given("good", [OOM]))
    assert (snapshot.sources["bad"].state, snapshot.sources["good"].state) == ("failed", "ended")
    assert str(snapshot.sources["bad"].reason).strip()
    assert sum(snapshot.failures_total.values()) == 1


def test_stop_ends_sources_that_would_stay_and_settles_what_was_read() -> None:
    pipeline = Pipeline(Engine(RULES), [Given("log", [OOM], stays=True)])
    heard = threading.Event()

    def listen(_events: Sequence[Event], snapshot: Snapshot) -> None:
        if snapshot.records_total:
            heard.set()

    pipeline.subscribe(listen)
    pipeline.start()
    assert heard.wait(PATIENCE_SECONDS)
    pipeline.stop()
    assert [incident.state for incident in pipeline.snapshot.incidents.values()] == ["settled"]


def test_a_listener_that_fails_is_no_silent_end() -> None:
    def fails(_events: Sequence[Event], _snapshot: Snapshot) -> None:
        raise ZeroDivisionError

    pipeline = Pipeline(Engine(RULES), [Given("log", [OOM])])
    pipeline.subscribe(fails)
    pipeline.start()
    with pytest.raises(ZeroDivisionError):
        pipeline.wait(PATIENCE_SECONDS)


class Seen:
    """What a witness was shown of logs, and a way to wait for it."""

    def __init__(self) -> None:
        self.data = b""
        self._changed = threading.Condition()

    def __call__(self, batch: Sequence[object]) -> None:
        with self._changed:
            self.data += b"".join(each.data for each in batch if isinstance(each, LogChunk))
            self._changed.notify_all()

    def until(self, size: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.data) >= size, PATIENCE_SECONDS)


def test_what_is_read_before_the_engine_is_there_is_shown_at_once_and_understood_later() -> None:
    pipeline = Pipeline(None, [Given("log", [OOM] * 200)])
    seen, woken = Seen(), threading.Event()
    pipeline.overhear(seen)
    pipeline.subscribe(lambda _events, _snapshot: woken.set())
    pipeline.read_ahead()
    seen.until(200 * len(OOM))
    assert woken.wait(PATIENCE_SECONDS)
    assert pipeline.snapshot.at is None
    pipeline.bring(Engine(RULES))
    pipeline.start()
    assert pipeline.wait(PATIENCE_SECONDS)
    assert pipeline.snapshot.failures_total == {("cuda_oom", "error"): 200}
    assert seen.data == OOM * 200, "each line is shown once"


def test_sources_wait_once_much_was_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.pipeline._MOST_AHEAD", 8)
    told = 3 * 256
    source = Given("log", [OOM] * told)
    pipeline = Pipeline(None, [source])
    seen = Seen()
    pipeline.overhear(seen)
    pipeline.read_ahead()
    seen.until(8 * len(OOM))
    assert not pipeline.wait(0.3)
    assert len(seen.data) < told * len(OOM)
    pipeline.bring(Engine(RULES))
    pipeline.start()
    assert pipeline.wait(PATIENCE_SECONDS)
    assert seen.data == OOM * told
    assert pipeline.snapshot.failures_total == {("cuda_oom", "error"): told}


def test_a_program_of_our_own_is_not_begun_before_the_engine_is_there_and_nothing_runs_on_where_none_comes() -> None:
    begun: list[str] = []

    class Noted(Given):
        def run(self, emit: Emit, stop: threading.Event) -> Text:
            begun.append(self.name)
            return super().run(emit, stop)

    child, log = Noted("child", [OOM]), Noted("log", [OOM], stays=True)
    child.kind = "cmd"
    pipeline = Pipeline(None, [child, log])
    seen = Seen()
    pipeline.overhear(seen)
    pipeline.read_ahead()
    seen.until(len(OOM))
    pipeline.stop()
    assert pipeline.wait(PATIENCE_SECONDS)
    assert begun == ["log"]
    assert pipeline.snapshot == Snapshot()
