"""Run DDColor over photos under profiling and report time and memory.

Examples:
  gpuwatch run ddcolor photo.jpg --out coloured --checkpoint ddcolor_paper_tiny.pth
  gpuwatch run ddcolor scans/ --out coloured --size 768 --rewrite fold --degrade
  gpuwatch run ddcolor photo.jpg --profile --trace-dir traces     a trace for https://ui.perfetto.dev
  gpuwatch run ddcolor photo.jpg --device cuda:0 --memory-limit 8GiB --json
  gpuwatch run ddcolor scans/ --out coloured --push http://127.0.0.1:9091     its end for Prometheus

A folder is searched to the bottom, and --out gets the same tree. The manifest in --out says what is done: the same command
goes on after any end, and does again what has changed. --degrade steps rewrite, batch, then size down where memory runs out.

Without a checkpoint the weights are random: times and memory are true, the colours mean nothing. Published checkpoints:
`gpuwatch checkpoint get paper_tiny`, then --checkpoint paper_tiny. Exit codes: 0 done, 2 wrong use or
an image that cannot be read (the others are done), 4 the run failed, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from gpuwatch.adapters.checkpoints import find_checkpoint
from gpuwatch.adapters.runner_process import RunnerProcess
from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json
from gpuwatch.faces.report import json_line
from gpuwatch.faces.run_page import predicted_json, print_report
from gpuwatch.texts import Text, current, render, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from rich.progress import Progress

_DTYPES = ("fp32", "amp16", "fp16", "bf16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; the same words are the runner's own."""
    workloads = parser.add_subparsers(dest="workload", metavar=_("WORKLOAD"), required=True)
    ddcolor = workloads.add_parser("ddcolor", help=_("colorize photos with DDColor"))
    ddcolor.add_argument("paths", nargs="+", metavar="IMAGE|DIR")
    ddcolor.add_argument(
        "--checkpoint", metavar="FILE|NAME", help=_("published weights: a .pth, .pt or .safetensors file, or a name")
    )
    ddcolor.add_argument(
        "--variant", choices=("tiny", "large"), help=_("the network (default: what the checkpoint holds, else tiny)")
    )
    ddcolor.add_argument(
        "--size", metavar="N", help=_("side in pixels that the network sees, a multiple of 32 (default: 512)")
    )
    ddcolor.add_argument("--dtype", choices=_DTYPES, help=_("precision (default: fp32)"))
    ddcolor.add_argument(
        "--rewrite", choices=("none", "tail", "fold"), help=_("an exact rewrite that needs less memory (default: none)")
    )
    ddcolor.add_argument("--device", metavar="DEVICE", help=_("auto, cpu or cuda:0 (default: auto)"))
    ddcolor.add_argument("--batch", metavar="N", help=_("photos a pass (default: 1)"))
    ddcolor.add_argument("--repeat", metavar="N", help=_("passes over all photos, for measuring (default: 1)"))
    ddcolor.add_argument("--memory-limit", metavar="SIZE", help=_("let PyTorch have no more GPU memory than this"))
    ddcolor.add_argument(
        "--profile", action="store_true", help=_("profile the run and write a trace that Perfetto opens")
    )
    ddcolor.add_argument("--trace-dir", metavar="DIR", help=_("where traces go"))
    ddcolor.add_argument("--out", metavar="DIR", help=_("where the colorized photos go; without it nothing is written"))
    ddcolor.add_argument("--force", action="store_true", help=_("do again what the manifest in --out says is done"))
    ddcolor.add_argument(
        "--degrade",
        action="store_true",
        help=_("where memory runs out, go on with a rewrite, smaller batches, then smaller sizes"),
    )
    ddcolor.add_argument("--workers", metavar="N", help=_("threads that decode, and as many that encode; 0 for none"))
    ddcolor.add_argument("--compare-fp32", action="store_true", help=_("report how far the colours are from fp32's"))
    ddcolor.add_argument("--channels-last", action="store_true", help=_("lay the network's memory out channels last"))
    ddcolor.add_argument("--compile", action="store_true", help=_("run the network through torch.compile"))
    ddcolor.add_argument("--tf32", choices=("on", "off"), help=_("TF32 on CUDA (default: as PyTorch has it)"))
    ddcolor.add_argument(
        "--push", metavar="URL", help=_("push how the run ended to a Prometheus Pushgateway: http://HOST:9091")
    )
    ddcolor.add_argument(
        "--push-job", metavar="NAME", help=_("the job that it is pushed as, one for each run that goes beside others")
    )
    add_json(ddcolor)


def run(arguments: argparse.Namespace) -> int:
    """Run the child, show how far it is, print its report."""
    with pushing(arguments) as reported:
        report = colorized(arguments)
        reported.update(report)
    if arguments.json:
        print(json_line(report))
    else:
        print_report(report)
    return 2 if report.get("failed") else 0


def pushing(arguments: argparse.Namespace) -> AbstractContextManager[dict[str, Any]]:
    """Takes the run's report, and pushes how the block ended where that is asked for."""
    if arguments.push is None and arguments.push_job is None:
        return nullcontext({})
    if arguments.push is None:
        raise UsageError(text("--push-job: say with --push where to push to."))
    from gpuwatch.faces.exporter.pushgateway import Pushgateway  # noqa: PLC0415 - the metrics library, which few runs need

    gateway = Pushgateway(arguments.push, arguments.push_job)
    return gateway.end_of(arguments.workload, lambda refused: narrate(render(refused)))


def colorized(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the child to its end; its report, with what was predicted for it."""
    if arguments.checkpoint is not None:
        arguments.checkpoint = find_checkpoint(arguments.checkpoint)
    with RunnerProcess(runner_arguments(arguments), narrate, environment=in_language()) as child, progress_bar() as bar:
        task = bar.add_task(_("loading"), total=None) if bar is not None else None
        for event in child:
            if bar is not None and task is not None and event["event"] in {"started", "image", "failed", "stage"}:
                bar.update(
                    task,
                    total=event.get("images") or bar.tasks[0].total,
                    completed=event.get("done") or bar.tasks[0].completed,
                    description=str(event.get("stage") or _("colorizing")),
                )
            if event["event"] == "failed":
                narrate(render(message_of(event)))
    report = {name: value for name, value in (child.report or {}).items() if name != "event"}
    report["predicted"] = predicted_json(report)
    return report


def runner_arguments(arguments: argparse.Namespace) -> list[str]:
    """The child's command line: the same words. Names of files may begin with a hyphen."""
    words: list[str] = [arguments.workload]
    for name in (
        "checkpoint",
        "variant",
        "size",
        "dtype",
        "rewrite",
        "device",
        "batch",
        "repeat",
        "memory_limit",
        "trace_dir",
        "out",
        "workers",
        "tf32",
    ):
        value = getattr(arguments, name)
        if value is not None:
            words.append(f"--{name.replace('_', '-')}={value}")
    switches = ("profile", "force", "degrade", "compare_fp32", "channels_last", "compile")
    words += [f"--{name.replace('_', '-')}" for name in switches if getattr(arguments, name)]
    return [*words, "--", *arguments.paths]


def in_language() -> dict[str, str]:
    """The environment for the child, so that it speaks the language in use."""
    return {**os.environ, "LC_ALL": {"en": "C.UTF-8", "zh": "zh_CN.UTF-8"}[current()]}


def narrate(line: str) -> None:
    """What the child says besides its events."""
    print(visible(line), file=sys.stderr)


def message_of(event: Mapping[str, Any]) -> Text:
    """An event's message."""
    message = event.get("message") or {}
    return Text(str(message.get("template", "")), dict(message.get("values") or {}))


def progress_bar() -> Progress | nullcontext[None]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text as Words  # noqa: PLC0415

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Words:
            speed = task.speed or 0.0
            return Words(render(text("{rate} photos/s", rate=f"{speed:.3g}")) if speed else "")

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=60)
