"""What a terminal, docker or a web page put around the lines that a program printed, taken off.

It may be asked of a whole stretch of log before its lines are cut out; what a single line begins with is for `records`.
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    rb"|[\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC up to their end
    rb"|[ -/]*[0-~])"  # two-byte escapes
)
NO_BREAK_SPACE = b"\xc2\xa0"
"""What spaces become where a log is copied out of a web page, a chat or a word processor."""
PACKED = b'{"log":"'
_PACKED_LINE = re.compile(
    rb'^\{"log":"(?:[^"\\\r\n]|\\.)*","stream":"std(?:out|err)"[^{}\r\n]{0,400}\}(?=\r?$)', re.MULTILINE
)
"""A line as docker's json-file driver keeps it."""


def is_dressed(raw: bytes) -> bool:
    """Whether `clean` would change anything."""
    # One byte is looked for far more quickly than two, and few logs hold this one.
    return b"\x1b" in raw or (NO_BREAK_SPACE[:1] in raw and NO_BREAK_SPACE in raw)


def clean(raw: bytes) -> bytes:
    """The bytes without escape sequences, their spaces as a program prints them."""
    if not is_dressed(raw):
        return raw
    return _ESCAPES.sub(b"", raw).replace(NO_BREAK_SPACE, b" ")


def unpacked(lines: bytes) -> bytes:
    """The lines that the program printed, where docker's json-file driver wrapped them; as many as before."""
    return _PACKED_LINE.sub(_printed, lines) if PACKED in lines else lines


def _printed(packed: re.Match[bytes]) -> bytes:
    import json  # noqa: PLC0415 - few logs are docker's own files

    try:
        line = str(json.loads(packed[0])["log"]).rstrip("\r\n")
    except ValueError:
        return packed[0]
    # Of what a bar's carriage returns wiped, the last is what a screen would show.
    return packed[0] if "\n" in line else line.rpartition("\r")[2].encode("utf-8", "replace")
