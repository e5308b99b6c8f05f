"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import argparse
import ipaddress
import re
from pathlib import Path

from gpuwatch.texts import render, text
from gpuwatch.texts import translate as _

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_SECONDS = 30 * 86400
_BINARY = {"": 1, "b": 1, "bytes": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_DECIMAL = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def size(words: str) -> int:
    """Read a size: `8GiB`, `512MiB`, `1.5GB` (10^9), or bytes. Raises what argparse reports."""
    found = _SIZE.fullmatch(words.strip())
    factor = (_BINARY | _DECIMAL).get(found[2].lower()) if found else None
    count = round(float(found[1]) * factor) if found and factor else 0
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


def address(words: str) -> tuple[str, int]:
    """Read HOST:PORT. Raises what argparse reports."""
    host, colon, port = words.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(render(text("{words} is no address; write 127.0.0.1:9877", words=words)))
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=_("print JSON, one object a line"))


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
