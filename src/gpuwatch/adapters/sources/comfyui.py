"""A ComfyUI server, watched over its API: what it is, its queue, its log, the jobs that ended, the node that runs.

It survives what servers do: they boot for a minute, restart and forget everything, stand behind a proxy that answers for them,
or keep a socket open on which nothing comes any more. A server that does not answer is waited for and said once.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.comfyui.address import Server
from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.jobs import JobFeed
from gpuwatch.adapters.comfyui.listening import Socket, SocketLostError
from gpuwatch.adapters.comfyui.pace import Pace, Timetable
from gpuwatch.adapters.comfyui.presence import Presence
from gpuwatch.adapters.comfyui.progress import Progress
from gpuwatch.adapters.comfyui.queue_look import QueueWatch
from gpuwatch.adapters.comfyui.reading import Ended, log_of, part, remaining_of, server_seen
from gpuwatch.adapters.comfyui.server_log import ServerLog
from gpuwatch.adapters.discovery import surroundings_of
from gpuwatch.adapters.sources import Emit, Places
from gpuwatch.core.observations import LogResumed, Observation, SourceDown, SourceKind, SourceUp
from gpuwatch.texts import Text, text

_SOON_SECONDS = 0.05
_GATHERING_SECONDS = 0.5
"""A bar is drawn ten times a second: each frame would wake us, and what comes behind it is told soon enough."""
_MOST_WAITING_FRAMES = 1000


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
        self._log = ServerLog(self.name, self._resumed.place if self._resumed is not None else None, clock)
        self._jobs = JobFeed(self.client)
        self._queue = QueueWatch(self.client, self._jobs, clock)
        self._progress = Progress(self.name, clock)
        self._due = Timetable()
        self._socket: Socket | None = None
        self._hears_log = False
        self._presence = Presence()
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
        if (listening := self._socket) is not None:
            listening.abort()

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
        if self._presence.returned():
            self._put(SourceUp(self._clock(), self.name, self.kind))
        self._queue.server_changed()
        self._jobs.server_changed()
        self._surroundings = surroundings_of(self.client.server)
        self._ask_stats()
        self._listen(busy=remaining > 0)
        self._take_jobs()
        self._ask_queue()
        self._presence.works()
        self._due.next("queue", self._interval())
        self._due.next("stats", self._pace.stats_seconds)
        self._due.next("ring", self._pace.ring_seconds)
        self._due.next("socket", self._pace.longest_wait_seconds)

    def _down(self, error: NoAnswerError) -> None:
        """Say why nothing comes: once for each reason."""
        if (reason := self._presence.away(error)) is not None:
            self._queue.away()
            self._put(SourceDown(self._clock(), self.name, self.kind, reason, failed=True))

    def _attend(self) -> None:
        """Listen and ask, until the server is gone."""
        while not self._stop.is_set():
            if self._socket is None:
                self._stop.wait(self._due.seconds_left)
            else:
                try:
                    self._listen_for(self._socket, self._due.seconds_left)
                except SocketLostError:
                    self._drop_socket()
                    return  # whether the server is gone too shows at once
            if not self._stop.is_set():
                self._ask_what_is_due()

    def _ask_what_is_due(self) -> None:
        if self._due.is_due("queue"):
            self._ask_queue()
            self._due.next("queue", self._interval())
        if self._due.is_due("stats"):
            self._ask_stats()
            self._due.next("stats", self._pace.busy_seconds if self._queue.remaining else self._pace.stats_seconds)
        if self._due.is_due("ring"):
            if self._socket is not None and self._hears_log and not self._log.heard:
                self._look_for_overlooked()
            self._log.heard = False
            self._due.next("ring", self._pace.ring_seconds)
        if self._due.is_due("socket"):
            if self._socket is None:
                self._listen(busy=self._queue.remaining != 0)
            self._due.next("socket", self._pace.longest_wait_seconds)

    def _interval(self) -> float:
        if self._queue.has_news:
            return _SOON_SECONDS
        hurried = self._queue.hurried or self._jobs.waits
        return self._pace.busy_seconds if hurried else self._pace.idle_seconds

    # -- the socket ----------------------------------------------------------------------------------------------------------

    def _listen(self, *, busy: bool) -> None:
        """Open a socket, subscribe to the log, and read what the server kept of it. `busy`: something may run already."""
        self._drop_socket()
        try:
            self._socket = Socket(self.client)
            self._progress.listening(busy=busy)
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

    def _listen_for(self, listening: Socket, seconds: float) -> None:
        """Hear what comes, for so long at most. Where that is only a bar drawn anew, its next frames are left to gather."""
        frame = listening.next(seconds)
        while frame is not None and not self._hear(frame):
            frame = listening.next(0)
            if frame is None:
                self._stop.wait(min(_GATHERING_SECONDS, self._due.seconds_left))

    def _hear(self, frame: Mapping[str, Any]) -> bool:
        """Take a frame; False for a bar's that is left out."""
        data = frame.get("data")
        match frame.get("type"):
            case "logs":
                if self._log.is_redrawn(data):
                    return False
                self._put_all(self._log.frame(data))
            case "status":
                if self._queue.hear(remaining_of(part(data, "status"))):
                    self._due.soon("queue", _SOON_SECONDS)
            case "progress_state" | "progress":
                if (progress := self._progress.hear(data)) is not None:
                    self._put(progress)
            case _:
                pass
        return True

    def _read_ring(self) -> bool:
        """Read what the server kept of its log; whether a frame should have told us of it."""
        try:
            answer = self.client.get("/internal/logs/raw")
        except NoAnswerError as error:
            if not error.lives and error.trouble != "forbidden":
                raise
            return False
        shows_old = self._show_history or self._from_start
        before = self._log.restarts
        told, overlooked = self._log.kept(answer, shows_old=shows_old, counts_old=self._from_start)
        self._put_all(told)
        if self._log.restarts != before:
            self._ask_stats()  # that it is another process is told before its queue, which forgot what waited
        return overlooked

    def _look_for_overlooked(self) -> None:
        if self._read_ring():
            self._listen(busy=self._queue.remaining != 0)
            self._take_jobs()

    # -- asking --------------------------------------------------------------------------------------------------------------

    def _ask_queue(self) -> None:
        """Ask how many jobs wait and run, and for those that ended where some may have."""
        # A job may be over before it was ever seen in the queue: what was told of its node ends with that.
        seen = self._queue.look(listening=self._socket is not None, tells=self._progress.told)
        if seen.state is not None:
            self._put(seen.state)
        if not self._queue.remaining:
            self._progress.idle()
        if seen.began:
            self._due.soon("stats", 0)  # how much is held while a job runs
        if seen.deaf:
            self._listen(busy=self._queue.remaining != 0)
        if seen.ended or self._jobs.waits or not self._hears_log:
            self._queue.found(self._take_jobs(), listening=self._socket is not None)

    def _ask_stats(self) -> None:
        """Ask what the server is. It asks CUDA itself, and may fail at that while everything else answers."""
        try:
            seen = server_seen(self.client.get("/system_stats"), self._clock(), self.name)
        except NoAnswerError as error:
            if not error.lives:
                raise
            return
        if seen is not None:
            self._put(replace(seen, restarts=self._log.restarts, **self._surroundings))

    def _take_jobs(self) -> int:
        """Tell of the jobs that ended since this was asked last; how many did."""
        try:
            ended_jobs = self._jobs.take(self._log.failures)
        except NoAnswerError as error:
            if error.trouble != "too_large":
                raise
            self._tell_once(error.message)
            return 0
        # From here on nothing may raise before all are told: they are not listed again.
        fresh_jobs = sum(fresh for _ended, fresh in ended_jobs)
        if fresh_jobs:
            self._hear_what_waits()
            with suppress(NoAnswerError):
                self._ask_stats()  # what PyTorch took for them lies there until it is given back
        for ended, fresh in ended_jobs:
            if fresh and not self._hears_log:
                self._put_all(self._log.words(log_of(ended), fresh=True))
            if fresh or ended.outcome == "error":
                told = self._with_workflow(ended) if fresh and ended.outcome != "interrupted" else ended
                seconds = self._progress.seconds_of(ended.job_id, told.prompt)
                self._put(told.observation(self._clock(), self.name, fresh=fresh, node_seconds=seconds))
        return fresh_jobs

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

    def _put_all(self, observations: Iterable[Observation]) -> None:
        for observation in observations:
            self._put(observation)

    def _tell_once(self, reason: Text) -> None:
        """Say what cannot be had though the server is up."""
        if self._presence.is_news(reason):
            self._put(SourceUp(self._clock(), self.name, self.kind, reason))
