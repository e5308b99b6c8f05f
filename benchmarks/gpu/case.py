"""One case in a process of its own: `python -m benchmarks.gpu.case JSON [--wait]`, the result as one line of JSON.

With `--wait` it imports torch, then waits for a line on its standard input: so the next case's imports, which touch no
device, run while the last one is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from benchmarks.gpu.plan import Case


def main(arguments: Sequence[str]) -> int:
    """Measure the case that the first argument describes."""
    case = Case(**json.loads(arguments[0]))
    module = import_module(f"benchmarks.gpu.measures.{case.kind}")
    if "--wait" in arguments[1:] and not sys.stdin.readline():
        return 1
    result: dict[str, Any] = module.measure(case)
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
