"""A ComfyUI server, watched over its API: what it is, its queue, its log, the jobs that ended, the node that runs.

It survives what servers do: they boot for a minute, restart and forget everything, stand behind a proxy that answers for them,
or keep a socket open on which nothing comes any more. A server that does not answer is waited for and said once.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.comfyui.address import Server
from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.jobs import JobFeed
from gpuwatch.adapters.comfyui.listening import Socket, SocketLostError
from gpuwatch.adapters.comfyui.logtail import LogTail
from gpuwatch.adapters.comfyui.progress import Progress
from gpuwatch.adapters.comfyui.queue_look import Deafness, look_at_queue
from gpuwatch.adapters.comfyui.reading import (
    Ended,
    log_entries,
    log_of,
    part,
    remaining_of,
    server_seen,
)
from gpuwatch.adapters.discovery import surroundings_of
from gpuwatch.adapters.sources import Emit, Places
from gpuwatch.core.observations import (
    LogChunk,
    LogGap,
    LogRestarted,
    LogResumed,
    Observation,
    QueueState,
    SourceDown,
    SourceKind,
    SourceUp,
)
from gpuwatch.errors import UnreachableError
from gpuwatch.texts import Text, render, text

_SETTLE_POLLS = 2
"""Polls at the busy pace after the queue became empty: the history lags up to a second behind."""
_SHORTEST_SECONDS = 0.05
_MOST_WAITING_FRAMES = 1000
_BAR_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the server is asked, and how long is waited."""

    busy_seconds: float = 2.0
    idle_seconds: float = 5.0
    stats_seconds: float = 30.0
    """Of an idle server; of one that works it is asked at the busy pace."""
    ring_seconds: float = 60.0
    """How often the entries that the server keeps are looked through, where no frame came: a socket may be deaf."""
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 10.0
    look_up_seconds: float = 0.5
    """How soon a request to stop is noticed."""


class _StoppingError(Exception):
    """The pipeline takes nothing more."""


class ComfyuiSource:
    """Watches one server until told to stop."""

    kind: SourceKind = "comfyui"

    def __init__(
        self,
        server: Server,
        *,
        from_start: bool = False,
        show_history: bool = True,
        places: Places | None = None,
        pace: Pace | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.name = server.name
        self.client = Client(server)
        self._from_start = from_start
        self._show_history = show_history
        self._pace = pace or Pace()
        self._clock = clock
        self._jitter = random.Random()  # noqa: S311 - so that many watchers do not come back in step
        known = places.place_of(self.name, f"comfyui:{server.url}") if places is not None else None
        self._resumed = None if from_start else known
        self._tail = LogTail(self._resumed.place if self._resumed is not None else None)
        self._jobs = JobFeed(self.client)
        self._socket: Socket | None = None
        self._hears_log = False
        self._told: set[str] = set()
        self._up = True
        """The pipeline says that a source is up when it starts."""
        self._remaining: int | None = None
        self._deafness = Deafness()
        self._slow = 0
        self._frames = 0
        self._frames_at_ring = -1
        self._bar_at = 0.0
        self._settling = 0
        self._queue: QueueState | None = None
        self._progress = Progress(self.name, clock)
        self._due: dict[str, float] = {}
        self._surroundings: dict[str, Any] = {}
        """What this machine knows of the server's process."""
        self._emit: Emit
        self._stop: threading.Event

    def run(self, emit: Emit, stop: threading.Event) -> Text:
        """Watch; a server that is away is waited for, longer each time."""
        self._emit, self._stop = emit, stop
        threading.Thread(target=self._abort_when_stopped, name=f"stop {self.name}", daemon=True).start()
        wait_seconds = self._pace.first_wait_seconds
        try:
            if (known := self._resumed) is not None:
                self._put(LogResumed(self._clock(), self.name, self.kind, known.line, known.epoch))
            while not stop.is_set():
                began = time.monotonic()
                try:
                    self._begin()
                    self._attend()
                except NoAnswerError as error:
                    if not stop.is_set():
                        self._down(error)
                finally:
                    self._drop_socket()
                    self.client.close()
                if time.monotonic() - began > self._pace.longest_wait_seconds:
                    wait_seconds = self._pace.first_wait_seconds
                stop.wait(wait_seconds * self._jitter.uniform(0.5, 1.0))
                wait_seconds = min(wait_seconds * 2, self._pace.longest_wait_seconds)
        except _StoppingError:
            pass
        return text("stopped")

    def _abort_when_stopped(self) -> None:
        self._stop.wait()
        self.client.abort()

    # -- beginning and ending ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Find the server there, and take stock: what it is, its log, its jobs, its queue."""
        remaining = remaining_of(self.client.get("/prompt"))
        if remaining is None:
            raise NoAnswerError(
                "not_json",
                text("{server}: answers, but not as ComfyUI does.", server=self.name),
                text("Is it a ComfyUI server? Behind a reverse proxy, write its path too: http://HOST:PORT/PATH"),
            )
        if not self._up:
            self._put(SourceUp(self._clock(), self.name, self.kind))
            self._up = True
        self._remaining = self._deafness.heard = None
        self._jobs.server_changed()
        self._surroundings = surroundings_of(self.client.server)
        self._ask_stats()
        self._listen()
        self._take_jobs()
        self._ask_queue()
        now = time.monotonic()
        self._slow = 0
        self._due = {
            "poll": now + self._interval(),
            "stats": now + self._pace.stats_seconds,
            "ring": now + self._pace.ring_seconds,
            "socket": now + self._pace.longest_wait_seconds,
        }

    def _down(self, error: NoAnswerError) -> None:
        """Say why nothing comes: once for each reason."""
        reason = (
            error.message if error.hint is None else text("{message} {hint}", message=error.message, hint=error.hint)
        )
        words = render(reason, "en")
        if error.trouble == "slow" and self._up and not self._slow:
            self._slow += (
                1  # a server that loads a model may not answer for a while: asked once more before that is said
            )
            return
        if self._up or words not in self._told:
            if self._up:
                self._told.clear()
            self._told.add(words)
            self._up = False
            self._queue = None
            self._put(SourceDown(self._clock(), self.name, self.kind, reason, failed=True))

    def _attend(self) -> None:
        """Listen and ask, until the server is gone."""
        while not self._stop.is_set():
            now = time.monotonic()
            wait_seconds = min(max(min(self._due.values()) - now, 0.0), self._pace.look_up_seconds)
            if self._socket is None:
                self._stop.wait(wait_seconds)
            else:
                try:
                    self._hear(self._socket.next(wait_seconds))
                except SocketLostError:
                    self._drop_socket()
                    return  # whether the server is gone too shows at once
            self._ask_what_is_due(time.monotonic())

    def _ask_what_is_due(self, now: float) -> None:
        if now >= self._due["poll"]:
            self._poll()
            self._due["poll"] = time.monotonic() + self._interval()
        if now >= self._due["stats"]:
            self._ask_stats()
            busy = bool(self._remaining)
            self._due["stats"] = now + (self._pace.busy_seconds if busy else self._pace.stats_seconds)
        if now >= self._due["ring"]:
            if self._socket is not None and self._hears_log and self._frames == self._frames_at_ring:
                self._look_for_overlooked()
            self._frames_at_ring = self._frames
            self._due["ring"] = now + self._pace.ring_seconds
        if now >= self._due["socket"]:
            if self._socket is None:
                self._listen()
            self._due["socket"] = now + self._pace.longest_wait_seconds

    # -- the socket ----------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Open a socket, subscribe to the log, and read what the server kept of it."""
        self._drop_socket()
        try:
            self._socket = Socket(self.client)
            self._progress.listening(busy=self._remaining != 0)
            self._socket.subscribe(self.client)
            self._hears_log = True
        except SocketLostError as error:
            self._tell_once(error.message)
        except NoAnswerError as error:
            if not error.lives and error.trouble != "forbidden":
                raise
            self._hears_log = False
            self._tell_once(
                text("{server}: its log is not to be had; failures are taken from its job list.", server=self.name)
            )
        if self._hears_log:
            self._read_ring()

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._hears_log = None, False

    def _hear(self, frame: Mapping[str, Any] | None) -> None:
        if not frame:
            return
        self._frames += 1
        data = frame.get("data")
        match frame.get("type"):
            case "logs":
                words = self._tail.frame(log_entries(data))
                if not self._redrawn(words):
                    self._put_log(words, fresh=True)
            case "status":
                heard = remaining_of(part(data, "status"))
                if self._due and heard is not None and heard != self._deafness.heard:
                    self._settling = _SETTLE_POLLS
                    self._due["poll"] = min(self._due["poll"], time.monotonic() + _SHORTEST_SECONDS)
                self._deafness.heard = heard
            case "progress_state" | "progress":
                if (progress := self._progress.hear(data)) is not None:
                    self._put(progress)
            case _:
                pass

    def _redrawn(self, words: bytes) -> bool:
        """Whether this is only a bar's next frame, too soon after the one before: it is drawn ten times a second."""
        if not words.startswith(b"\r") or b"%|" not in words or b"\n" in words:
            return False
        now = time.monotonic()
        if now - self._bar_at < _BAR_SECONDS:
            return True
        self._bar_at = now
        return False

    def _read_ring(self) -> bool:
        """Read what the server kept of its log; whether a frame should have told us of it."""
        try:
            answer = self.client.get("/internal/logs/raw")
        except NoAnswerError as error:
            if not error.lives and error.trouble != "forbidden":
                raise
            return False
        kept = self._tail.kept(log_entries(answer))
        if kept.restarted:
            self._put(LogRestarted(self._clock(), self.name))
        if kept.missed:
            self._put(LogGap(self._clock(), self.name, self.kind))
        if self._show_history or self._from_start:
            self._put_log(kept.old, fresh=self._from_start)
        self._put_log(kept.new, fresh=True)
        return kept.overlooked

    def _look_for_overlooked(self) -> None:
        if self._read_ring():
            self._listen()
            self._take_jobs()

    # -- asking --------------------------------------------------------------------------------------------------------------

    def _interval(self) -> float:
        busy = bool(self._remaining) or self._settling > 0 or self._jobs.waits
        return self._pace.busy_seconds if busy else self._pace.idle_seconds

    def _poll(self) -> None:
        before = self._remaining
        changed = self._ask_queue()
        if self._remaining and not before:
            self._due["stats"] = 0.0  # how much is held while a job runs
        if self._deafness.is_told(self._remaining, listening=self._socket is not None):
            self._listen()
        if changed or before != self._remaining or self._jobs.waits or not self._hears_log or self._settling:
            self._settling = _SETTLE_POLLS if changed or before != self._remaining else max(self._settling - 1, 0)
            self._take_jobs()

    def _ask_queue(self) -> bool:
        """Ask how many jobs wait and run; whether others run than before."""
        queue = look_at_queue(self.client, self._jobs)
        if queue is None:
            return False
        self._remaining = queue.remaining
        state = QueueState(self._clock(), self.name, queue.pending, queue.running)
        changed = self._queue is None or (self._queue.pending, self._queue.running) != (state.pending, state.running)
        # A job may be over before it was ever seen in the queue: what was told of its node ends with that.
        if changed or queue.remaining or self._progress.told:
            self._queue = state
            self._put(state)
        if not queue.remaining:
            self._progress.idle()
        return self._jobs.running(queue.ids)

    def _ask_stats(self) -> None:
        """Ask what the server is. It asks CUDA itself, and may fail at that while everything else answers."""
        try:
            seen = server_seen(self.client.get("/system_stats"), self._clock(), self.name)
        except NoAnswerError as error:
            if not error.lives:
                raise
            return
        if seen is not None:
            self._put(replace(seen, **self._surroundings))

    def _take_jobs(self) -> None:
        try:
            ended_jobs = self._jobs.take()
        except NoAnswerError as error:
            if error.trouble != "too_large":
                raise
            self._tell_once(error.message)
            return
        # From here on nothing may raise before all are told: they are not listed again.
        if any(fresh for _ended, fresh in ended_jobs):
            self._hear_what_waits()
        if any(fresh for _ended, fresh in ended_jobs):
            with suppress(NoAnswerError):
                self._ask_stats()  # what PyTorch took for them lies there until it is given back
        for ended, fresh in ended_jobs:
            if fresh and not self._hears_log:
                self._put_log(log_of(ended), fresh=True)
            if fresh or ended.outcome == "error":
                told = self._with_workflow(ended) if fresh and ended.outcome != "interrupted" else ended
                seconds = self._progress.seconds_of(ended.job_id, told.prompt)
                self._put(told.observation(self._clock(), self.name, fresh=fresh, node_seconds=seconds))

    def _hear_what_waits(self) -> None:
        """Take what the server said meanwhile: it told of a job's nodes and failures before it listed the job."""
        with suppress(SocketLostError):  # that shows at once where frames are waited for
            for _ in range(_MOST_WAITING_FRAMES):
                if self._socket is None or (frame := self._socket.next(0)) is None:
                    return
                self._hear(frame)

    def _with_workflow(self, ended: Ended) -> Ended:
        try:
            return self._jobs.whole(ended)
        except NoAnswerError:
            return ended

    # -- telling -------------------------------------------------------------------------------------------------------------

    def _put(self, observation: Observation) -> None:
        if not self._emit(observation):
            raise _StoppingError

    def _put_log(self, data: bytes, *, fresh: bool) -> None:
        if data:
            self._put(LogChunk(self._clock(), self.name, data, self.kind, fresh, place=self._tail.place))

    def _tell_once(self, reason: Text) -> None:
        """Say what cannot be had though the server is up."""
        words = render(reason, "en")
        if words not in self._told:
            self._told.add(words)
            with suppress(UnreachableError):
                self._put(SourceUp(self._clock(), self.name, self.kind, reason))
