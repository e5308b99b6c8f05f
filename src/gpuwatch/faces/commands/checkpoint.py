"""List, download and look into DDColor's published checkpoints.

Examples:
  gpuwatch checkpoint list
  gpuwatch checkpoint get paper_tiny            then: gpuwatch run ddcolor photo.jpg --checkpoint paper_tiny
  gpuwatch checkpoint get modelscope --from modelscope
  gpuwatch checkpoint get artistic --mirror https://hf-mirror.com --out ComfyUI/models/ddcolor
  gpuwatch checkpoint inspect downloaded.pth    what it is, and whether it carries code; nothing in it is run

A download that was cut goes on where it stopped. HF_ENDPOINT names another Hugging Face, in China https://hf-mirror.com.
Files are kept in $GPUWATCH_DATA_DIR/checkpoints, else ~/.local/share/gpuwatch/checkpoints.
Exit codes: 0 done, 1 the inspected file is damaged or carries code, 2 wrong use or an unreadable file, 3 the server does not
give the file, 4 what came is not the checkpoint, or the disk is full.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpuwatch.adapters.checkpoint_file import inspect_file
from gpuwatch.adapters.checkpoints import address_of, checkpoint_folder, fetch, published
from gpuwatch.core.checkpoint import PUBLISHED, SOURCES, Inspection, Published
from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json
from gpuwatch.faces.report import console_for, json_line
from gpuwatch.texts import Text, plain, render, text, visible
from gpuwatch.texts import translate as _


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    listed = actions.add_parser("list", help=_("the published checkpoints, and which of them are here"))
    got = actions.add_parser("get", help=_("download one"))
    got.add_argument("name", metavar="NAME", help=", ".join(PUBLISHED))
    got.add_argument(
        "--from", dest="source", choices=SOURCES, default=SOURCES[0], help=_("the site (default: huggingface)")
    )
    got.add_argument("--mirror", metavar="URL", help=_("a site that stands in for it, or the file's own address"))
    got.add_argument("--sha256", metavar="HEX", help=_("the hash that the file must have"))
    got.add_argument(
        "--out", type=Path, metavar="PATH", help=_("a folder or file to save it as (default: the data folder)")
    )
    got.add_argument("--force", action="store_true", help=_("download it even where it is here"))
    looked = actions.add_parser("inspect", help=_("say what a checkpoint file is, without running anything in it"))
    looked.add_argument("file", type=Path, metavar="FILE")
    for child in (listed, got, looked):
        add_json(child)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    match arguments.action:
        case "list":
            return list_published(as_json=arguments.json)
        case "get":
            return get(arguments)
        case _:
            return inspect(arguments.file, as_json=arguments.json)


def list_published(*, as_json: bool) -> int:
    """A line a checkpoint."""
    folder = checkpoint_folder()
    here = {each.name: (folder / each.file).is_file() for each in PUBLISHED.values()}
    if as_json:
        for each in PUBLISHED.values():
            print(json_line(published_json(each, folder / each.file, here=here[each.name])))
        return 0
    from rich.table import Table  # noqa: PLC0415 - only where a person reads

    table = Table(box=None, pad_edge=False)
    for heading in (_("name"), _("network"), _("size"), _("here"), _("sites")):
        table.add_column(heading, overflow="fold")
    for each in PUBLISHED.values():
        size = text("about {size_bytes}", size_bytes=each.about_bytes)
        table.add_row(
            each.name, each.variant, render(size), _("yes") if here[each.name] else "-", ", ".join(each.paths)
        )
    console_for(sys.stdout).print(table)
    tell(text("Kept in {folder}.", folder=folder))
    return 0


def published_json(each: Published, path: Path, *, here: bool) -> dict[str, Any]:
    """A published checkpoint as JSON."""
    return {
        "name": each.name,
        "file": each.file,
        "variant": each.variant,
        "about_bytes": each.about_bytes,
        "sha256": each.sha256,
        "urls": {source: each.url(source) for source in each.paths},
        "path": str(path),
        "here": here,
    }


def get(arguments: argparse.Namespace) -> int:
    """Download one, unless it is here."""
    wanted = published(arguments.name)
    expected = arguments.sha256.lower() if arguments.sha256 else None
    if expected is not None and not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise UsageError(text("--sha256 takes 64 hexadecimal digits, not {words}", words=arguments.sha256))
    address = address_of(wanted, arguments.source, arguments.mirror)
    path = place_of(wanted, arguments.out)
    if path.exists() and not arguments.force:
        return report_here(wanted, path, expected, as_json=arguments.json)
    tell(plain(f"{address.url} -> {path}"))
    try:
        with byte_bar(wanted.file) as on_progress:
            fetched = fetch(wanted, path, address, sha256=expected, on_progress=on_progress)
    except KeyboardInterrupt:
        tell(text("Stopped; what came is kept, and the same command goes on from there."))
        raise
    if arguments.json:
        found = {
            "name": wanted.name,
            "path": str(fetched.path),
            "size_bytes": fetched.size_bytes,
            "sha256": fetched.sha256,
        }
        compared = "given" if expected else "server" if fetched.told_sha256 else None
        print(
            json_line({**found, "compared_with": compared, "resumed_bytes": fetched.resumed_bytes, "url": address.url})
        )
        return 0
    say(
        text(
            "{path} is DDColor's {variant} network, {size_bytes}.",
            path=path,
            variant=wanted.variant,
            size_bytes=fetched.size_bytes,
        )
    )
    say(plain(f"SHA-256 {fetched.sha256}"))
    if expected:
        say(text("That is the hash that was given."))
    elif fetched.told_sha256:
        say(text("The server told the same hash. Its authors publish none to compare it with."))
    else:
        say(text("Neither its authors nor the server tell a hash to compare; the content is whole and only weights."))
    if arguments.out is None:
        say(text("`gpuwatch run ddcolor photo.jpg --checkpoint {name} --out coloured` uses it.", name=wanted.name))
    return 0


def place_of(wanted: Published, out: Path | None) -> Path:
    """Where the file goes."""
    if out is None:
        return checkpoint_folder() / wanted.file
    return out if out.suffix.lower() in (".pth", ".pt") and not out.is_dir() else out / wanted.file


def report_here(wanted: Published, path: Path, expected: str | None, *, as_json: bool) -> int:
    """Say that it is here already, and whether it is what it should be."""
    found = inspect_file(path)
    right = found.usable and found.network.variant == wanted.variant and expected in (None, found.sha256)
    if as_json:
        print(
            json_line({"name": wanted.name, "path": str(path), "size_bytes": found.size_bytes, "sha256": found.sha256})
        )
    if not right:
        raise UsageError(
            text("{path} is there, and is not the checkpoint {name}.", path=path, name=wanted.name),
            text(
                "`gpuwatch checkpoint inspect {path}` says what it is; --force replaces it.",
                path=shlex.quote(str(path)),
            ),
        )
    if not as_json:
        say(text("{path} is here already; --force downloads it again.", path=path))
        say(plain(f"SHA-256 {found.sha256}"))
    return 0


def inspect(path: Path, *, as_json: bool) -> int:
    """Say what a file is."""
    with byte_bar(path.name) as on_progress:
        have = 0

        def count(more: int) -> None:
            nonlocal have
            have += more
            on_progress(have, None)

        found = inspect_file(path, on_bytes=count)
    if as_json:
        print(json_line(inspection_json(found)))
    else:
        for line in inspection_lines(found):
            say(line)
    return 1 if found.damaged is not None or found.names or found.tensors == 0 else 0


def inspection_json(found: Inspection) -> dict[str, Any]:
    """An inspection as JSON."""
    return {
        "path": found.path,
        "size_bytes": found.size_bytes,
        "sha256": found.sha256,
        "format": found.format,
        "network": found.network.name,
        "variant": found.network.variant,
        "complete": found.network.complete,
        "tensors": found.tensors,
        "parameters": found.parameters,
        "dtypes": dict(found.dtypes),
        "names": [{"name": str(name), "kind": name.kind} for name in found.names],
        "damaged": found.damaged,
        "usable": found.usable,
    }


def inspection_lines(found: Inspection) -> list[Text]:
    """An inspection as sentences, the verdict first."""
    lines = [verdict(found)]
    if found.tensors:
        dtypes = ", ".join(f"{count} {dtype}" for dtype, count in found.dtypes.items())
        lines.append(
            text(
                "{format}, {tensors} tensors ({dtypes}), {parameters} numbers in them.",
                format=found.format,
                tensors=found.tensors,
                dtypes=dtypes,
                parameters=f"{found.parameters:,}",
            )
        )
    lines.extend(
        text("It names {name}, which can run commands when the file is loaded.", name=str(name))
        if name.kind == "dangerous"
        else text("It names {name}, which no tensor needs.", name=str(name))
        for name in found.names[:20]
    )
    if len(found.names) > 20:
        lines.append(text("And {count} more names.", count=len(found.names) - 20))
    count = plain(f"{found.size_bytes:,}")
    lines.append(
        text("{size_bytes}, exactly {count} bytes.", size_bytes=found.size_bytes, count=count)
        if found.size_bytes > 1 << 10
        else text("Its size is {size_bytes}.", size_bytes=found.size_bytes)
    )
    lines.append(plain(f"SHA-256 {found.sha256}"))
    return lines


def verdict(found: Inspection) -> Text:
    """What the file is, in one sentence."""
    path, network = found.path, found.network
    if found.dangerous:
        return text("{path} carries code besides weights: do not load it outside gpuwatch.", path=path)
    if found.damaged is not None:
        return text("{path} is damaged ({format}): {reason}.", path=path, format=found.format, reason=found.damaged)
    if found.names:
        return text("{path} holds more than weights, so gpuwatch does not load it.", path=path)
    if found.tensors == 0:
        if found.format == "git-lfs pointer":
            return text("{path} only points to a checkpoint: git-lfs did not bring the file itself.", path=path)
        return text("{path} is no checkpoint: {format}.", path=path, format=found.format)
    if network.name == "DDColor" and network.complete:
        return text("{path} is DDColor, the {variant} network, complete.", path=path, variant=network.variant)
    if network.name == "DDColor":
        return text("{path} is of DDColor's kind, but not in the published layout: the runner refuses it.", path=path)
    if network.name is not None:
        return text("{path} is not DDColor: it looks like {network}.", path=path, network=network.name)
    return text("{path} is not DDColor, and its names tell of no network that is known.", path=path)


def say(line: Text) -> None:
    """A line of the answer."""
    print("\n".join(visible(each) for each in render(line).splitlines()))


def tell(line: Text) -> None:
    """A line of narration."""
    print(visible(render(line)), file=sys.stderr)


@contextmanager
def byte_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of bytes with speed and time left on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _have, _total: None
        return
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(visible(name), total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)
