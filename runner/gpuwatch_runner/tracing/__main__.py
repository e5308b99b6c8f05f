"""Make the traces that gpuwatch ships: `python -m gpuwatch_runner.tracing --out rules/workloads/data/ddcolor`.

Needs torch and no GPU; takes some minutes. The same torch makes the same files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

from gpuwatch_runner.tracing.ddcolor import make, shipped_names

_ROOT = Path(__file__).parents[3]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trace and write, several at a time."""
    parser = argparse.ArgumentParser(prog="python -m gpuwatch_runner.tracing", description="Make the shipped traces.")
    parser.add_argument("--out", type=Path, default=_ROOT / "rules" / "workloads" / "data" / "ddcolor", metavar="DIR")
    parser.add_argument("--only", default="", metavar="WORDS", help="traces with these words in their file's name")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    given = parser.parse_args(arguments)
    numbers = [number for number, name in enumerate(shipped_names()) if given.only in name]
    tasks = [(number, given.out) for number in numbers]
    if given.jobs == 1:
        for task in tasks:
            _told(make(task))
    else:
        with get_context("spawn").Pool(given.jobs) as pool:
            for path in pool.imap(make, tasks):
                _told(path)
    return 0


def _told(path: Path) -> None:
    sys.stdout.write(f"{path}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
