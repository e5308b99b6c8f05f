"""Servers on a command line, for the verbs that act on them: which they are, what identifies us, how far one may go."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpuwatch.errors import UsageError
from gpuwatch.faces.options import whole
from gpuwatch.texts import text
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.adapters.comfyui.acting import Hands
    from gpuwatch.adapters.comfyui.address import Server
    from gpuwatch.adapters.comfyui.mending import Mender
    from gpuwatch.core.observations import FixTried

MOST_TRIES = 20
_MOST_SIDE_PX = 65536


def add_limits(parser: argparse.ArgumentParser) -> None:
    """How far one may go."""
    parser.add_argument(
        "--tries",
        type=whole(1, MOST_TRIES),
        default=3,
        metavar="N",
        help=_("how often a job is queued again (default: 3)"),
    )
    parser.add_argument("--min-size", type=whole(1, _MOST_SIDE_PX), metavar="PX", help=_("set no side below this"))


def add_access(parser: argparse.ArgumentParser) -> None:
    """What identifies us; never on the command line itself."""
    parser.add_argument("--header-file", metavar="FILE", help=_("headers to send, one `Name: value` a line"))
    parser.add_argument("--token-file", metavar="FILE", help=_("a file with the token that the server wants"))


def add_fix_journal(parser: argparse.ArgumentParser) -> None:
    """Where what is tried is kept, so that `serve` and `watch` count it too."""
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help=_("add what is tried to this journal (default: your own)")
    )
    parser.add_argument("--no-journal", action="store_true", help=_("keep nothing"))


def server_named(spec: str, arguments: argparse.Namespace) -> Server:
    """The server that a word means; http:// may be left out."""
    from gpuwatch.adapters.comfyui.address import is_address, read_headers, read_token, server_of  # noqa: PLC0415

    headers: dict[str, str] = {}
    if arguments.header_file is not None:
        headers |= read_headers(arguments.header_file)
    if arguments.token_file is not None:
        headers |= read_token(arguments.token_file)
    return server_of(spec if is_address(spec) or "://" in spec else f"http://{spec}", headers)


def servers_named(specs: Sequence[str], arguments: argparse.Namespace) -> list[Server]:
    """The servers, each once. Raises UsageError where one is named twice."""
    servers = [server_named(spec, arguments) for spec in specs]
    names = [server.name for server in servers]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(text("{spec} is named twice.", spec=twice), text("Name each server once."))
    return servers


def hands_of(server: Server) -> Hands:
    """What reads and queues on one server, and decides nothing."""
    from gpuwatch.adapters.comfyui.acting import Hands  # noqa: PLC0415 - --help must not load the sources
    from gpuwatch.adapters.comfyui.client import Client  # noqa: PLC0415

    return Hands(Client(server))


def mender_of(
    server: Server, arguments: argparse.Namespace, keep: Callable[[FixTried], None] = lambda _tried: None
) -> Mender:
    """What proposes and queues for one server; `keep` is told of each fix, where no pipeline is."""
    from gpuwatch.adapters.comfyui.mending import Limits, Mender  # noqa: PLC0415
    from gpuwatch.adapters.journal.runs import read_learned  # noqa: PLC0415
    from gpuwatch.adapters.node_knowledge import load_knowledge  # noqa: PLC0415
    from gpuwatch.adapters.rulecache import load_matcher  # noqa: PLC0415
    from gpuwatch.adapters.tried_file import TriedFile  # noqa: PLC0415
    from gpuwatch.adapters.workloads import load_workloads  # noqa: PLC0415
    from gpuwatch.settings import journal_path  # noqa: PLC0415

    return Mender(
        hands_of(server),
        load_matcher(arguments.rules),
        load_workloads(),
        load_knowledge(),
        limits=Limits(
            getattr(arguments, "tries", 1), getattr(arguments, "min_size", None), getattr(arguments, "gpu_memory", None)
        ),
        memory=TriedFile.own(),
        learned=partial(read_learned, journal_path(getattr(arguments, "journal", None))),
        keep=keep,
    )
