"""The screen in a real pseudo-terminal: how soon it stands, how soon a key shows while lines pour in, what it holds, what it
costs at rest."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep

from benchmarks.measuring import ROOT, Table, make_rules_ready
from benchmarks.terminal import COLUMNS, ROWS, Screen

RATE_LINES = 100_000
MANY_LINES = 10_000_000
KEY_SECONDS = 0.12
KEYS = 120
IDLE_SECONDS = 60.0
ROUNDS = 5
FIRST_TYPED = 0x4E00
"""Chinese characters are typed into the search field, because no log line holds them."""
_DRAWN = "quit"

_PRODUCER = """
import sys, time
lines, rate = int(sys.argv[1]), int(sys.argv[2])
out = sys.stdout.buffer
block = b"".join(b"[INFO] step %d of a long night, sampling the latent with euler, 64x64\\n" % n for n in range(1000))
begin = time.perf_counter()
for done in range(0, lines, 1000):
    if rate and (ahead := done / rate - (time.perf_counter() - begin)) > 0:
        time.sleep(ahead)
    out.write(block); out.flush()
sys.stdin.read()
"""


@contextmanager
def screen(words: Sequence[str], folder: Path, producer: Sequence[str] = ()) -> Iterator[Screen]:
    """The screen over files, or over a producer in a pipe."""
    state = Path(tempfile.mkdtemp(dir=folder))
    (state / "screen.json").write_text("{}")
    made = None
    if producer:
        command = [sys.executable, "-c", _PRODUCER, *producer]
        made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    opened = Screen(
        [sys.executable, "-m", "gpuwatch.faces.cli", *words],
        made.stdout.fileno() if made is not None and made.stdout is not None else None,
        PYTHONPATH=os.pathsep.join([str(ROOT / "src"), str(ROOT / "runner")]),
        GPUWATCH_STATE_DIR=str(state),
        GPUWATCH_CACHE_DIR=str(folder),
    )
    try:
        yield opened
    finally:
        opened.close()
        if made is not None:
            made.kill()
            made.communicate()


def first_paints(folder: Path) -> tuple[float, float]:
    """Seconds from the start of the process to the last line of its first screen, and to the log's line on it."""
    log = folder / "small.log"
    log.write_text("got prompt\n")
    make_rules_ready(folder, log)
    drawn, read = [], []
    for _ in range(1 + ROUNDS):
        with screen(["watch", str(log)], folder) as shown:
            drawn.append(shown.until(_DRAWN) - shown.started)
            read.append(shown.until("got prompt") - shown.started)
    return median(drawn[1:]), median(read[1:])


def idle(folder: Path) -> tuple[float, int]:
    """The share of a core that it takes while nothing happens, and what it holds."""
    log = folder / "small.log"
    with screen(["watch", str(log)], folder) as shown:
        shown.until(_DRAWN)
        sleep(3)
        before, since = shown.cpu_seconds, perf_counter()
        sleep(IDLE_SECONDS)
        return (shown.cpu_seconds - before) / (perf_counter() - since), shown.rss_bytes


def keys(folder: Path, rate: int) -> tuple[list[float], float]:
    """Seconds from a key to what it draws while lines come, and the share of a core that it takes."""
    lines = int(rate * (KEYS * KEY_SECONDS + 30)) if rate else 1000
    with screen([], folder, [str(lines), str(rate)]) as shown:
        shown.until("long night")
        shown.type("/")
        shown.until("Enter finds")
        sleep(2)
        return type_along(shown)


def type_along(shown: Screen) -> tuple[list[float], float]:
    """Seconds from a key to what it draws, key by key, and the share of a core that it takes."""
    taken = []
    before, since = shown.cpu_seconds, perf_counter()
    for number in range(KEYS):
        typed = chr(FIRST_TYPED + number)
        shown.forget()
        pressed = perf_counter()
        shown.type(typed)
        taken.append(shown.until(typed) - pressed)
        sleep(max(KEY_SECONDS - taken[-1], 0))
    return taken, (shown.cpu_seconds - before) / (perf_counter() - since)


def many(folder: Path) -> tuple[int, float, float]:
    """What ten million lines hold in memory; seconds until all are read; seconds from `g` to the first of them."""
    with screen([], folder, [str(MANY_LINES), "0"]) as shown:
        shown.until("long night")
        since = perf_counter()
        shown.until(f"{MANY_LINES:,} records")
        read = perf_counter() - since
        shown.type("\t\t\t")
        sleep(1)
        shown.forget()
        pressed = perf_counter()
        shown.type("g")
        jumped = shown.until("step 0 of") - pressed
        sleep(1)
        return shown.rss_bytes, read, jumped


def tables(folder: Path) -> list[Table]:
    """One table, with what was aimed at."""
    drawn, read = first_paints(folder)
    share, idle_bytes = idle(folder)
    rows = [
        ("first screen, from the start of the process", f"{drawn:.2f} s (of {ROUNDS})", "0.6 s"),
        ("the log's first line on it", f"{read:.2f} s (of {ROUNDS})", ""),
        (
            f"at rest, over {IDLE_SECONDS:.0f} s",
            f"{share * 100:.2f} % of a core, {idle_bytes / 2**20:.0f} MiB",
            "0.7 %",
        ),
    ]
    for rate in (0, RATE_LINES):
        taken, cost = keys(folder, rate)
        cuts = quantiles(taken, n=100)
        name = f"key to its effect, {rate:,} lines/s piped in" if rate else "key to its effect, nothing else going on"
        told = f"p50 {cuts[49] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms, {cost * 100:.0f} % of a core"
        rows.append((name, told, "50 ms, 150 ms"))
    held, seconds, jumped = many(folder)
    rows.append((f"{MANY_LINES:,} lines from a pipe", f"{held / 2**20:.0f} MiB, read in {seconds:.1f} s", "60 MiB"))
    rows.append(("then back to the first line", f"{jumped * 1e3:.0f} ms", "100 ms"))
    return [Table(f"The screen, {COLUMNS}x{ROWS}", ("Measured in a pseudo-terminal", "Result", "Aim"), tuple(rows))]
