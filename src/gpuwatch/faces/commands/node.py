"""Put gpuwatch's DDColor node into a ComfyUI, tell what is there, take it away.

Examples:
  gpuwatch node install ~/ComfyUI             then restart ComfyUI
  gpuwatch node install ~/ComfyUI --dry-run   what would be written, and nothing is
  gpuwatch node status ~/ComfyUI
  gpuwatch node uninstall ~/ComfyUI

The node, GpuwatchDDColor, takes the inputs of DDColor_Colorize, and precision and low_memory besides. It works in ComfyUI's own
Python without gpuwatch there; with --link it runs the gpuwatch of this command instead of a copy. Exit codes: 0 done, 1 nothing
is there (status), 2 wrong use, or files that someone changed, 4 the folder cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gpuwatch import __version__
from gpuwatch.adapters.node_pack import (
    FOLDER,
    Installed,
    Mode,
    custom_nodes_of,
    find_installed,
    install,
    pack_files,
    refuse_changed,
    uninstall,
)
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json
from gpuwatch.faces.report import json_line
from gpuwatch.texts import Text, render, text, visible
from gpuwatch.texts import translate as _

_STOCK_NODE = "DDColor_Colorize"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    actions = parser.add_subparsers(dest="action", metavar=_("ACTION"), required=True)
    put = actions.add_parser("install", help=_("put the node in place, or a newer one in the older one's"))
    way = put.add_mutually_exclusive_group()
    way.add_argument("--copy", action="store_true", help=_("copy what it needs (default)"))
    way.add_argument("--link", action="store_true", help=_("run this gpuwatch's own files"))
    taken = actions.add_parser("uninstall", help=_("take away what install wrote"))
    told = actions.add_parser("status", help=_("what is there"))
    for child in (put, taken):
        child.add_argument("--dry-run", action="store_true", help=_("only say what would be done"))
        child.add_argument("--force", action="store_true", help=_("give up files that someone changed"))
    for child in (put, taken, told):
        child.add_argument("comfyui", type=Path, metavar="COMFYUI_DIR")
        add_json(child)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    custom_nodes = custom_nodes_of(arguments.comfyui)
    match arguments.action:
        case "install":
            return put(custom_nodes, arguments)
        case "uninstall":
            return take_away(custom_nodes, arguments)
        case _:
            return status(custom_nodes, as_json=arguments.json)


def put(custom_nodes: Path, arguments: argparse.Namespace) -> int:
    """Install or upgrade."""
    mode: Mode = "link" if arguments.link else "copy"
    profile = load_workloads().find(_STOCK_NODE, None)
    if profile is None:
        raise UsageError(text("the profile of {node} is missing.", node=_STOCK_NODE), text("Install gpuwatch again."))
    before = find_installed(custom_nodes)
    if before is not None and not arguments.force:
        refuse_changed(before)
    files = pack_files(mode, profile)  # computes what the node will need, for seconds
    folder = custom_nodes / FOLDER
    if not arguments.dry_run:
        before = install(custom_nodes, mode, files, force=arguments.force)
    size_bytes = sum(len(content) for content in files.values())
    if arguments.json:
        found = {
            "folder": str(folder),
            "version": __version__,
            "mode": mode,
            "files": sorted(files),
            "size_bytes": size_bytes,
        }
        print(
            json_line({**found, "before": before.stamp.version if before else None, "written": not arguments.dry_run})
        )
        return 0
    words: dict[str, Any] = {"count": len(files) + 1, "size_bytes": size_bytes, "folder": folder}
    if arguments.dry_run:
        for name in sorted(files):
            print(visible(str(folder / name)))
        say(text("{count} files, {size_bytes}, would be written into {folder}.", **words))
        return 0
    say(text("{count} files, {size_bytes}, are written into {folder}.", **words))
    if before is not None:
        say(text("It takes the place of version {version}.", version=before.stamp.version))
    say(
        text(
            "Restart ComfyUI: the node is GpuwatchDDColor, under gpuwatch. It takes DDColor_Colorize's inputs as they are."
        )
    )
    return 0


def take_away(custom_nodes: Path, arguments: argparse.Namespace) -> int:
    """Uninstall."""
    found = find_installed(custom_nodes)
    if found is None:
        say_nothing_there(custom_nodes, as_json=arguments.json)
        return 0
    if arguments.dry_run:
        if not arguments.force:
            refuse_changed(found)
        for name in found.stamp.files:
            print(visible(str(found.folder / name)))
        return 0
    kept = uninstall(found, force=arguments.force)
    if arguments.json:
        print(
            json_line(
                {"folder": str(found.folder), "removed": len(found.stamp.files), "kept": [str(path) for path in kept]}
            )
        )
        return 0
    say(text("The node is gone from {folder}; ComfyUI has it until it is restarted.", folder=found.folder))
    if kept:
        say(text("Not gpuwatch's, and kept: {names}", names=", ".join(str(path) for path in kept[:5])))
    return 0


def status(custom_nodes: Path, *, as_json: bool) -> int:
    """Say what is there."""
    found = find_installed(custom_nodes)
    if found is None:
        say_nothing_there(custom_nodes, as_json=as_json)
        return 1
    if as_json:
        print(json_line(status_json(found)))
        return 0
    stamp = found.stamp
    words: dict[str, Any] = {"folder": found.folder, "version": stamp.version, "count": len(stamp.files)}
    if stamp.mode == "link":
        say(text("{folder}: version {version}, linked to gpuwatch's own files.", **words))
    else:
        say(text("{folder}: version {version}, {count} files copied.", **words))
    if stamp.version != __version__:
        say(text("This gpuwatch is {version}; `gpuwatch node install` brings the node to it.", version=__version__))
    for heading, names in ((_("changed"), found.changed), (_("missing"), found.missing)):
        if names:
            print(visible(f"{heading}: {', '.join(names[:5])}"))
    return 0


def status_json(found: Installed) -> dict[str, Any]:
    """What is there as JSON."""
    return {
        "folder": str(found.folder),
        "version": found.stamp.version,
        "mode": found.stamp.mode,
        "files": len(found.stamp.files),
        "changed": list(found.changed),
        "missing": list(found.missing),
        "current": found.stamp.version == __version__,
    }


def say_nothing_there(custom_nodes: Path, *, as_json: bool) -> None:
    """Say that there is no pack."""
    if as_json:
        print(json_line({"folder": str(custom_nodes / FOLDER), "version": None}))
    else:
        print(visible(render(text("The node is not in {folder}.", folder=custom_nodes))), file=sys.stderr)


def say(line: Text) -> None:
    """A line of the answer."""
    print(visible(render(line)))
