"""What the demo plays: a recorded session, the runner beside it, and the metrics page over both.

How it is shown, on the screen or in print, is left to who opens it.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from gpuwatch.adapters.checkpoints import find_checkpoint
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.sources import Source
from gpuwatch.adapters.sources.replay import ReplaySource
from gpuwatch.adapters.sources.runner import RunnerSource
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.faces.exporter import Exporter
from gpuwatch.faces.watching import machine_sources
from gpuwatch.pipeline import Pipeline

_RECORDING, _PHOTO = "oom_large_1280.jsonl", "portrait.jpg"
_SCREEN_SPEED = 20.0
_SIDE_PX = 256


@dataclass(frozen=True, slots=True)
class Demo:
    """What is played, ready to start."""

    pipeline: Pipeline
    exporter: Exporter


def open_demo(arguments: argparse.Namespace, opened: ExitStack, *, on_screen: bool) -> Demo:
    """Open it, until the stack is closed. In print nobody waits for the session's pace, nor for what this machine has."""
    data = opened.enter_context(as_file(files("gpuwatch.demo")))
    out = arguments.out or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="gpuwatch-demo-")))
    words = ["ddcolor", str(data / _PHOTO), "--size", str(_SIDE_PX), "--profile", "--force", "--out", str(out)]
    if arguments.checkpoint is not None:
        words += ["--checkpoint", find_checkpoint(str(arguments.checkpoint))]
    replay = ReplaySource(data / _RECORDING, speed=_SCREEN_SPEED if on_screen else 0, name="demo")
    matcher = load_matcher()
    engine = Engine(matcher.rules, load_workloads(), ready=matcher)
    sources: list[Source] = [replay, RunnerSource(words), *(machine_sources() if on_screen else ())]
    pipeline = Pipeline(engine, sources)
    exporter = Exporter(lambda: pipeline.snapshot, engine.rules, *arguments.listen, workloads=engine.workloads.ids)
    opened.callback(exporter.close)
    return Demo(pipeline, exporter)
