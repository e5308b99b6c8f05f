"""What a log waits for before its first byte is looked at, and what it never needs: told by what is loaded, not by a clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOR_OTHERS = (
    "asyncio", "concurrent.futures", "email", "http", "importlib.metadata", "importlib.resources", "logging", "multiprocessing",
    "numpy", "rich", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "textual", "torch", "urllib.request", "yaml", "zipfile",
)  # fmt: skip
"""What no log needs that is read to its end."""
FOR_A_FAILURE = (
    "regex", "json", "gpuwatch.adapters.located", "gpuwatch.adapters.rulebook", "gpuwatch.adapters.workload_files",
    "gpuwatch.core.advice", "gpuwatch.core.case", "gpuwatch.core.causes", "gpuwatch.core.learned.reading",
    "gpuwatch.core.matching.literals", "gpuwatch.core.matching.probes", "gpuwatch.core.memory.trace", "gpuwatch.core.planners",
    "gpuwatch.core.workflow", "gpuwatch.core.workload", "gpuwatch.faces.report",
)  # fmt: skip
FOR_THE_ENGINE = (
    "gpuwatch.core.blocks",
    "gpuwatch.core.engine",
    "gpuwatch.core.events",
    "gpuwatch.core.incidents",
    "gpuwatch.core.observations",
    "gpuwatch.core.records",
)
_READ_A_LOG = """
import sys
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.faces.cli import main

scan, told = Matcher.scan, []

def first_scan(self, *arguments):
    told.append(set(sys.modules))
    return scan(self, *arguments)

Matcher.scan = first_scan
assert main(["diagnose", sys.argv[1]]) == 0
early, late = sys.argv[2].split(), sys.argv[3].split()
print([name for name in early if name in told[0]], [name for name in late if name in sys.modules])
"""


def test_what_explains_failures_is_not_loaded_to_read_a_calm_log(tmp_path: Path) -> None:
    pytest.importorskip("hyperscan", reason="without it the probes are made anew each time")
    log = tmp_path / "calm.log"
    log.write_text("got prompt\nloaded completely\nPrompt executed in 1.00 seconds\n" * 100)
    (tmp_path / "config").mkdir()
    own = {name: str(tmp_path / word) for name, word in (("CONFIG", "config"), ("CACHE", "cache"), ("STATE", "state"))}
    late = (*FOR_OTHERS, *FOR_A_FAILURE)
    command = [sys.executable, "-c", _READ_A_LOG, log, " ".join((*late, *FOR_THE_ENGINE)), " ".join(late)]
    for _rules in ("read and kept", "taken from the cache"):
        done = subprocess.run(
            command,
            env=os.environ | {f"GPUWATCH_{name}_DIR": folder for name, folder in own.items()},
            check=True,
            capture_output=True,
            text=True,
        )
    assert done.stdout.splitlines()[-1] == "[] []"


_BEHIND_THE_SCREEN = (
    "hyperscan", "sqlite3", "yaml", "rich.progress", "prometheus_client", "gpuwatch.core.engine", "gpuwatch.core.matching.matcher",
    "gpuwatch.adapters.recording", "gpuwatch.adapters.rulecache", "gpuwatch.faces.exporter", "gpuwatch.pipeline",
)  # fmt: skip
_DRAW_A_SCREEN = """
import sys
from textual.app import App
from gpuwatch.faces.cli import main
from gpuwatch.faces.commands import watch

def run(self):
    print([name for name in sys.argv[1].split() if name in sys.modules])

App.run = run
watch.has_screen = sys.stdin.isatty = lambda: True
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    "words", [["watch", "{file}"], ["replay", "{file}"], ["demo"]], ids=lambda words: str(words[0])
)
def test_a_screen_is_drawn_before_what_it_shows_is_loaded(words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "calm.jsonl"
    file.write_text("got prompt\n")
    named = [word.format(file=file) for word in words]
    done = subprocess.run(
        [sys.executable, "-c", _DRAW_A_SCREEN, " ".join(_BEHIND_THE_SCREEN), *named],
        env=os.environ | {"GPUWATCH_STATE_DIR": str(tmp_path), "GPUWATCH_CACHE_DIR": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == ["[]"]
