"""The one loop: sources -> engine -> snapshot -> whoever listens.

Each source runs on a thread of its own and puts observations into one bounded queue; one thread feeds the engine. A source
that raises becomes a `SourceDown`, the others carry on. This is the only module with a loop and the only one that reads the
clock for the engine.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.runner_process import STOP_SECONDS
from gpuwatch.adapters.sources import Source
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import Event
from gpuwatch.core.observations import GpuSample, HostSample, LogChunk, Observation, SourceDown, SourceUp, Tick
from gpuwatch.core.reloads import Change
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import Vitals
from gpuwatch.core.warming import warm_up
from gpuwatch.errors import GpuwatchError
from gpuwatch.loading import loading
from gpuwatch.texts import text

_QUEUE_LENGTH = 256
_MOST_WAITING_BYTES = 4 << 20
"""Of logs, in the queue: a file is read faster than it is understood."""
_BATCH = 64
_MOST_AHEAD = 4096
"""Observations that are held until the engine is there; of logs so many bytes as may wait. Then sources wait."""
_TICK_SECONDS = 0.25
_UNTIL_WARM_SECONDS = 0.05
"""Of silence, before what the first failure will need is loaded."""
_QUIET_TICK_SECONDS = 1.0
_QUIET_AFTER_SECONDS = 3.0
"""Where for so long nothing but the machine was heard of, time may pass in longer steps; also where no log is in suspense."""
_STOP_SECONDS = STOP_SECONDS + 3.0
"""Longer than a source gives its child to end: what the child writes to is taken away afterwards."""

Listener = Callable[[Sequence[Event], Snapshot], None]
"""Called on the pipeline's thread with what just happened and the snapshot after it; must not block."""
Witness = Callable[[Sequence[Observation | Change]], None]
"""Called on the pipeline's thread with observations before the engine reads them: for who keeps what a log said."""


class Attendant(Protocol):
    """Something that tells the engine more than sources do. It runs beside them, and nobody waits for its end."""

    name: str

    def run(self, emit: Callable[[Observation | Change], bool], stop: threading.Event) -> None:
        """Tell, until told to stop."""


class Pipeline:
    """Runs sources into an engine and keeps the latest snapshot."""

    def __init__(
        self,
        engine: Engine | None,
        sources: Iterable[Source],
        clock: Callable[[], datetime] = utc_now,
        attendants: Iterable[Attendant] = (),
    ) -> None:
        """`engine`: None where `bring` brings it before `start`."""
        self._engine: Engine | None = None
        self._sources = tuple(sources)
        self._attendants = list(attendants)
        self._clock = clock
        self._queue: queue.Queue[Observation | Change] = queue.Queue(_QUEUE_LENGTH)
        self._waiting_bytes = 0
        self._room = threading.Condition()
        self._stop = threading.Event()
        self._finished = threading.Event()
        self._listeners: list[Listener] = []
        self._keepers: list[Listener] = []
        self._witnesses: list[Witness] = []
        self._over: list[Source] = []
        """Sources that have ended and said so."""
        self._at_end: list[Callable[[], object]] = []
        self._threads: list[threading.Thread] = []
        """Of the sources."""
        self._looping: threading.Thread | None = None
        self._reading: set[str] = set()
        """The sources that were started."""
        self._begun = threading.Event()
        self._snapshot = Snapshot()
        self._error: BaseException | None = None
        if engine is not None:
            self.bring(engine)

    def bring(self, engine: Engine) -> None:
        """Put in what reads the observations; call once, before `start`."""
        engine.matcher.stopwatch.clock = time.perf_counter
        self._engine, self._snapshot = engine, Snapshot(mutes=engine.explainer.mutes)

    @property
    def snapshot(self) -> Snapshot:
        """All that is known right now; safe to read from any thread."""
        return self._snapshot

    @property
    def engine(self) -> Engine:
        """The engine, for its rules and workloads; it must have been brought."""
        if self._engine is None:
            raise RuntimeError("the pipeline has no engine yet")
        return self._engine

    def subscribe(self, listener: Listener) -> None:
        """Have a listener called after each batch; call before `start`."""
        self._listeners.append(listener)

    def keep_with(self, keeper: Listener) -> None:
        """Have a listener called after each batch, before anybody sees what happened; call before `start`."""
        self._keepers.append(keeper)

    def overhear(self, witness: Witness) -> None:
        """Have a witness called with what each batch is made of; call before `start`."""
        self._witnesses.append(witness)

    def when_ended(self, told: Callable[[], object]) -> None:
        """Have this called, on the pipeline's thread, when the loop has ended; call before `start`."""
        self._at_end.append(told)

    def attend(self, attendant: Attendant) -> None:
        """Have an attendant run beside the sources; call before `start`."""
        self._attendants.append(attendant)

    def start(self) -> None:
        """Start every source that does not run yet, and the loop; what was read ahead is understood first."""
        self._begun.set()
        self._run(self._sources)
        for each in self._attendants:
            threading.Thread(target=each.run, args=(self.emit, self._stop), name=each.name, daemon=True).start()

    def read_ahead(self) -> None:
        """Start to read before the engine is there: witnesses have it at once, listeners are called without an event.

        Nothing is lost: it is held for `start`, and sources wait where that is much. A program of our own is not begun: it
        would be ended again where the engine cannot be brought.
        """
        self._run([source for source in self._sources if source.kind != "cmd"])

    def _run(self, sources: Sequence[Source]) -> None:
        """Run those of them that do not run yet, and the loop."""
        threads = [
            threading.Thread(target=self._run_source, args=(source,), name=f"source {source.name}", daemon=True)
            for source in sources
            if source.name not in self._reading
        ]
        self._reading.update(source.name for source in sources)
        for thread in threads:
            thread.start()
        if self._looping is None:
            self._looping = threading.Thread(target=self._run_loop, name="pipeline", daemon=True)
            self._looping.start()
        self._threads += threads

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until every source has ended and its observations were read; False where the time ran out first.

        Raises what ended the loop, where that was an error in the engine or in a listener.
        """
        finished = self._finished.wait(timeout_seconds)
        if self._error is not None:
            raise self._error
        return finished

    def stop(self) -> None:
        """End the sources and the loop; what was read is settled."""
        self._stop.set()
        self._wake()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in (*self._threads, *([self._looping] if self._looping is not None else [])):
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def emit(self, observation: Observation | Change) -> bool:
        """Put an observation into the queue, waiting while it is full; False where the pipeline is stopping."""
        size = len(observation.data) if isinstance(observation, LogChunk) else 0
        while not self._stop.is_set():
            if size and not self._has_room(size):
                continue
            try:
                self._queue.put(observation, timeout=_TICK_SECONDS)
            except queue.Full:
                self._give_room(size)
                continue
            return True
        return False

    def _wake(self) -> None:
        """Have the loop look at what is over before its time runs out."""
        with suppress(queue.Full):
            self._queue.put_nowait(Tick(self._clock()))

    def _has_room(self, size: int) -> bool:
        """Take so many bytes of the room that waiting logs have, when there is room for them; False where that took long."""
        with self._room:
            if self._room.wait_for(lambda: self._waiting_bytes < _MOST_WAITING_BYTES, _TICK_SECONDS):
                self._waiting_bytes += size
                return True
            return False

    def _give_room(self, size: int) -> None:
        if size:
            with self._room:
                self._waiting_bytes -= size
                self._room.notify_all()

    def _run_source(self, source: Source) -> None:
        try:
            self._run_to_its_end(source)
        finally:
            self._over.append(source)
            self._wake()

    def _run_to_its_end(self, source: Source) -> None:
        """Run a source, and tell both ends of it."""
        self.emit(SourceUp(self._clock(), source.name, source.kind))
        failed = False
        try:
            reason = source.run(self.emit, self._stop)
        except GpuwatchError as error:
            reason, failed = text("{message} {hint}", message=error.message, hint=error.hint or ""), True
        except Exception as error:  # noqa: BLE001 - one source's fault must not end the others; it is shown
            reason, failed = text("stopped by an error: {error}", error=repr(error)), True
        self.emit(SourceDown(self._clock(), source.name, source.kind, reason, failed))

    def _run_loop(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            self._error = error
            self._stop.set()
        finally:
            self._finished.set()
            for told in self._at_end:
                told()

    def _hold(self) -> deque[Observation | Change]:
        """What is read until the engine is there and all who are to hear of it: shown, and held."""
        held: deque[Observation | Change] = deque()
        held_bytes = 0
        while not (self._begun.is_set() or self._stop.is_set()):
            if held_bytes >= _MOST_WAITING_BYTES or len(held) >= _MOST_AHEAD:
                self._begun.wait(_TICK_SECONDS)
                continue
            batch = self._take(_UNTIL_WARM_SECONDS)
            if batch:
                self._show(batch)
                held += batch
                held_bytes += sum(len(one.data) for one in batch if isinstance(one, LogChunk))
                for listener in self._listeners:
                    listener((), self._snapshot)
        return held

    def _show(self, batch: Sequence[Observation | Change]) -> None:
        for witness in self._witnesses:
            witness(batch)

    def _loop(self) -> None:
        held = self._hold()
        if not self._begun.is_set():
            return
        engine, last_tick = self.engine, self._clock()
        heard_at = time.monotonic()
        # A recording that is played fast is ahead of the clock: ticks keep its time, or quiet would run backwards.
        ahead = timedelta(0)
        warm = False
        while True:
            silent = time.monotonic() - heard_at >= _QUIET_AFTER_SECONDS
            quiet = silent or not engine.in_suspense
            usual = _QUIET_TICK_SECONDS if quiet else _TICK_SECONDS
            shown = [held.popleft() for _ in range(min(len(held), _BATCH))]
            batch = shown or self._take(usual if warm else _UNTIL_WARM_SECONDS)
            if not batch and not warm:
                warm = True
                with loading():
                    engine.prepare()
                    warm_up(engine)
                continue
            if any(not isinstance(observation, GpuSample | HostSample) for observation in batch):
                heard_at = time.monotonic()
            now = self._clock()
            ahead = max([ahead, *(observation.at - now for observation in batch)])
            now += ahead
            if not batch or (not held and (now - last_tick).total_seconds() >= 1):
                batch.append(Tick(now))
                last_tick = now
            if not shown:
                self._show(batch)
            started = time.perf_counter()
            events = [event for observation in batch for event in engine.feed(observation)]
            self._count(len(batch), time.perf_counter() - started)
            self._publish(events)
            idle = not held and self._queue.empty()
            all_over = len(self._over) == len(self._sources)
            if idle and (self._stop.is_set() or all_over) and self._queue.empty():
                break
        self._publish(engine.end(self._clock() + ahead))

    def _take(self, timeout_seconds: float) -> list[Observation | Change]:
        batch: list[Observation | Change] = []
        try:
            batch.append(self._queue.get(timeout=timeout_seconds))
            while len(batch) < _BATCH:
                batch.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        self._give_room(sum(len(one.data) for one in batch if isinstance(one, LogChunk)))
        return batch

    def _count(self, observations: int, seconds: float) -> None:
        before = self._snapshot.vitals
        vitals = Vitals(
            busy_seconds=before.busy_seconds + seconds,
            observations=before.observations + observations,
            waiting=self._queue.qsize(),
            most_waiting=_QUEUE_LENGTH,
            rule_seconds=dict(self.engine.matcher.stopwatch.seconds),
        )
        self._snapshot = replace(self._snapshot, vitals=vitals)

    def _publish(self, events: list[Event]) -> None:
        snapshot = self._snapshot
        for event in events:
            snapshot = snapshot.after(event)
        if events:
            for keeper in self._keepers:
                keeper(events, snapshot)
        self._snapshot = snapshot
        if events:
            for listener in self._listeners:
                listener(events, snapshot)
