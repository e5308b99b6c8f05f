"""Show the screen in a browser.

Examples:
  gpuwatch web ComfyUI/user/comfyui.log            prints the address to open
  gpuwatch web http://127.0.0.1:8188 --open        a ComfyUI server; opens the browser too
  gpuwatch web comfyui.log --port 0                any free port
  gpuwatch web comfyui.log --page-token-file token --sessions 8
  gpuwatch web http://127.0.0.1:8188 --allow-actions    fix jobs, mute and export from the browser
  ssh -L 9878:127.0.0.1:9878 gpubox                then open the address here

The address carries a token; without it, or the cookie that it is traded for, nothing is answered. Every page that is open is
a screen of its own and ends with the page. It only shows, unless --allow-actions is given: nothing is written, queued or
muted. `gpuwatch serve` is what counts failures while nobody looks.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import os
import re
import socket
import stat
import sys
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gpuwatch.adapters.loopback import is_loopback
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.errors import UsageError, unreadable
from gpuwatch.faces.ending import ending_signals
from gpuwatch.faces.narration import in_words
from gpuwatch.faces.options import HIGHEST_PORT, add_gpu_memory, add_rules, add_sources, whole
from gpuwatch.faces.sourcing import found_source, headers_of, named_sources
from gpuwatch.faces.web.door import LEAST_TOKEN_LENGTH, MOST_TOKEN_LENGTH, Door, names_for, new_token
from gpuwatch.faces.web.screen import words_for
from gpuwatch.texts import current, text
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.faces.web.server import WebScreen

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 9878
_SESSIONS, _MOST_SESSIONS = 4, 64
_MOST_TOKEN_FILE_BYTES = 4096
_TOKEN = re.compile(rf"[A-Za-z0-9_.~-]{{{LEAST_TOKEN_LENGTH},{MOST_TOKEN_LENGTH}}}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_sources(parser, shared=True)
    parser.add_argument(
        "--port",
        type=whole(0, HIGHEST_PORT),
        default=DEFAULT_PORT,
        metavar="N",
        help=_("default: 9878; 0 takes any that is free"),
    )
    parser.add_argument(
        "--host",
        default=DEFAULT_HOST,
        metavar="ADDRESS",
        help=_("listen there (default: 127.0.0.1, this machine alone)"),
    )
    parser.add_argument("--open", action="store_true", help=_("open the browser"))
    parser.add_argument(
        "--page-token-file",
        type=Path,
        metavar="FILE",
        help=_("a file with the page's token (default: a new one each time)"),
    )
    parser.add_argument(
        "--sessions",
        type=whole(1, _MOST_SESSIONS),
        default=_SESSIONS,
        metavar="N",
        help=_("how many pages may be open (default: 4)"),
    )
    parser.add_argument(
        "--allow-actions",
        action="store_true",
        help=_("let whoever has the address fix jobs, mute and write files here"),
    )
    add_gpu_memory(parser)
    add_rules(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    try:
        from gpuwatch.faces.web.server import WebScreen, bound  # noqa: PLC0415 - an extra, and large
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("gpuwatch"):
            raise
        raise UsageError(
            text("{package} is not installed; the screen in a browser needs it.", package=error.name),
            text("Install it: pip install 'gpuwatch[web]'"),
        ) from error
    specs = checked_sources(arguments)
    load_matcher(arguments.rules, lives_long=True)  # refused here rather than in every page, and compiled for them
    token = page_token(arguments.page_token_file) if arguments.page_token_file is not None else new_token()
    asked = any(word.startswith("--lang") for word in sys.argv)
    names, any_address = names_for(arguments.host, socket.gethostname())
    screen = WebScreen(
        Door(token, names, any_address),
        words_for(arguments, specs, language=current() if asked else None),
        most=arguments.sessions,
    )
    with bound(arguments.host, arguments.port) as listener:
        return asyncio.run(serve(screen, listener, arguments))


async def serve(screen: WebScreen, listener: socket.socket, arguments: argparse.Namespace) -> int:
    """Say where, and serve."""
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        loop.add_signal_handler(number, screen.stop)
    address = address_of(arguments.host, listener.getsockname()[1], screen.door.token)
    if not is_loopback(arguments.host):
        told = text(
            "warning: {host} can be reached from other machines, and what goes there is not encrypted: the token can be read "
            "on the way. `ssh -L` brings the page elsewhere without that.",
            host=arguments.host,
        )
        in_words(told, event="unprotected", level="warning")
    in_words(text("Open this address; Ctrl-C ends it and every page:"), event="serving")
    print(address, flush=True)
    with pointing_file(address) as pointer:
        if arguments.open:
            await asyncio.to_thread(open_browser, pointer)
        await screen.serve(listener)
    return 0


def checked_sources(arguments: argparse.Namespace) -> list[str]:
    """What every page shows. Raises UsageError for what cannot be read, or not by several."""
    specs = list(arguments.sources)
    if "-" in specs or (not specs and is_piped()):
        raise UsageError(
            text("a pipe cannot be shared: every page reads its sources anew."),
            text("Give a file or an address: python main.py 2>&1 | tee comfyui.log, and gpuwatch web comfyui.log"),
        )
    command = next((spec for spec in specs if spec.startswith("cmd:")), None)
    if command is not None:
        raise UsageError(
            text("{spec}: every page would start it once more.", spec=command),
            text("Start it by itself, and give its log file or its address."),
        )
    specs = specs or [found_source()]
    named_sources(specs, from_start=arguments.from_start, show_history=True, headers=headers_of(arguments))
    return specs


def is_piped() -> bool:
    """Whether something is piped in: a service's empty input is nothing."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def page_token(path: Path) -> str:
    """The token that a file holds. Raises UsageError where it holds none that is hard to guess."""
    try:
        with path.open("rb") as file:
            words = file.read(_MOST_TOKEN_FILE_BYTES).decode("utf-8", "replace").strip()
    except OSError as error:
        raise unreadable(path, error) from error
    if not _TOKEN.fullmatch(words):
        raise UsageError(
            text(
                "{path}: holds no token: {least} to {most} letters, digits and _ . ~ - on one line.",
                path=str(path), least=LEAST_TOKEN_LENGTH, most=MOST_TOKEN_LENGTH,
            ),
            text("Make one: python3 -c 'import secrets; print(secrets.token_urlsafe())' > token"),
        )  # fmt: skip
    return words


def address_of(host: str, port_number: int, token: str) -> str:
    """What is to be opened."""
    shown = socket.gethostname() if host in {"0.0.0.0", "::"} else f"[{host}]" if ":" in host else host  # noqa: S104
    return f"http://{shown}:{port_number}/?token={token}"


@contextmanager
def pointing_file(address: str) -> Iterator[Path]:
    """A page on the disk, for nobody else to read, that leads to the address: a command line is everybody's to read."""
    with tempfile.TemporaryDirectory(prefix="gpuwatch-web-") as folder:
        path = Path(folder) / "open.html"
        path.touch(mode=0o600)
        path.write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(address)}"><title>gpuwatch</title>',
            "utf-8",
        )
        yield path


def open_browser(page: Path) -> None:
    """Open a page; where there is no browser with a window, say so."""
    has_window = sys.platform in {"darwin", "win32"} or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not has_window or not webbrowser.open(page.as_uri()):
        in_words(
            text("No browser could be opened here; open the address yourself."), event="no_browser", level="warning"
        )
