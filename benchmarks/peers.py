"""The screen beside other log viewers, on the same log in the same pseudo-terminal. One that is not installed is named.

Each is opened on a file, as a person would; the file is made up and the same for all, progress bars included. Only what can be
measured in the same way is: when its last line stands on the terminal, what it holds once it has read all of it, how soon a
character shows that is typed into its search while lines are appended, what it costs while nothing happens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, perf_counter, sleep

from benchmarks.logs import write_log
from benchmarks.measuring import ROOT, Table, make_rules_ready
from benchmarks.screen import RATE_LINES, ROUNDS, type_along
from benchmarks.terminal import COLUMNS, ROWS, Screen

SIZES = (1_000_000, 10_000_000)
_END = "終末之行已至"
"""Drawn cell by cell where another line stood before, so it holds no letter that may have stood there already."""
_BLOCK_BYTES = 1 << 20
_IDLE_SECONDS = 20.0
_QUIET_SHARE = 0.05
"""Of a core: below it for a second, a program has read what there is."""
_READ_WITHIN_SECONDS = 200.0

_APPENDER = """
import sys, time
path, rate = sys.argv[1], int(sys.argv[2])
block = b"".join(b"[INFO] step %d of a long night, sampling the latent with euler, 64x64\\n" % n for n in range(1000))
with open(path, "ab", buffering=0) as log:
    begin, done = time.perf_counter(), 0
    while True:
        if (ahead := done / rate - (time.perf_counter() - begin)) > 0:
            time.sleep(ahead)
        log.write(block)
        done += 1000
"""


@dataclass(frozen=True, slots=True)
class Viewer:
    """A program that shows logs."""

    name: str
    command: Sequence[str]
    search: str
    """The key that opens its search."""
    opened: str
    """What then stands on the terminal."""


def viewers() -> tuple[list[Viewer], list[str]]:
    """Those that are here, ours first, and the names of those that are not."""
    ours = Viewer(
        "gpuwatch watch", [sys.executable, "-m", "gpuwatch.faces.cli", "watch", "--no-journal"], "/", "Enter finds"
    )
    others = {
        "lnav": Viewer(version_of("lnav", "-V"), ["lnav"], "/", "Search for"),
        "tl": Viewer(f"toolong ({version_of('tl', '--version')})", ["tl"], "\x06", "Case sensitive"),
    }
    here = [viewer for program, viewer in others.items() if shutil.which(program) is not None]
    return [ours, *here], [program for program in others if shutil.which(program) is None]


def version_of(program: str, option: str) -> str:
    """What it says of itself, in a line."""
    if shutil.which(program) is None:
        return program
    return (
        subprocess.run([program, option], capture_output=True, text=True, check=False).stdout.strip().partition("\n")[0]
    )


@contextmanager
def viewing(viewer: Viewer, log: Path, folder: Path) -> Iterator[Screen]:
    """It, over the log, with a home of its own, which it has been in before."""
    home = folder / f"home-{viewer.command[0].rpartition('/')[2]}"
    ours = viewer.command[0] == sys.executable
    if not home.exists():
        home.mkdir()
        if ours:
            make_rules_ready(home, log)
    (home / "screen.json").write_text("{}")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "runner")]) if ours else ""
    shown = Screen(
        [*viewer.command, str(log)],
        HOME=str(home),
        GPUWATCH_STATE_DIR=str(home),
        GPUWATCH_CACHE_DIR=str(home),
        PYTHONPATH=path,
    )
    try:
        yield shown
    finally:
        shown.close()


def first_paint(viewer: Viewer, log: Path, folder: Path) -> float:
    """Seconds from its start to the log's last line, the middle of some rounds."""
    taken = []
    for _ in range(1 + ROUNDS):  # the first one makes what it keeps for the next
        with viewing(viewer, log, folder) as shown:
            taken.append(shown.until(_END) - shown.started)
    return median(taken[1:])


def at_rest(viewer: Viewer, log: Path, folder: Path) -> float:
    """The share of a core that it takes while nothing happens."""
    with viewing(viewer, log, folder) as shown:
        shown.until(_END)
        sleep(5)
        before, since = shown.cpu_seconds, perf_counter()
        sleep(_IDLE_SECONDS)
        return (shown.cpu_seconds - before) / (perf_counter() - since)


def held(viewer: Viewer, log: Path, folder: Path) -> tuple[float, int, int]:
    """Seconds until it has read all of it, and what it then holds: of its own, and with mapped files."""
    with viewing(viewer, log, folder) as shown:
        shown.until(_END)
        deadline = monotonic() + _READ_WITHIN_SECONDS
        while monotonic() < deadline:
            before, since = shown.cpu_seconds, perf_counter()
            sleep(1)
            if (shown.cpu_seconds - before) / (perf_counter() - since) < _QUIET_SHARE:
                return since - shown.started, shown.own_bytes, shown.rss_bytes
        return float("inf"), shown.own_bytes, shown.rss_bytes


def keys(viewer: Viewer, log: Path, folder: Path) -> str:
    """How soon what is typed into its search shows, while lines are appended."""
    with viewing(viewer, log, folder) as shown:
        shown.until(_END)
        appender = subprocess.Popen([sys.executable, "-c", _APPENDER, str(log), str(RATE_LINES)])
        try:
            sleep(2)
            shown.type(viewer.search)
            shown.until(viewer.opened)
            sleep(2)
            taken, cost = type_along(shown)
        except SystemExit:
            return "what was typed did not show"
        finally:
            appender.kill()
            appender.wait()
    cuts = quantiles(taken, n=100)
    return f"{cuts[49] * 1e3:.0f}, {cuts[98] * 1e3:.0f} ms, {cost * 100:.0f} %"


def made_log(path: Path, lines: int) -> Path:
    """A log of so many lines, the same ones over and over, and its last."""
    block = path.with_suffix(".block")
    log = write_log(block, _BLOCK_BYTES, failure_ratio=0.0)
    times, rest = divmod(lines - 1, log.lines)
    data = block.read_bytes()
    with path.open("wb") as file:
        for _ in range(times):
            file.write(data)
        file.write(b"\n".join([*data.split(b"\n")[:rest], _END.encode(), b""]))
    block.unlink()
    return path


def tables(folder: Path) -> list[Table]:
    """One table, a column a viewer."""
    here, missing = viewers()
    small = made_log(folder / "peers-small.log", 1000)
    rows = [
        ("first screen of 1,000 lines", *(f"{first_paint(one, small, folder):.2f} s" for one in here)),
        (
            f"at rest, over {_IDLE_SECONDS:.0f} s, of a core",
            *(f"{at_rest(one, small, folder) * 100:.2f} %" for one in here),
        ),
    ]
    for lines in SIZES:
        log = made_log(folder / "peers.log", lines)
        cells = []
        for one in here:
            seconds, own, rss = held(one, log, folder)
            cells.append(f"{own / 2**20:.0f} MiB ({rss / 2**20:.0f}), {seconds:.1f} s")
        rows.append((f"{lines:,} lines: memory of its own (with mapped files), read in", *cells))
        log.unlink()
    name = f"key to its effect, {RATE_LINES:,} lines/s appended: p50, p99, of a core"
    rows.append((name, *(keys(one, made_log(folder / "peers-growing.log", 1000), folder) for one in here)))
    notes = [
        "Measured from outside, each on the same file in the same pseudo-terminal; only gpuwatch explains failures meanwhile."
    ]
    if missing:
        notes.append(f"Not installed here, and left out: {', '.join(missing)}.")
    columns = ("Log viewers, as far as the same can be measured", *(one.name for one in here))
    return [Table(f"The screen beside other viewers, {COLUMNS}x{ROWS}", columns, tuple(rows), tuple(notes))]
