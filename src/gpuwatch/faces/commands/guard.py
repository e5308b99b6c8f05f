"""Unattended: queue again, as it fits, each job that runs out of GPU memory.

Examples:
  gpuwatch guard http://127.0.0.1:8188 --yes
  gpuwatch guard http://127.0.0.1:8188 --yes --min-size 512 --tries 2
  gpuwatch guard http://10.0.0.4:8188 http://10.0.0.5:8188 --yes --log guard.jsonl
  gpuwatch guard http://127.0.0.1:8188 --yes --notify https://hooks.example/gpu

Only jobs that fail for want of GPU memory while it watches are touched: not those that were interrupted, not those that failed
for another reason. Each is queued again in front, in the largest size that is predicted to fit, or with the exact rewrite
where the server has gpuwatch's node; its end says whether that held, and what failed on a server is not tried first there
again. After --tries it gives up and says so. Where only a restart helps, nothing is queued. Ctrl-C ends it; what it queued stays
queued.

Exit codes: 0 ended by Ctrl-C, 2 an option cannot be used, 3 a server does not answer when it begins.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gpuwatch.errors import UsageError, unwritable, why
from gpuwatch.faces.options import add_gpu_memory, add_json, add_log_format, add_notify, add_rules, address
from gpuwatch.faces.servers import add_access, add_limits, mender_of, servers_named
from gpuwatch.texts import Text, render, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.adapters.comfyui.guarded_job import Note
    from gpuwatch.adapters.comfyui.guarding import Guard
    from gpuwatch.core.events import Event
    from gpuwatch.core.incidents import Incident
    from gpuwatch.core.snapshot import Snapshot
    from gpuwatch.faces.narration import Level
    from gpuwatch.faces.notifying import Desk
    from gpuwatch.pipeline import Pipeline

_LOOK_SECONDS = 1.0
_CALLS_SOMEBODY = frozenset({"gave_up", "restart_needed"})
"""What a guard says when only a person can go on."""

_LEVELS: dict[str, Level] = {"failed": "warning", "gave_up": "error", "restart_needed": "error"}
"""Of what the guard tells; the rest is no news to wake somebody for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("servers", nargs="+", metavar="URL", help=_("a ComfyUI server: http://HOST:PORT"))
    add_limits(parser)
    parser.add_argument("--yes", action="store_true", help=_("do not ask"))
    parser.add_argument("--log", type=Path, metavar="FILE", help=_("add what is done to this file, as JSON lines"))
    parser.add_argument("--journal", type=Path, metavar="FILE", help=_("keep incidents in this journal, too"))
    parser.add_argument("--no-journal", action="store_true", help=_("keep nothing"))
    parser.add_argument(
        "--listen", type=address, metavar="HOST:PORT", help=_("serve the metrics there, those of fixes too")
    )
    add_notify(parser)
    add_access(parser)
    add_gpu_memory(parser)
    add_json(parser)
    add_log_format(parser)
    add_rules(parser)


def run(arguments: argparse.Namespace) -> int:
    """Guard until told to stop."""
    from gpuwatch.faces.watching import stop_on_signals  # noqa: PLC0415 - --help must not load the sources

    stop = threading.Event()
    with stop_on_signals(stop):
        return keep_guard(arguments, stop)


def keep_guard(arguments: argparse.Namespace, stop: threading.Event, pace: Any = None) -> int:
    """Greet the servers, ask, and guard them until `stop`."""
    from gpuwatch.adapters.sources.comfyui import ComfyuiSource  # noqa: PLC0415
    from gpuwatch.faces.exporter import Exporter  # noqa: PLC0415
    from gpuwatch.faces.journaling import open_journal  # noqa: PLC0415
    from gpuwatch.faces.narration import narrator  # noqa: PLC0415
    from gpuwatch.faces.notifying import keep_desk  # noqa: PLC0415
    from gpuwatch.faces.watching import machine_sources, make_engine  # noqa: PLC0415
    from gpuwatch.pipeline import Pipeline  # noqa: PLC0415

    servers = servers_named(arguments.servers, arguments)
    say, as_json = narrator(arguments.log_format), arguments.json or arguments.log_format == "json"
    with GuardLog(arguments.log, as_json=as_json) as log, ExitStack() as opened:
        menders = [mender_of(server, arguments) for server in servers]
        for mender in menders:
            opened.callback(mender.hands.close)
            mender.hands.greet()
        if not arguments.yes and not agreed(arguments):
            print(render(text("Nothing is guarded.")), file=sys.stderr)
            return 0
        arguments.from_start = False
        engine = make_engine(arguments, shows_records=False)
        sources = [ComfyuiSource(server, show_history=False, pace=pace) for server in servers]
        pipeline = Pipeline(engine, [*sources, *(machine_sources() if arguments.listen else [])])
        books = opened.enter_context(open_journal(arguments, say, incidents=arguments.journal is not None))
        if books is not None:
            books.keep(pipeline)
        desk = opened.enter_context(keep_desk(arguments, pipeline, say))
        if arguments.listen is not None:
            exporter = Exporter(
                lambda: pipeline.snapshot,
                engine.rules,
                *arguments.listen,
                workloads=engine.workloads.ids,
                notified=desk.counts,
            )
            opened.callback(exporter.close)
            log.say("serving", text("metrics: {address}", address=exporter.address), address=exporter.address)
        inbox = Inbox()
        pipeline.subscribe(inbox)
        note = partial(told_to_both, log, desk, pipeline)
        guards = {mender.hands.name: guard_of(mender, pipeline, note) for mender in menders}
        try:
            pipeline.start()
            names = ", ".join(guards)
            log.say("guarding", text("guarding {servers}; Ctrl-C ends it.", servers=names), tries=arguments.tries)
            watch_over(guards, inbox, pipeline.wait, stop)
        finally:
            pipeline.stop()
            log.say("stopped", ended_words(guards), **totals(guards))
    return 0


def told_to_both(log: GuardLog, desk: Desk, pipeline: Pipeline, note: Note) -> None:
    """Say what a guard did; where it can do no more, somebody far away is told."""
    log.note(note)
    if note.event in _CALLS_SOMEBODY:
        job = str(note.fields.get("first_job") or note.job or "")
        desk.give_up(job, note.server, note.words, incident_of_job(pipeline, job))


def incident_of_job(pipeline: Pipeline, job: str) -> Incident | None:
    """The incident that a job's failure is."""
    return next((each for each in pipeline.snapshot.incidents.values() if job and each.job_id == job), None)


def watch_over(guards: dict[str, Guard], inbox: Inbox, check: Callable[[float], bool], stop: threading.Event) -> None:
    """Pass on what is heard, and look by oneself now and then."""
    looked = time.monotonic()
    while not stop.is_set():
        heard = inbox.next(_LOOK_SECONDS / 4)
        if heard is not None and (guard := guards.get(heard[1])) is not None:
            if heard[0] == "up":
                guard.server_changed()
            else:
                guard.heard(heard[2], heard[0])
        if time.monotonic() - looked >= _LOOK_SECONDS:
            for each in guards.values():
                each.look()
            check(0)
            looked = time.monotonic()


class Inbox:
    """What the pipeline tells of jobs, for another thread. A listener."""

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[tuple[str, str, str]] = queue.SimpleQueue()

    def __call__(self, events: Sequence[Event], _snapshot: Snapshot) -> None:
        """Keep the ends of jobs, and that a server came back."""
        from gpuwatch.core.observations import JobEnded, SourceUp  # noqa: PLC0415

        for event in events:
            if isinstance(event, JobEnded) and event.fresh:
                self._heard.put((event.outcome, event.server, event.job_id))
            elif isinstance(event, SourceUp):
                self._heard.put(("up", event.source, ""))

    def next(self, timeout_seconds: float) -> tuple[str, str, str] | None:
        """The next; None where none came in time."""
        try:
            return self._heard.get(timeout=timeout_seconds)
        except queue.Empty:
            return None


class GuardLog:
    """Says what is done: words or JSON on stdout, JSON lines in a file."""

    def __init__(self, path: Path | None, *, as_json: bool) -> None:
        self._path, self._as_json = path, as_json
        self._file: IO[str] | None = None

    def __enter__(self) -> GuardLog:
        if self._path is not None:
            try:
                self._file = self._path.open("a", encoding="utf-8", errors="replace")
            except OSError as error:
                raise unwritable(self._path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def note(self, note: Note) -> None:
        """Say what a guard did."""
        self.say(note.event, note.words, server=note.server, job=note.job, **note.fields)

    def say(self, event: str, words: Text, **fields: Any) -> None:
        """Say one thing."""
        from gpuwatch.adapters.clock import utc_now  # noqa: PLC0415
        from gpuwatch.faces.narration import say_line  # noqa: PLC0415
        from gpuwatch.faces.report import json_line  # noqa: PLC0415

        now = utc_now()
        level = _LEVELS.get(event, "info")
        told = {"time": now.isoformat(), "level": level, "event": event, **fields, "message": render(words, "en")}
        line = json_line(told)
        if self._file is not None:
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except OSError as error:  # a full disk must not end the guard
                self._file = None
                broken = text("{path}: cannot be written: {error}", path=str(self._path), error=why(error))
                say_line(visible(render(broken)), sys.stderr, "error")
        if self._as_json:
            say_line(line, sys.stdout, level)
        else:
            server = f"{fields['server']}: " if "server" in fields else ""
            say_line(visible(f"{now.astimezone():%H:%M:%S} {server}{render(words)}"), sys.stdout, level)


def agreed(arguments: argparse.Namespace) -> bool:
    """Ask once, before anything is watched. Where nobody can answer, --yes is needed."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            text("guard queues prompts by itself, and nobody is here to agree."), text("Say --yes for that.")
        )
    question = text(
        "Queue jobs again by itself that run out of GPU memory, at most {tries} times each? [y/N] ",
        tries=arguments.tries,
    )
    print(render(question), end="", file=sys.stderr, flush=True)
    try:
        return input().strip().lower() in {"y", "yes", "j", "ja", "是"}
    except EOFError:
        return False


def guard_of(mender: Any, pipeline: Any, note: Callable[[Note], None]) -> Guard:
    """A guard that asks the pipeline which incident a job is, and whether its server is broken."""
    from gpuwatch.adapters.comfyui.guarding import Guard  # noqa: PLC0415
    from gpuwatch.core.loop.broken import breakage  # noqa: PLC0415

    name = mender.hands.name

    def incident_of(job_id: str) -> str | None:
        found = incident_of_job(pipeline, job_id)
        return found.id if found is not None else None

    def broken() -> Text | None:
        found = breakage(pipeline.snapshot.incidents.values(), name)
        return found.title if found is not None else None

    return Guard(
        mender,
        note,
        pipeline.emit,
        incident_of=incident_of,
        broken=broken,
        since_ms=mender.hands.newest_end_ms(),
    )


def totals(guards: dict[str, Guard]) -> dict[str, int]:
    """How many were queued again, held, and were given up."""
    return {
        event: sum(guard.counts.get(event, 0) for guard in guards.values())
        for event in ("requeued", "held", "failed", "gave_up", "left_alone")
    }


def ended_words(guards: dict[str, Guard]) -> Text:
    """The last line."""
    count = totals(guards)
    return text(
        "{requeued} queued again, {held} held, {failed} failed again, {gave_up} given up.",
        requeued=count["requeued"],
        held=count["held"],
        failed=count["failed"],
        gave_up=count["gave_up"],
    )
