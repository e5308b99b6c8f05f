"""What watching a server costs: processor, memory and requests, beside one that idles and one that works.

The server is the tests' stand-in, in this process; gpuwatch is a child that serves metrics and keeps a journal, as it would
beside a real one. What the server itself spends on the requests is not measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
from tests.standin.comfyui import ComfyUI
from tests.standin.prompts import workflow
from tests.standin.server import Standin, standing

from benchmarks.measuring import ROOT, Table

SECONDS = 40.0
_SETTLE_SECONDS = 8.0
_FRAMES_A_SECOND, _FRAMES_A_JOB = 10, 40
_PATIENCE_SECONDS = 120.0


def tables(folder: Path) -> list[Table]:
    """One child, first beside an idle server, then beside one that works."""
    pause = _FRAMES_A_JOB // _FRAMES_A_SECOND
    with standing(ComfyUI()) as standin:
        command = [sys.executable, "-m", "gpuwatch.faces.cli", "serve", standin.url, "--listen", "127.0.0.1:0"]
        environment = {**os.environ, "GPUWATCH_STATE_DIR": str(folder / "state"), "PYTHONPATH": str(ROOT / "src")}
        child = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + _PATIENCE_SECONDS
            while not standin.comfyui.subscribed and time.monotonic() < until:
                time.sleep(0.1)
            time.sleep(_SETTLE_SECONDS)
            process = psutil.Process(child.pid)
            rows = [
                ("idle", *_measured(process, standin, busy=False)),
                (f"works: a prompt every {pause} s, bars in between", *_measured(process, standin, busy=True)),
            ]  # fmt: skip
        finally:
            child.terminate()
            child.wait()
    return [
        Table(
            "Beside a server",
            ("`gpuwatch serve URL`, the server", "Of one core", "Resident memory", "Requests a minute"),
            tuple(rows),
            (f"Over {SECONDS:.0f} s each; no GPU, so the driver was not asked.",),
        )
    ]


def _measured(process: psutil.Process, standin: Standin, *, busy: bool) -> tuple[str, str, str]:
    cpu, asked, began = _cpu_seconds(process), len(standin.asked), time.perf_counter()
    frame = 0
    while (left := SECONDS - (time.perf_counter() - began)) > 0:
        time.sleep(min(1 / _FRAMES_A_SECOND, left))
        if not busy:
            continue
        step = frame % _FRAMES_A_JOB
        if not step:
            standin.comfyui.submit({"prompt": workflow(256)})
        standin.comfyui.log_raw(
            f"\r {step * 100 // _FRAMES_A_JOB}%|#    | {step}/{_FRAMES_A_JOB} [00:01<00:03, 10.00it/s]"
        )
        frame += 1
    seconds = time.perf_counter() - began
    used = (_cpu_seconds(process) - cpu) / seconds
    return (
        f"{used:.2%}",
        f"{process.memory_info().rss / 2**20:.0f} MiB",
        f"{(len(standin.asked) - asked) * 60 / seconds:.0f}",
    )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
