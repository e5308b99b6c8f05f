"""The rules made ready in a process of its own, for one that lives long: what compiling takes is given back when it ends.

Compiling leaves some 40 MiB behind in the process that does it, between values that stay. Where a watch begins without a cache,
this fills it, and the watch reads only what it needs. Whatever goes wrong here, the rules are made where they are wanted.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_LONGEST_SECONDS = 120.0


def fill_cache(folder: Path | None) -> None:
    """Make the rules in force ready in another process, which keeps them; wait for it."""
    if not sys.executable:
        return
    words = [sys.executable, "-P", "-m", "gpuwatch.adapters.rule_making"]
    if folder is not None:
        words.append(str(folder.absolute()))
    quiet = subprocess.DEVNULL
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(words, stdin=quiet, stdout=quiet, stderr=quiet, timeout=_LONGEST_SECONDS, check=False)


if __name__ == "__main__":
    from gpuwatch.adapters.rulecache import load_matcher

    load_matcher(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
