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
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.workload import Need, predict
from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json
from gpuwatch.faces.report import console_for, json_line
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
    """The child's command line: the same words."""
    words = [arguments.workload, *arguments.paths]
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
            words += [f"--{name.replace('_', '-')}", value]
    switches = ("profile", "force", "degrade", "compare_fp32", "channels_last", "compile")
    return [*words, *(f"--{name.replace('_', '-')}" for name in switches if getattr(arguments, name))]


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


def predicted_need(report: Mapping[str, Any]) -> Need | None:
    """What was predicted for such a run; None where no trace of it is shipped."""
    profile = load_workloads().named("ddcolor")
    size, batch = report.get("size"), report.get("batch")
    if profile is None or not isinstance(size, int) or not isinstance(batch, int) or size < 1 or batch < 1:
        return None
    words = {name: str(report.get(name)) for name in ("variant", "dtype", "rewrite")}
    try:
        return predict(profile, words["variant"], size, words["dtype"], rewrite=words["rewrite"], batch=batch)
    except KeyError:
        return None


def predicted_json(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The prediction as JSON."""
    need = predicted_need(report)
    if need is None:
        return None
    bands = {"reserved_bytes": need.reserved_bytes, "process_bytes": need.process_bytes}
    return {
        "live_bytes": need.live_bytes,
        "allocated_bytes": need.allocated_bytes,
        **{name: {"low": round(b.low), "mid": round(b.mid), "high": round(b.high)} for name, b in bands.items()},
        "source": "predicted",
    }


def print_report(report: Mapping[str, Any]) -> None:
    """The report for a person."""
    console = console_for(sys.stdout)
    for line in report_lines(report):
        console.print(visible(render(line)), soft_wrap=True)


def report_lines(report: Mapping[str, Any]) -> list[Text]:
    """The report as sentences; what was not measured is left out."""
    warm = report.get("warm_seconds") or {}
    need = predicted_need(report)
    lines = [
        text(
            "DDColor {variant}, {dtype}, rewrite {rewrite}, size {size} on {device}: {images} done, {failures} failed.",
            **{name: report.get(name) for name in ("variant", "dtype", "rewrite", "size", "device", "images")},
            failures=len(report.get("failed") or ()),
        ),
    ]
    lines += batch_lines(report)
    if not report.get("images"):
        return lines
    lines += [
        text(
            "Loading took {load_seconds}, the first pass {first_seconds}, a warm one {p50_seconds} (p95 {p95_seconds}).",
            load_seconds=report.get("load_seconds"),
            first_seconds=report.get("first_seconds"),
            p50_seconds=warm.get("p50"),
            p95_seconds=warm.get("p95"),
        ),
    ]
    if report.get("peak_allocated_bytes") is not None:
        names = ("peak_allocated_bytes", "peak_reserved_bytes", "peak_device_bytes")
        lines.append(
            text(
                "Peak on the GPU: {peak_allocated_bytes} allocated, {peak_reserved_bytes} reserved, {peak_device_bytes} in all.",
                **{name: report.get(name) for name in names},
            )
        )
    else:
        lines.append(text("No CUDA device: GPU memory was not measured."))
    lines.append(
        text(
            "Host memory {host_rss_bytes}; {gflop} GFLOP and {tokens} visual tokens a photo.",
            host_rss_bytes=report.get("host_rss_bytes"),
            gflop=f"{float(report.get('gflop_per_image') or 0):.1f}",
            tokens=report.get("tokens_per_image"),
        )
    )
    if need is not None:
        process = need.process_bytes
        lines.append(
            text(
                "Predicted on a GPU: {allocated_bytes} allocated, {low_bytes} to {high_bytes} in the process.",
                allocated_bytes=need.allocated_bytes,
                low_bytes=process.low,
                high_bytes=process.high,
            )
        )
    if report.get("weights") == "random":
        lines.append(
            text("The weights are random: times and memory are true, the colours mean nothing without --checkpoint.")
        )
    lines += profiling_lines(report)
    return lines


def profiling_lines(report: Mapping[str, Any]) -> list[Text]:
    """What profiling cost, what it made, and what reads it."""
    lines: list[Text] = []
    if profiling := report.get("profiling"):
        lines.append(
            text(
                "A profiled pass took {profiled_seconds}, one without {plain_seconds} ({overhead}; {passes} of each).",
                profiled_seconds=profiling.get("profiled_seconds"),
                plain_seconds=profiling.get("plain_seconds"),
                overhead=f"{100 * float(profiling.get('overhead_ratio') or 0):+.0f} %",
                passes=profiling.get("passes"),
            )
        )
    for file in report.get("trace_files") or ():
        if str(file).endswith(".pickle"):
            lines.append(text("Memory snapshot: {file} (read it with gpuwatch trace memory)", file=file))
        else:
            lines.append(
                text(
                    "Trace: {file} (read it with gpuwatch trace summary, open it at https://ui.perfetto.dev)", file=file
                )
            )
    return lines


def batch_lines(report: Mapping[str, Any]) -> list[Text]:
    """What was skipped, what was done smaller than asked, where it is written, and how far it is from fp32."""
    lines: list[Text] = []
    if report.get("skipped"):
        lines.append(text("{count} were done before and are skipped.", count=report["skipped"]))
    degraded = report.get("degraded") or ()
    if degraded:
        smallest = min(int(each.get("size") or 0) for each in degraded)
        lines.append(
            text(
                "Memory ran out: {count} were done with less than was asked for, down to {size_px}; the manifest says which.",
                count=len(degraded),
                size_px=smallest,
            )
        )
    if report.get("manifest") and report.get("images_per_second"):
        rate = f"{float(report['images_per_second']):.3g}"
        lines.append(text("{rate} photos/s; manifest: {file}", rate=rate, file=report["manifest"]))
    compared = report.get("against_fp32")
    if compared:
        lines.append(
            text(
                "Against fp32, over {count} photos: ab differs by {mean_ab} on average, {largest_ab} at most.",
                count=compared.get("images"),
                **{name: shown(compared.get(name)) for name in ("mean_ab", "largest_ab")},
            )
        )
    return lines


def shown(number: float | None) -> str:
    """A measured number in three digits."""
    return "?" if number is None else f"{number:.3g}"
