"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from gpuwatch.texts import render, text
from gpuwatch.texts import translate as _

LOG_FORMAT = "--log-format"
NOTIFY_FORMATS = ("auto", "json", "slack", "discord", "feishu", "dingtalk", "wecom")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])")
_PORT = re.compile(r"[0-9]{1,5}")
HIGHEST_PORT = 65535
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECONDS = 30 * 86400
_LARGEST_BYTES = 1 << 60
_BINARY = {"": 1, "b": 1, "bytes": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_DECIMAL = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def size(words: str) -> int:
    """Read a size: `8GiB`, `512MiB`, `1.5GB` (10^9), or bytes. Raises what argparse reports."""
    found = _SIZE.fullmatch(words.strip())
    factor = (_BINARY | _DECIMAL).get(found[2].lower()) if found else None
    number = float(found[1]) * factor if found and factor else 0.0
    count = round(number) if number < _LARGEST_BYTES else 0
    if count <= 0:
        raise argparse.ArgumentTypeError(
            render(text("{words} is no size; write 8GiB, 512MiB, 1.5GB or a number of bytes", words=words))
        )
    return count


def duration(words: str) -> float:
    """Read a time: `30s`, `10m`, `1.5h`; in seconds. Raises what argparse reports."""
    found = _DURATION.fullmatch(words.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(
            render(text("{words} is no length of time; write 30s, 10m or 2h", words=words))
        )
    return seconds


def whole(least: int, most: int) -> Callable[[str], int]:
    """How to read a whole number within bounds. What it gives raises what argparse reports."""

    def read(words: str) -> int:
        number = int(words) if words.isascii() and words.isdecimal() and len(words) <= len(str(most)) else -1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                render(text("write a number from {least} to {most}, not {words}", least=least, most=most, words=words))
            )
        return number

    return read


def address(words: str) -> tuple[str, int]:
    """Read HOST:PORT. Raises what argparse reports."""
    host, colon, port = words.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > HIGHEST_PORT:
        raise argparse.ArgumentTypeError(render(text("{words} is no address; write 127.0.0.1:9877", words=words)))
    return host.strip("[]") or "127.0.0.1", int(port)


def add_sources(parser: argparse.ArgumentParser, *, shared: bool = False) -> None:
    """The sources and how to begin with them; `shared`: several screens read them, each by itself."""
    told = (
        _("a log file to follow, http://HOST:PORT for a ComfyUI server, kernel, journal:UNIT, docker:NAME")
        if shared
        else _(
            "a log file to follow, http://HOST:PORT for a ComfyUI server, - for standard input, cmd:COMMAND for a child "
            "process, kernel, journal:UNIT, docker:NAME"
        )
    )
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help=told)
    parser.add_argument("--from-start", action="store_true", help=_("count what is in the file already"))
    parser.add_argument(
        "--header-file",
        metavar="FILE",
        help=_("headers to send to servers, one `Name: value` a line, as a proxy wants them"),
    )
    parser.add_argument("--token-file", metavar="FILE", help=_("a token to send to servers: Authorization: Bearer"))


def add_journal(parser: argparse.ArgumentParser) -> None:
    """Whether and where it is kept what happened."""
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help=_("where incidents are kept (default: in your state folder)")
    )
    parser.add_argument("--no-journal", action="store_true", help=_("keep nothing"))


def add_watching(parser: argparse.ArgumentParser, listen: str) -> None:
    """What the verbs that watch sources have in common; `listen` says what is served where."""
    add_sources(parser)
    add_journal(parser)
    parser.add_argument("--listen", type=address, metavar="HOST:PORT", help=listen)
    add_notify(parser)
    add_json(parser)
    add_log_format(parser)
    add_gpu_memory(parser)
    add_rules(parser)


def add_notify(parser: argparse.ArgumentParser) -> None:
    """Who is told of failures."""
    parser.add_argument(
        "--notify",
        action="append",
        default=[],
        metavar="URL",
        help=_(
            "post failures, their ends and what became of fixes there; @FILE for a file that holds the address; repeatable"
        ),
    )
    parser.add_argument(
        "--notify-severity",
        choices=("info", "warning", "error", "critical"),
        default="error",
        help=_("tell of failures from here on (default: error)"),
    )
    add_notify_form(parser, "--notify-")


def add_notify_form(parser: argparse.ArgumentParser, prefix: str) -> None:
    """How notices look, and how they are signed."""
    parser.add_argument(
        f"{prefix}format",
        dest="notify_format",
        choices=NOTIFY_FORMATS,
        default="auto",
        help=_("how notices look (default: auto, by the address: a chat's own message, else json)"),
    )
    parser.add_argument(
        f"{prefix}secret-file",
        dest="notify_secret_file",
        type=Path,
        metavar="FILE",
        help=_("sign notices with the secret in this file (or in $GPUWATCH_NOTIFY_SECRET)"),
    )


def add_bell(parser: argparse.ArgumentParser) -> None:
    """Whether the terminal is to be heard."""
    parser.add_argument(
        "--bell",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=_("ring the terminal's bell for a failure (default: yes)"),
    )
    parser.add_argument(
        "--desktop",
        action="store_true",
        help=_(
            "have the terminal show a desktop notification, too (OSC 9; iTerm2, WezTerm, kitty, Ghostty, Windows Terminal)"
        ),
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=_("print JSON, one object a line"))


def add_log_format(parser: argparse.ArgumentParser) -> None:
    """`--log-format`."""
    parser.add_argument(
        LOG_FORMAT,
        choices=("text", "json"),
        default="text",
        help=_("lines for a person, or JSON with the same keys on every one (default: text)"),
    )


def add_rules(parser: argparse.ArgumentParser) -> None:
    """`--rules DIR`."""
    parser.add_argument(
        "--rules", type=Path, metavar="DIR", help=_("a folder of your own rules, laid over the shipped ones")
    )


def add_gpu_memory(parser: argparse.ArgumentParser) -> None:
    """`--gpu-memory SIZE`."""
    parser.add_argument(
        "--gpu-memory",
        type=size,
        metavar="SIZE",
        help=_("the card's memory, where the log does not tell it: 8GiB, 12GiB"),
    )
