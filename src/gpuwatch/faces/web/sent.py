"""What is sent: the page and its words, the files beside it, and what every answer carries.

All of it is read at the start and known by name: no path of a request is ever one on the disk.
"""

from __future__ import annotations

import html
import importlib.util
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from aiohttp import web

from gpuwatch.errors import UsageError, unreadable
from gpuwatch.texts import current, render, text
from gpuwatch.texts import translate as _

_OWN_FILES = {"page.css": "text/css", "page.js": "text/javascript"}
_FRONT_END_FILES = {
    "textual.js": ("js/textual.js", "text/javascript"),
    "xterm.css": ("css/xterm.css", "text/css"),
    "upright.ttf": ("fonts/RobotoMono-VariableFont_wght.ttf", "font/ttf"),
    "italic.ttf": ("fonts/RobotoMono-Italic-VariableFont_wght.ttf", "font/ttf"),
}


@dataclass(frozen=True, slots=True)
class Served:
    """A file as it is sent."""

    content: bytes
    content_type: str


def headers_for(host: str | None) -> dict[str, str]:
    """What every answer carries: nothing is kept, nothing is loaded from elsewhere, no frame holds it, no window is opened."""
    sockets = f" ws://{host}" if host is not None else ""
    policy = (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # xterm.js writes its colours as a style sheet
        "img-src 'self' data:",
        f"connect-src 'self'{sockets}",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox allow-scripts allow-same-origin",  # a click on an address in the log opens nothing
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), clipboard-read=(), display-capture=(), geolocation=(), microphone=(), usb=()",
        "Server": "gpuwatch",
    }


def plain_answer(status: int, words: str) -> web.Response:
    """An answer for who is no browser's user."""
    return web.Response(status=status, text=f"{words}\n")


AGAIN = (
    '<!doctype html><meta http-equiv="refresh" content="0;url=/"><link rel="icon" href="data:,"><title>gpuwatch</title>'
)


def refused_page() -> str:
    """What stands in the browser of whom this is not for."""
    words = _("Open the address that `gpuwatch web` printed when it was started: it has the token that lets you in.")
    return filled("refused.html", words=words)


def page(most: int) -> str:
    """The page."""
    return filled(
        "page.html",
        starting=_("Starting …"),
        ended=_("This screen has ended."),
        lost=_("The connection is lost. Trying again …"),
        stopped=_("gpuwatch web was stopped. Trying again …"),
        full=render(
            text("As many pages are open as may be ({most}). Close one, or allow more with --sessions.", most=most)
        ),
        failed=_("The screen could not be started; the terminal of `gpuwatch web` says why."),
        changed=_("gpuwatch web was started anew: open the address that it printed."),
        again=_("Show it again"),
        script=_("The screen needs JavaScript."),
    )


def filled(name: str, **words: str) -> str:
    """A page of ours with its words filled in, in the language in use."""
    known = {key: html.escape(value) for key, value in words.items()}
    return Template((page_folder() / name).read_text("utf-8")).substitute(known, language=current())


def page_folder() -> Path:
    """Where our own files of the page are."""
    return Path(str(files("gpuwatch.faces.web") / "page"))


def served_files() -> dict[str, Served]:
    """Every file that is served beside the page, by its name. Raises UsageError where the front end is not there."""
    served = {name: Served((page_folder() / name).read_bytes(), kind) for name, kind in _OWN_FILES.items()}
    found = importlib.util.find_spec("textual_serve")
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            text("the front end is missing: textual-serve is not installed."),
            text("Install it: pip install 'gpuwatch[web]'"),
        )
    folder = Path(found.submodule_search_locations[0]) / "static"
    try:
        served |= {name: Served((folder / path).read_bytes(), kind) for name, (path, kind) in _FRONT_END_FILES.items()}
    except OSError as error:
        raise unreadable(
            error.filename, error, text("Install it again: pip install --force-reinstall textual-serve")
        ) from error
    return served
