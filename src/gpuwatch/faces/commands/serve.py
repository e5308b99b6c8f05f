"""Watch without a screen and serve Prometheus metrics.

Examples:
  gpuwatch serve comfyui.log
  gpuwatch serve cmd:'python main.py --listen'     start ComfyUI and watch it
  gpuwatch serve comfyui.log --listen 127.0.0.1:9900
  gpuwatch serve comfyui.log --listen 0.0.0.0:9877 --web.config.file web.yml     TLS and passwords
  gpuwatch serve comfyui.log --textfile /var/lib/prometheus/node-exporter        for node_exporter, no port
  gpuwatch serve comfyui.log --otlp http://127.0.0.1:4318                        to an OpenTelemetry collector, too
  gpuwatch serve comfyui.log --file-sd /etc/prometheus/gpuwatch.json             where Prometheus finds it
  gpuwatch serve comfyui.log --notify @hook.url                                  tell a webhook or a chat of failures
  curl http://127.0.0.1:9877/metrics

A file is read from its end on; --from-start counts what is in it already. The metrics are served on loopback unless
--listen says otherwise. Failures are printed as they come; --log-format json makes every line on both streams JSON. Rules
and mutes that change are read anew while it runs.
"""

from __future__ import annotations

import argparse
import socket
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from gpuwatch.adapters.loopback import is_loopback
from gpuwatch.adapters.rule_watch import RuleWatch
from gpuwatch.errors import UsageError
from gpuwatch.faces.exporter import DEFAULT_HOST, DEFAULT_PORT, Exporter, Page
from gpuwatch.faces.exporter.files import Discovery, Textfile
from gpuwatch.faces.exporter.otlp import OtlpPush, asked_for, refuse_unusable
from gpuwatch.faces.exporter.repeating import PushCounts
from gpuwatch.faces.journaling import Books, open_journal
from gpuwatch.faces.narration import Narrate, narrator
from gpuwatch.faces.notifying import Desk, keep_desk
from gpuwatch.faces.options import add_watching
from gpuwatch.faces.printing import Printer
from gpuwatch.faces.sourcing import headers_of, named_sources
from gpuwatch.faces.watching import (
    machine_sources,
    make_engine,
    stop_on_signals,
)
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import text
from gpuwatch.texts import translate as _

_LOOK_UP_SECONDS = 1.0
"""How soon it is noticed that the loop or the reader of our output is gone; a signal is, at once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_watching(parser, listen=_("where the metrics are served (default: 127.0.0.1:9877)"))
    parser.add_argument(
        "--web.config.file",
        "--web-config-file",
        dest="web_config",
        type=Path,
        metavar="FILE",
        help=_("TLS, client certificates and passwords, in the format of Prometheus' exporter-toolkit"),
    )
    parser.add_argument(
        "--textfile",
        type=Path,
        metavar="DIR|FILE.prom",
        help=_("write the metrics into node_exporter's textfile folder; serves none unless --listen is given"),
    )
    parser.add_argument(
        "--otlp",
        metavar="URL",
        help=_("push the metrics to an OpenTelemetry collector, too: http://HOST:4318; OTEL_* variables hold"),
    )
    parser.add_argument(
        "--file-sd", type=Path, metavar="FILE", help=_("write the address for Prometheus' file_sd_configs")
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    if arguments.textfile is not None and arguments.listen is None:
        refuse_without_address(arguments)
    if arguments.otlp is not None:
        refuse_unusable(arguments.otlp)  # before anything is announced
    say = narrator(arguments.log_format)
    with open_journal(arguments, say) as books:
        return serve_with(books, arguments, say)


def serve_with(books: Books | None, arguments: argparse.Namespace, say: Narrate) -> int:
    """Serve, keeping a journal where there is one."""
    sources = named_sources(
        arguments.sources,
        from_start=arguments.from_start,
        show_history=False,
        headers=headers_of(arguments),
        places=books.journal if books is not None else None,
        say=say,
    )
    files = RuleWatch(arguments.rules)
    engine = make_engine(arguments, shows_records=False)
    pipeline = Pipeline(engine, [*sources, *machine_sources()], attendants=[files])
    printer = Printer(as_json=arguments.json or arguments.log_format == "json", say=say)
    stop = threading.Event()
    with ExitStack() as outlets, stop_on_signals(stop):
        if books is not None:
            books.keep(pipeline)
        desk = outlets.enter_context(keep_desk(arguments, pipeline, say))
        pipeline.subscribe(printer)  # behind the desk: printing takes longer
        open_outlets(outlets, arguments, pipeline, desk, say)
        try:
            pipeline.start()
            while not stop.wait(_LOOK_UP_SECONDS) and not printer.closed.is_set():
                pipeline.wait(0)
        finally:
            pipeline.stop()
            printer.flush()
    return 0


def open_outlets(
    outlets: ExitStack, arguments: argparse.Namespace, pipeline: Pipeline, desk: Desk, say: Narrate
) -> None:
    """Serve the metrics, write them, push them, as the arguments say; what is opened closes with `outlets`."""
    counts: PushCounts = Counter()
    page = Page(
        lambda: pipeline.snapshot,
        pipeline.engine.rules,
        workloads=pipeline.engine.workloads.ids,
        pushes=counts,
        notified=desk.counts,
    )
    port: int | None = None
    if arguments.textfile is not None:
        textfile = Textfile(arguments.textfile, page, counts=counts, say=say)
        outlets.callback(textfile.close)
        say(text("metrics: written to {path}", path=str(textfile.path)), event="writing", path=str(textfile.path))
    if arguments.textfile is None or arguments.listen is not None:
        port = open_page(outlets, arguments, pipeline, desk=desk, counts=counts, say=say)
    if asked_for(arguments.otlp):
        open_push(outlets, arguments.otlp, page, port, counts=counts, say=say)


def open_page(
    outlets: ExitStack,
    arguments: argparse.Namespace,
    pipeline: Pipeline,
    *,
    desk: Desk,
    counts: PushCounts,
    say: Narrate,
) -> int:
    """Serve the page, and say where; the port."""
    host, port = arguments.listen or (DEFAULT_HOST, DEFAULT_PORT)
    exporter = Exporter(
        lambda: pipeline.snapshot,
        pipeline.engine.rules,
        host,
        port,
        workloads=pipeline.engine.workloads.ids,
        web_config=arguments.web_config,
        pushes=counts,
        notified=desk.counts,
        say=say,
    )
    outlets.callback(exporter.close)
    if not is_loopback(host) and not exporter.protected:
        say(
            text("warning: {host} can be reached from other machines, and the metrics have no password.", host=host),
            event="unprotected",
            level="warning",
        )
    if arguments.file_sd is not None:
        outlets.callback(Discovery(arguments.file_sd, host, exporter.port, exporter.scheme).close)
    say(text("metrics: {address}", address=exporter.address), event="serving", address=exporter.address)
    return exporter.port


def open_push(
    outlets: ExitStack, url: str | None, page: Page, port: int | None, *, counts: PushCounts, say: Narrate
) -> None:
    """Push the metrics, and say where. What only the environment asks for and cannot be done is a warning."""
    instance = socket.gethostname() if port is None else f"{socket.gethostname()}:{port}"
    try:
        push = OtlpPush(url, page.view, instance=instance, counts=counts, say=say)
    except UsageError as error:
        if url is not None:
            raise
        told = text("metrics are not pushed: {reason} {hint}", reason=error.message, hint=error.hint or "")
        say(told, event="otlp", level="warning")
        return
    outlets.callback(push.close)
    say(text("metrics: pushed to {endpoint}", endpoint=push.shown), event="pushing", endpoint=push.shown)


def refuse_without_address(arguments: argparse.Namespace) -> None:
    """Options that speak of an address, where there is none."""
    for option, value in (("--file-sd", arguments.file_sd), ("--web.config.file", arguments.web_config)):
        if value is not None:
            raise UsageError(
                text("{option}: with --textfile nothing is served.", option=option),
                text("Say where to serve with --listen, or leave the option out."),
            )
