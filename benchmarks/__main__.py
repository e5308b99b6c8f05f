"""Measure on this machine, without a GPU, and print a Markdown table: `python -m benchmarks [--write FILE]`.

Everything of a table is from one run: only its ratios can be compared with another machine's. Nothing is written but with
`--write`, which replaces what stands between the two marks in that file and in its Chinese twin.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from benchmarks import beside, colorizing, following, peers, scanning, scraping, screen, starting
from benchmarks.measuring import machine_line

BEGIN = "<!-- measured: begin -->"
END = "<!-- measured: end -->"
PARTS = {
    "scanning": scanning.tables,
    "following": following.tables,
    "colorizing": colorizing.tables,
    "scraping": scraping.tables,
    "beside": beside.tables,
    "starting": starting.tables,
    "screen": screen.tables,
    "peers": peers.tables,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for and print the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the table between the marks of this file and its twin too"
    )
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; use some of {', '.join(PARTS)}")
    started = perf_counter()
    machine = machine_line()
    pieces = [f"Measured {datetime.now(UTC):%Y-%m-%d} on {machine}."]
    with tempfile.TemporaryDirectory() as folder:
        for name, make_tables in PARTS.items():
            if name in (options.parts or PARTS):
                pieces += map(str, make_tables(Path(folder)))
    pieces.append(f"The whole run took {perf_counter() - started:.0f} s.")
    page = "\n\n".join(pieces)
    print(page)
    if options.write:
        write_pages(options.write, page)
    return 0


def write_pages(path: Path, page: str) -> None:
    """Put `page` between the marks of a file, and of its twin where there is one; without marks nothing is written."""
    twin = path.with_name(f"{path.stem}.zh-CN{path.suffix}")
    pages = [each for each in (path, twin) if each == path or each.exists()]
    for each, content in [(each, replaced_between_marks(each, page)) for each in pages]:
        each.write_text(content, "utf-8")


def replaced_between_marks(path: Path, page: str) -> str:
    """The file with `page` between its marks; ends the run where it has none."""
    before, begin, rest = path.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{path} has no lines {BEGIN} and {END} to write between.")
    return f"{before}{BEGIN}\n\n{page}\n\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
