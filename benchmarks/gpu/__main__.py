"""Run the GPU protocol and keep its results: `python -m benchmarks.gpu [--out DIR]`.

It needs torch, numpy, pillow and nvidia-ml-py, no installed gpuwatch and no network:
`PYTHONPATH=src:runner python3 benchmarks/gpu/__main__.py --out DIR` does the same in a bare checkout.
Without a CUDA device it says so and ends well. `--cpu` runs a small sample of every kind to prove the script.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).parents[2]
if not __package__:
    # Run as a file, Python looks for modules beside it; they are found by their full names from the root instead.
    sys.path[0] = str(ROOT)

from benchmarks.gpu.plan import ALLOCATORS, Case, all_cases, cpu_cases  # noqa: E402 - needs the path above
from benchmarks.gpu.results import Results  # noqa: E402

BUDGET_SECONDS = 450.0
CASE_SECONDS = 60.0
_LAST_LINES = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every case that there is time for."""
    options = _parse(arguments)
    machine = _machine(cpu=options.cpu)
    if machine is None:
        print("No CUDA device here: nothing was measured. (--cpu proves the script on a small sample.)")
        return 0
    cases = [case for case in (cpu_cases() if options.cpu else all_cases()) if options.only in case.title]
    results = Results(options.out, machine, options.budget)
    started = monotonic()
    upcoming: Child | None = None
    left = list(cases)
    while left and monotonic() - started < options.budget:
        case = left.pop(0)
        child, upcoming = upcoming or Child(case), None
        if left:
            upcoming = Child(left[0])
        outcome = child.measure(min(CASE_SECONDS, options.budget + CASE_SECONDS / 2 - (monotonic() - started)))
        results.add(case, outcome, monotonic() - started)
        word = next((word for word in ("error", "skipped") if word in outcome), "")
        print(f"{len(cases) - len(left):4}/{len(cases)} {outcome['seconds']:6.1f} s  {case.title}  {word}", flush=True)
    if upcoming:
        upcoming.drop()
    results.finish(monotonic() - started, left)
    print(f"{len(cases) - len(left)} of {len(cases)} cases in {monotonic() - started:.0f} s: {results.path}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runner/measured; with --cpu: out/gpu-on-cpu")
    parser.add_argument(
        "--budget", type=float, default=BUDGET_SECONDS, metavar="SECONDS", help="start no case after so long"
    )
    parser.add_argument("--only", default="", metavar="WORDS", help="cases with these words in their title")
    parser.add_argument("--cpu", action="store_true", help="prove the script on a CPU; the numbers mean nothing")
    options = parser.parse_args(arguments)
    options.out = options.out or ROOT / ("out/gpu-on-cpu" if options.cpu else "runner/measured")
    return options


class Child:
    """A case's process: it imports at once, and measures when it is told to."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.case", json.dumps(case.as_json()), "--wait"],
            cwd=ROOT,
            env=environment(case),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def measure(self, seconds: float) -> dict[str, Any]:
        """Let it measure; gives its result, or why there is none, and how long it took."""
        started = monotonic()
        try:
            out, words = self._process.communicate("go\n", timeout=seconds)
        except subprocess.TimeoutExpired:
            self.drop()
            return {"error": f"stopped after {seconds:.0f} s", "seconds": seconds}
        taken = {"seconds": round(monotonic() - started, 2)}
        if self._process.returncode != 0 or not out.strip():
            last = "\n".join(words.strip().splitlines()[-_LAST_LINES:]).replace(f"{ROOT}/", "")
            return {"error": last or f"exit code {self._process.returncode}", **taken}
        result = json.loads(out.strip().splitlines()[-1])
        return {"skipped": result["skipped"], **taken} if "skipped" in result else {"result": result, **taken}

    def drop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()


def environment(case: Case) -> dict[str, str]:
    """What the case's process inherits: the sources on its path, and its allocator instead of the caller's."""
    inherited = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name}
    paths = [str(ROOT), str(ROOT / "src"), str(ROOT / "runner"), inherited.get("PYTHONPATH", "")]
    inherited["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if case.device == "cpu":
        # Threads that spin for a core that something else has can take a hundred times as long as one thread.
        inherited["OMP_NUM_THREADS"] = "1"
    if ALLOCATORS[case.allocator]:
        inherited["PYTORCH_ALLOC_CONF"] = ALLOCATORS[case.allocator]
    return inherited


_ASK = """
import json, torch
from benchmarks.gpu.driver import driver_version
found = torch.cuda.is_available()
card = torch.cuda.get_device_properties(0) if found else None
print(json.dumps({
    "device": card.name if card else "cpu",
    "total_bytes": card.total_memory if card else None,
    "compute_capability": f"{card.major}.{card.minor}" if card else None,
    "multiprocessors": card.multi_processor_count if card else None,
    "driver": driver_version() if card else None,
    "torch": torch.__version__,
    "cuda": torch.version.cuda,
    "cudnn": torch.backends.cudnn.version() if card else None,
}))
"""


def _machine(*, cpu: bool) -> dict[str, Any] | None:
    """What card and versions this is, asked in a process that then ends: this one never holds device memory."""
    asked = subprocess.run(
        [sys.executable, "-c", _ASK],
        cwd=ROOT,
        env=environment(Case("peaks")),
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        sys.exit(f"torch or the driver's library cannot be asked:\n{asked.stderr.strip()}")
    machine: dict[str, Any] = json.loads(asked.stdout.strip().splitlines()[-1])
    if cpu:
        return {**machine, "device": "cpu", "total_bytes": None}
    return machine if machine["total_bytes"] else None


if __name__ == "__main__":
    sys.exit(main())
