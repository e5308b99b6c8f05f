"""Watch without a screen and serve Prometheus metrics.

Examples:
  gpuwatch serve comfyui.log
  gpuwatch serve cmd:'python main.py --listen'     start ComfyUI and watch it
  gpuwatch serve comfyui.log --listen 127.0.0.1:9900
  curl http://127.0.0.1:9877/metrics

A file is read from its end on; --from-start counts what is in it already. The metrics are served on loopback unless
--listen says otherwise. Failures are printed as they come. Rules and mutes that change are read anew while it runs.
"""

from __future__ import annotations

import argparse
import sys
import threading

from gpuwatch.adapters.rule_watch import RuleWatch
from gpuwatch.faces.exporter import DEFAULT_HOST, DEFAULT_PORT, Exporter
from gpuwatch.faces.options import add_gpu_memory, add_json, add_rules, address
from gpuwatch.faces.watching import Printer, add_sources, machine_sources, make_engine, named_sources, stop_on_signals
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import render, text
from gpuwatch.texts import translate as _

_LOOPBACK = ("127.", "localhost", "::1")
_LOOK_UP_SECONDS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_sources(parser)
    parser.add_argument(
        "--listen",
        type=address,
        metavar="HOST:PORT",
        default=(DEFAULT_HOST, DEFAULT_PORT),
        help=_("where the metrics are served (default: 127.0.0.1:9877)"),
    )
    add_json(parser)
    add_gpu_memory(parser)
    add_rules(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    sources = named_sources(arguments.sources, from_start=arguments.from_start, show_history=False)
    files = RuleWatch(arguments.rules)
    engine = make_engine(arguments, shows_records=False)
    pipeline = Pipeline(engine, [*sources, *machine_sources()], attendants=[files])
    host, port = arguments.listen
    exporter = Exporter(lambda: pipeline.snapshot, engine.rules, host, port)
    printer = Printer(as_json=arguments.json)
    pipeline.subscribe(printer)
    if not host.startswith(_LOOPBACK):
        print(
            render(
                text("warning: {host} can be reached from other machines, and the metrics have no password.", host=host)
            ),
            file=sys.stderr,
        )
    print(render(text("metrics: {address}", address=exporter.address)), file=sys.stderr, flush=True)
    stop = threading.Event()
    try:
        with stop_on_signals(stop):
            pipeline.start()
            while not stop.wait(_LOOK_UP_SECONDS) and not printer.closed.is_set():
                pipeline.wait(0)
    finally:
        pipeline.stop()
        exporter.close()
    return 0
