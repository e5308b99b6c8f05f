"""The runner's command line as a value. Needs no torch, so that a wrong argument is answered at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from gpuwatch.errors import UsageError
from gpuwatch.texts import plain, text
from gpuwatch_runner.sizes import parse_bytes, require_size

Dtype = Literal["fp32", "amp16", "fp16", "bf16"]
DTYPES: tuple[Dtype, ...] = ("fp32", "amp16", "fp16", "bf16")
MOST_WORKERS = 64
DEFAULT_TRACE_FOLDER = Path("gpuwatch-traces")


@dataclass(frozen=True, slots=True)
class Job:
    """What to run: images, network, precision, and what to measure."""

    paths: tuple[Path, ...]
    checkpoint: Path | None
    """None: seeded random weights."""
    variant: Literal["tiny", "large"] | None
    """None: what the checkpoint holds; tiny without one."""
    size_px: int
    dtype: Dtype
    rewrite: Literal["none", "tail", "fold"]
    device: str
    """`auto`, or a torch device."""
    batch: int
    repeat: int
    """Passes over all images; those after the first are only measured."""
    memory_limit_bytes: int | None
    profile: bool
    trace_folder: Path
    out: Path | None
    """None: colours are computed and measured, and not written."""
    force: bool = False
    """Do again what the manifest says is done."""
    degrade: bool = False
    """Step down where memory runs out, instead of ending."""
    workers: int = 0
    """Threads that decode and encode beside the network, each way; 0: one thing at a time."""
    compare_fp32: bool = False
    channels_last: bool = False
    compiled: bool = False
    tf32: bool | None = None
    """None: torch's own choice."""


class _Parser(argparse.ArgumentParser):
    """argparse that raises where it would print and exit: a wrong argument is an event like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(plain(message))


def parse(arguments: Sequence[str]) -> Job:
    """Read `ddcolor IMAGE|DIR... [options]`; UsageError for anything it cannot mean."""
    parser = _Parser(prog="python -m gpuwatch_runner", description="Run a workload and report it in JSON Lines.")
    workloads = parser.add_subparsers(dest="workload", required=True, parser_class=_Parser)
    ddcolor = workloads.add_parser("ddcolor", help="colorize photos with DDColor")
    ddcolor.add_argument("paths", nargs="+", type=Path, metavar="IMAGE|DIR")
    ddcolor.add_argument("--checkpoint", type=Path)
    ddcolor.add_argument("--variant", choices=("tiny", "large"))
    ddcolor.add_argument("--size", type=int, default=512, help="pixels the network sees; a multiple of 32")
    ddcolor.add_argument("--dtype", choices=DTYPES, default="fp32")
    ddcolor.add_argument("--rewrite", choices=("none", "tail", "fold"), default="none")
    ddcolor.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    ddcolor.add_argument("--batch", type=int, default=1)
    ddcolor.add_argument("--repeat", type=int, default=1)
    ddcolor.add_argument("--memory-limit", metavar="SIZE", help="8GiB, 512MiB, 1.5GB or bytes; CUDA only")
    ddcolor.add_argument("--profile", action="store_true", help="write a trace that Perfetto opens")
    ddcolor.add_argument("--trace-dir", type=Path)
    ddcolor.add_argument("--out", type=Path, help="where the colorized photos go; without it nothing is written")
    ddcolor.add_argument("--force", action="store_true", help="do again what the manifest in --out says is done")
    ddcolor.add_argument(
        "--degrade", action="store_true", help="step rewrite, batch, then size down where memory runs out"
    )
    ddcolor.add_argument(
        "--workers", type=int, default=min(4, os.cpu_count() or 1), help="threads each way; 0 for none"
    )
    ddcolor.add_argument("--compare-fp32", action="store_true", help="report how far the colours are from fp32's")
    ddcolor.add_argument("--channels-last", action="store_true")
    ddcolor.add_argument("--compile", action="store_true", help="run through torch.compile")
    ddcolor.add_argument("--tf32", choices=("on", "off"), help="TF32 on CUDA (default: torch's choice)")
    given = parser.parse_args(arguments)
    if not 0 <= given.workers <= MOST_WORKERS:
        raise UsageError(text("--workers takes 0 to {most}, not {count}", most=MOST_WORKERS, count=given.workers))
    for name in ("batch", "repeat"):
        if getattr(given, name) < 1:
            raise UsageError(text("--{name} takes 1 or more, not {count}", name=name, count=getattr(given, name)))
    return Job(
        paths=tuple(given.paths),
        checkpoint=given.checkpoint,
        variant=given.variant,
        size_px=require_size(given.size),
        dtype=given.dtype,
        rewrite=given.rewrite,
        device=given.device,
        batch=given.batch,
        repeat=given.repeat,
        memory_limit_bytes=None if given.memory_limit is None else parse_bytes(given.memory_limit),
        profile=given.profile,
        trace_folder=given.trace_dir or (given.out / "traces" if given.out else DEFAULT_TRACE_FOLDER),
        out=given.out,
        force=given.force,
        degrade=given.degrade,
        workers=given.workers,
        compare_fp32=given.compare_fp32,
        channels_last=given.channels_last,
        compiled=given.compile,
        tf32=None if given.tf32 is None else given.tf32 == "on",
    )
