r"""Bytes of a log -> records that rules can match.

A record is what stands between two line ends, `\n` or `\r`, without escape codes, level tags, stamps and container prefixes.
Frames of progress bars are no records, but for those that show NaN; what a program printed onto an open bar is one. Cutting
the input anywhere gives the same records. Nothing is decoded here: rules match bytes, and a person's text is decoded where it
is shown.

The formats are those of ComfyUI 0.3 to 0.38, Python logging, loguru, docker and its json files, Kubernetes, journald, dmesg,
SwarmUI, pm2, ray, torchrun and tqdm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from gpuwatch.core.wrapping import clean, unpacked

Level = Literal["debug", "info", "warning", "error", "critical"]

LONGEST_RECORD_BYTES = 64 * 1024

_BAR = re.compile(
    rb"^[^|]{0,160}?(?<!\d)\d{1,3}%\|[^|]{0,400}\|\s*[\d.,?]+\s?[kKMGTi]*B?\s*/\s*[\d.,?]+\s?[kKMGTi]*B?\s*"
    rb"\[[^\[\]]{0,120}\]?(?:, [^\x1b]{0,40}?(?=\x1b|$))?"
)
_BARS = re.compile(
    rb"(?:(?P<frame>[^|%\[\r\n\x1b]{0,160}?(?<!\d)\d{1,3}%\|[^|\r\n\x1b]{0,400}\|\s?[\d.,]+[kKMGTi]*B?/[\d.,]+[kKMGTi]*B? "
    rb"\[[^\[\]\r\n\x1b]{0,120}\])\r(?=[^\n]))+"
)
"""Frames of a bar as tqdm draws them, each wiped by the next: what most of a log is, passed over in one go."""
_NAN = re.compile(rb"[=:] ?nan\b")
"""What a training's bar alone may tell: its loss is no number any more. Such a frame is a record."""
_LEVELS: dict[bytes, Level] = {
    b"D": "debug",
    b"T": "debug",
    b"I": "info",
    b"S": "info",
    b"W": "warning",
    b"E": "error",
    b"C": "critical",
    b"F": "critical",
}
_LEVEL = rb"(?P<%s>TRACE|DEBUG|INFO|SUCCESS|WARN(?:ING)?|ERROR|CRITICAL|FATAL)"
_DATE = rb"\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_MINUTE = rb"\d{4}-\d\d-\d\d \d\d:\d\d"
"""What ComfyUI-Manager 1 and 2 put before each line of comfyui.log."""
_DATE_WITH_ZONE = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"
_CTIME = rb"(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} [ \d]\d (?:\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?: \d{4})?"
_PROGRAM = rb"(?:kernel|[\w./@-]{1,64}\[\d+\])"
"""Who wrote to the journal. Without a process id only the kernel is surely one: `CUDA error:` is a message."""
_DIGITS, _CAPITALS = b"0123456789", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WORD = _DIGITS + _CAPITALS + _CAPITALS.lower() + b"_.-"
_ALTERNATIVES: tuple[tuple[bytes, bytes], ...] = (
    (b">", rb"> ?"),  # quoted in an issue or a chat
    (b"[", rb"\[\d{1,3}(?:;\d{1,3})*m ?"),  # colours whose escape byte was lost where the log was pasted
    (b"[", rb"\[(?:Bug|BUG|Issue|Bug Report)\]:? "),  # an issue's title
    (b"\xe2\xf0", rb"(?:\xe2[\x9a-\x9e][\x80-\xbf](?:\xef\xb8\x8f)?|\xf0\x9f[\x80-\xbf]{2}) ?"),  # emoji that mark a level
    (_DIGITS, rb"(?P<kube>" + _DATE + rb") std(?:out|err) [FP] "),
    (b"[", rb"\[pod/[\w./-]{1,200}\] "),  # kubectl logs --prefix
    (_WORD, rb"(?:\d{1,4}\|)?[\w.-]{1,80} {1,40}\| "),  # docker compose, pm2
    (b"C", rb"ComfyUI(?:[ -]\d+)?(?: on port \d{1,5})? (?:error|warning|info|debug|stdout|stderr): "),  # SwarmUI
    (b"[", rb"\[ComfyUI-\d{1,4}/STD(?:OUT|ERR)\] ?"),
    (b"[", rb"\[(?:Init|Verbose|Debug|Info|Warning|Error)\] "),
    (b"[Ss", rb"\[?(?:STDOUT|STDERR|stdout|stderr)\]?: "),
    (b"(", rb"\([\w:]{1,60} pid=\d{1,10}(?:, ip=[\d.]{7,15})?\) "),  # ray
    (b"[", rb"\[(?:default|rank|local_rank)?\d{1,4}\]: ?"),  # torchrun
    (_CAPITALS, rb"(?P<syslog>" + _CTIME + rb") \w[\w.-]{0,64} [\w./@-]{1,64}(?:\[\d+\])?: "),
    (_CAPITALS, rb"(?P<journal>" + _CTIME + rb") " + _PROGRAM + rb": "),
    (_DIGITS, rb"(?P<journald>" + _DATE_WITH_ZONE + rb") (?:\w[\w.-]{0,64} )?" + _PROGRAM + rb": "),
    (b"[", rb"\[ *(?P<dmesg>\d{1,8}\.\d{6}|" + _CTIME + rb")\] "),
    (b"[", rb"\[(?P<bracket>" + _DATE + rb"|" + _MINUTE + rb"|\d\d:\d\d:\d\d(?:[.,]\d{1,6})?)\] ?"),
    (_DIGITS, rb"(?P<loguru>" + _DATE + rb") \| " + _LEVEL % b"l5" + rb" *\| (?:[\w.<>-]{1,120}:[\w.<>-]{1,120}:\d{1,6} - )?"),
    (_DIGITS, rb"(?P<plain>" + _DATE + rb")(?: - (?:[\w.-]{1,80} - )?(?:" + _LEVEL % b"l1" + rb" - )?"
              rb"| +\[?" + _LEVEL % b"l6" + rb"\]? +|: | )"),
    (_DIGITS, rb"(?P<clock>\d\d:\d\d:\d\d(?:[-.,]\d{3,6})?)(?: - | +(?:" + _LEVEL % b"l2" + rb" +)?)"),
    (b"[", rb"\[" + _LEVEL % b"l3" + rb"\] ?"),
    (b":", rb"::\[[\w. -]{1,60}\]::" + _LEVEL % b"l7" + rb" --> "),  # InvokeAI
    (b"<TDISWECF", rb"(?:<\d>)?" + _LEVEL % b"l4" +
     rb"(?: +- |: |:(?:root|__main__|asyncio|py\.warnings|comfy\w{0,30}|[a-z_]\w{0,30}\.[\w.]{1,80}):)"),
)  # fmt: skip
"""What may stand before a line's own words, each with the bytes that it can begin with; the first that fits is taken off."""
_STAMPS = ("kube", "syslog", "journal", "journald", "dmesg", "bracket", "loguru", "plain", "clock")
_WORDS = ("l1", "l2", "l3", "l4", "l5", "l6", "l7")
_MOST_PREFIXES = 8
_LINE_END = re.compile(rb"\r\n|\n|\r+(?=\r)|\r")
"""Of returns in a row all but the last at once: between them stands nothing."""


@dataclass(slots=True)  # not frozen: that would take longer than all else that is done for most lines
class LogRecord:
    """One line of a log as rules see it. Nobody changes it."""

    line: int
    """1-based: the number of newlines before it, plus one."""
    text: bytes
    """Clean of escape codes and prefixes, at most LONGEST_RECORD_BYTES."""
    raw: bytes = field(compare=False)
    """As it was printed, escape codes and all; for the screen, which shows them and never obeys."""
    level: Level | None = None
    stamp: bytes | None = None
    """The time it was printed with, as it was printed."""
    long: bool = False
    """True where the line was longer than a record may be and its rest was dropped."""


@dataclass(slots=True)
class Cutter:
    """Cuts one log into records. Holds at most one half line, at most LONGEST_RECORD_BYTES of it."""

    line: int = 1
    bar: bytes = b""
    """The last frame of a progress bar: what a screen may show as its one live line."""
    _half: bytearray = field(default_factory=bytearray)
    _long: bool = False

    def feed(self, data: bytes) -> Iterator[LogRecord]:
        """Take the next bytes and give the records that they complete."""
        start = 0
        if self._half.endswith(b"\r"):  # the line end itself may have been cut in two
            data = b"\r" + data
            del self._half[-1:]
        while (end := _LINE_END.search(data, start)) is not None:
            if (
                not end[0].endswith(b"\n")
                and not self._half
                and (frames := _BARS.match(data, start)) is not None
                and data.find(b"nan", start, frames.end()) < 0
            ):
                self.bar = frames["frame"]
                start = frames.end()
                continue
            if end[0] == b"\r" and end.end() == len(data):
                break
            self._keep(data[start : end.start()])
            if (record := self._take_record(newline=end[0].endswith(b"\n"))) is not None:
                yield record
            start = end.end()
        self._keep(data[start:])

    def feed_line(self, line: bytes) -> Iterable[LogRecord]:
        """Take one whole line, its line end included, where no half line is held; the same as `feed`, in less time."""
        if b"\r" in line or len(line) > LONGEST_RECORD_BYTES:
            return self.feed(line)
        record = self._record(line[:-1], newline=True, long=False)
        return () if record is None else (record,)

    def flush(self) -> Iterator[LogRecord]:
        """Give the half line as a record: the log ended, or its program has been silent for a while."""
        if self._half.endswith(b"\r"):
            del self._half[-1:]
        if self._half and (record := self._take_record(newline=False)) is not None:
            yield record

    def take_half(self) -> bytes | None:
        """Give the half line back, whole, and forget it; None where it was too long to be kept whole."""
        if self._long:
            return None
        half = bytes(self._half)
        self._half.clear()
        return half

    def skip(self, lines: int) -> None:
        """Count lines that are left out unread; only between two lines."""
        self.line += lines

    def restart(self) -> None:
        """Forget everything: the log begins anew."""
        self.line = 1
        self.bar = b""
        self._half.clear()
        self._long = False

    @property
    def waiting(self) -> bool:
        """Whether a half line is held that `flush` would give."""
        return bool(self._half)

    @property
    def draws_bar(self) -> bool:
        """Whether that half line is a bar's newest frame: the next wipes it, and nothing waits for it."""
        return b"%|" in self._half

    def _keep(self, piece: bytes) -> None:
        room = LONGEST_RECORD_BYTES + 1 - len(self._half)
        if len(piece) > room:
            # A trailing \r must survive the cut: it may be one half of a line end.
            tail = b"\r" if piece.endswith(b"\r") else b""
            piece = piece[: max(room, 0)] + tail
            self._long = True
        self._half += piece

    def _take_record(self, *, newline: bool) -> LogRecord | None:
        """What the half line is, now that it is whole; None where it is a bar's frame or nothing."""
        raw, long = bytes(self._half[:LONGEST_RECORD_BYTES]), self._long
        self._half.clear()
        self._long = False
        return self._record(raw, newline=newline, long=long)

    def _record(self, raw: bytes, *, newline: bool, long: bool) -> LogRecord | None:
        line = self.line
        if newline:
            self.line += 1
        text = clean(unpacked(raw))
        if b"%|" in text and (frame := _BAR.match(text)) is not None:
            self.bar = frame[0]
            printed = text[frame.end() :]
            if printed.strip():
                text = printed
            elif not _NAN.search(frame[0]):
                return None
        elif not newline and not text.strip():
            return None
        text, level, stamp = unprefixed(text)
        return LogRecord(line, text, raw, level, stamp, long)


@lru_cache(maxsize=256)
def _prefix(first: int) -> re.Pattern[bytes] | None:
    """What may stand before a line's own words and begins with this byte; compiled when a line first begins so."""
    patterns = [pattern for firsts, pattern in _ALTERNATIVES if first in firsts]
    return re.compile(b"|".join(b"(?:%s)" % pattern for pattern in patterns)) if patterns else None


def plain_text(line: bytes) -> bytes:
    """What a whole line says that holds no carriage return, no escape sequence and no bar: its record's text."""
    text = line[:LONGEST_RECORD_BYTES]
    for _ in range(_MOST_PREFIXES):
        pattern = _prefix(text[0]) if text else None
        prefix = pattern.match(text) if pattern else None
        if prefix is None:
            break
        text = text[prefix.end() :]
    return text


def unprefixed(text: bytes) -> tuple[bytes, Level | None, bytes | None]:
    """Take stamps, level tags and the prefixes of containers off the front: (rest, level, stamp)."""
    level: Level | None = None
    stamp: bytes | None = None
    for _ in range(_MOST_PREFIXES):
        pattern = _prefix(text[0]) if text else None
        prefix = pattern.match(text) if pattern else None
        if prefix is None:
            break
        groups = prefix.groupdict()
        word = next((groups[name] for name in _WORDS if groups.get(name)), None)
        if word is not None and level is None:
            level = _LEVELS[word[:1]]
        if stamp is None:
            stamp = next((groups[name] for name in _STAMPS if groups.get(name)), None)
        text = text[prefix.end() :]
    return text, level, stamp
