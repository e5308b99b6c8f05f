"""The shape of what ComfyUI and Python print around a failure: which line begins it, which lines are its traceback, which end it.

A failure in a ComfyUI log is a block: `!!! Exception during processing !!!` with the message, a traceback whose last line says
the message again, perhaps a memory table, and `Prompt executed in`. Other programs print the traceback alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from itertools import pairwise

from gpuwatch.core.incidents import Frame
from gpuwatch.core.records import LogRecord

_LONGEST_TRACEBACK = 400
_QUIET_AFTER_LINES = 8
_MOST_FRAMES = 64
_REPORT_HEAD_LINES = 3
_EVENT_SPREAD_RECORDS = 24
"""How far above an event's message its node may stand: what ran before stands between them."""
_REPORT_SPREAD_LINES = 10
"""How far a report may stand from the message that was pasted above it, and its node from its heading."""


class LineKind(Enum):
    """What a record is to the shape of a log."""

    HEAD = auto()
    """The first line of a failure as ComfyUI logs it."""
    TRACEBACK = auto()
    CHAIN = auto()
    """Python's sentence between two tracebacks of one failure."""
    REPORT = auto()
    """The first line of ComfyUI's error report, as people paste it."""
    PROMPT = auto()
    DONE = auto()
    """A prompt ended, well or not."""
    INTERRUPTED = auto()
    STARTED = auto()
    STOPPED = auto()
    OTHER = auto()


_KINDS: tuple[tuple[LineKind, bytes], ...] = (
    (LineKind.HEAD, rb"!!! Exception during processing ?!!!|^\W{0,8}Error occurred when executing "),
    (LineKind.TRACEBACK, rb"Traceback \(most recent call last\):"),
    (LineKind.CHAIN, rb"^(?:During handling of the above exception|The above exception was the direct cause)"),
    (
        LineKind.REPORT,
        rb"^\s*(?:#+ )?(?:ComfyUI Error Report|Error Details)\s*$|^\s*(?:- )?(?:\*\*)?Node ID:|^\s*(?:- )?(?:\*\*)?Node Type:",
    ),
    (LineKind.PROMPT, rb"got prompt$"),
    (LineKind.DONE, rb"Prompt executed in \d"),
    (LineKind.INTERRUPTED, rb"^Processing interrupted"),
    (LineKind.STARTED, rb"^Total VRAM \d+ MB, total RAM \d+ MB"),
    (LineKind.STOPPED, rb"^Stopped server"),
)


_BEGINNINGS = {LineKind.HEAD, LineKind.TRACEBACK, LineKind.REPORT, LineKind.INTERRUPTED}


def marks_of_beginnings() -> frozenset[bytes]:
    """Literals, one of which stands in every record that may begin a failure or says that one was asked for."""
    from gpuwatch.core.matching.literals import required_literals  # noqa: PLC0415 - the rules' cache saves what follows

    return frozenset().union(
        *(required_literals(part) for kind, pattern in _KINDS if kind in _BEGINNINGS for part in pattern.split(b"|^"))
    )


RESTART = (b"Total VRAM ", rb"(?:^|[\n\r\])|>:\-0-9A-Za-z\x80-\xbf] {0,40})Total VRAM [0-9]{1,20} MB, total RAM")
"""A literal and a pattern over lines with their prefixes, for the record that says that the server began."""
ENDS = (b"Prompt executed in ", b"got prompt", b"Stopped server")
"""One stands in every record that says that a prompt began or ended, or that the server ended."""
END_MARKS = re.compile(b"|".join(ENDS))
CHAINED = b"above exception"
"""Stands in every record that chains two tracebacks."""


_MARKS = (
    b"!!! Exception", b"Error occurred when executing ", b"Traceback (most", b"the above exception", b"The above exception",
    b"ComfyUI Error Report", b"Error Details", b"Node ID:", b"Node Type:",
    b"got prompt", b"Prompt executed in ", b"Processing interrupted", b"Total VRAM ",
    b"Stopped server",
)  # fmt: skip
"""One of them stands in every line that has a kind: to look for them in turn is quicker than the pattern."""
_KIND = re.compile(b"|".join(b"(%s)" % pattern for _, pattern in _KINDS))
_FRAME = re.compile(rb'^\s*File "(?P<file>[^"\r\n]{1,1000})", line (?P<line>\d{1,9})(?:, in (?P<function>.{1,200}))?')
_EXCEPTION = re.compile(rb"^[A-Za-z_][\w.]{0,200}(?:: |:$|$)")
_REPORT_NODE = re.compile(
    rb"(?:^|[\s*-])Node (?P<what>ID|Type):(?:\*\*)? (?P<value>[^\s*].{0,200}?)"
    rb"(?=\s*$|\\+[nr]|\s+(?:- )?(?:\*\*)?(?:Node|Exception) (?:ID|Type|Message):)"
)
"""In a report's own line, or where a report was pasted as one line, its line ends lost or written out."""
_EVENT_NODE = re.compile(
    rb"""(?:^|[{,])\s*\\?["']node_(?P<what>id|type)\\?["']: ?\\?["'](?P<value>[^"'\\\r\n]{1,200})"""
)
"""In the server's own event, as people paste it: on one line, or one key a line."""
_EVENT_MESSAGE = b"exception_"
"""Begins the event's keys that tell the failure; the node's stand before or after them."""
_DIALOG_NODE = re.compile(
    rb"\W{0,4}(?P<value>(?=\w{0,60}[a-z])(?!\w{0,80}(?:Error|Exception|Warning|Interrupt)\b)"
    rb"[A-Z]\w{0,60}[A-Z]\w{0,60}(?: \([\w .-]{1,40}\))?)\W{0,4}\Z"
)
"""The server's dialog, as people paste it: the node's type alone on a line, then what it failed of."""
_PANEL_RECORDS = 4
_PANEL_NUMBER = re.compile(rb"#(\d[\d:]{0,40})\s*\Z")
"""The panel of newer front ends, as people paste it: below the type its number, its title, and a button that enters a subgraph."""
_NO_NODES = {
    b"ComfyUI",
    b"PyTorch",
    b"PowerShell",
    b"GitHub",
    b"SwarmUI",
    b"StableSwarmUI",
    b"StabilityMatrix",
    b"RunPod",
}
"""Names that stand alone on a line and look like a node's type."""
_NODE_IN_HEAD = re.compile(rb"^\W{0,8}Error occurred when executing (?P<value>(?:Layer\w{1,20}: )?[^:\r\n]{1,200}):")
"""The node types of LayerStyle have a colon of their own."""
_NODE_IN_TITLE = re.compile(
    rb"\W{0,4}(?!Data|\w{0,80}(?:Error|Exception|Warning|Interrupt)\b)"
    rb"(?P<value>[A-Z]\w{0,60}?(?:Loader|Sampler|Decode|Encode|IPAdapter|Advanced|Apply|Segment|Detailer|Upscale|Node)"
    rb"\w{0,30})(?::| -)? \S"
)
"""The dialog as a report's title: the type and what it failed of on one line. Any name in front of a message would do for that, so
only what nodes are called is taken."""
_NODE_MARKS = (b"Node ", b"node_", b"Error occurred")
"""One stands in every line that names the node which failed."""
_PACK = re.compile(r"[/\\]custom_nodes[/\\]([^/\\]+)[/\\]")


def node_in_title(text: bytes) -> str | None:
    """The node that a failure's own line begins with, where it reads like a report's title."""
    found = _NODE_IN_TITLE.match(text)
    return found["value"].decode("utf-8", "replace") if found else None


def kind_of(text: bytes) -> LineKind:
    """What this line is to the shape of the log."""
    for mark in _MARKS:
        if mark in text:
            break
    else:
        return LineKind.OTHER
    found = _KIND.search(text)
    return _KINDS[found.lastindex - 1][0] if found and found.lastindex else LineKind.OTHER


class Phase(Enum):
    """How far a block has come."""

    MESSAGE = auto()
    TRACEBACK = auto()
    FINAL = auto()
    """On the traceback's last line, which says the message again."""
    AFTER = auto()


@dataclass(slots=True)
class Block:
    """One failure's stretch of a log while it is read."""

    first_line: int
    head: bool = False
    """Whether it began with a line that only begins failures, so that what follows is surely of the same one."""
    phase: Phase = Phase.MESSAGE
    last_line: int = 0
    chained: bool = False
    node_id: str | None = None
    node_type: str | None = None
    node_above: str | None = None
    """The node's type as it stood alone above the message; what the failure's own lines say goes before it."""
    traceback_records: int = 0
    _frames: list[bytes] = field(default_factory=list)
    """The records of the last frames."""

    def __post_init__(self) -> None:
        self.last_line = self.first_line

    def is_quiet(self, line: int) -> bool:
        """Whether so many lines told nothing of this failure that only a rule or a mark can bring it back."""
        return self.phase is not Phase.TRACEBACK and line - self.last_line > _QUIET_AFTER_LINES

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The last frames of its traceback, the innermost last."""
        return tuple(map(_frame, self._frames))

    @property
    def pack(self) -> str | None:
        """The custom_nodes folder that the traceback ran through last."""
        for record in reversed(self._frames):
            if b"custom_nodes" in record and (found := _PACK.search(_frame(record).file)):
                return found[1]
        return None

    def is_reported_by(self, text: bytes, line: int) -> bool:
        """Whether a line of a report is of this block's failure: a heading near its message, or a node not named yet."""
        if line - self.first_line <= _REPORT_HEAD_LINES:
            return True
        if line - self.first_line > _REPORT_SPREAD_LINES:
            return False
        if found := _REPORT_NODE.search(text):
            return (self.node_id if found["what"].upper() == b"ID" else self.node_type) is None
        return self.phase is Phase.MESSAGE and self.node_id is None and self.node_type is None

    def begins_traceback(self, line: int, nearness: int) -> bool:
        """Whether a traceback that starts at this line is this failure's."""
        if self.phase is Phase.MESSAGE:
            return line - self.last_line <= nearness
        return self.chained or self.phase is Phase.TRACEBACK

    def read_above(self, text: bytes, earlier: Callable[[int], list[LogRecord]]) -> None:
        """Take the node from what stands above the line that began the block, where nothing announced a failure."""
        if _EVENT_MESSAGE in text:
            for record in reversed(earlier(_EVENT_SPREAD_RECORDS)):
                if _EVENT_MESSAGE in record.text or (self.node_id and self.node_type):
                    break
                self._read_node(record.text, self.first_line)
        elif text[:1] not in b" \t":
            above = earlier(_PANEL_RECORDS)
            for record in above[-1:]:
                self._read_dialog(record)
            for record, number in pairwise(above):
                if (found := _PANEL_NUMBER.match(number.text)) and self._read_dialog(record):
                    self.node_id = self.node_id or found[1].decode()

    def _read_dialog(self, record: LogRecord) -> bool:
        """Take the node's type that stands alone on this line; False where none does."""
        dialog = _DIALOG_NODE.match(record.text) if record.stamp is None else None
        if dialog is None or dialog["value"] in _NO_NODES:
            return False
        self.node_above = dialog["value"].decode()
        return True

    def read(self, text: bytes, kind: LineKind, line: int) -> None:
        """Follow the block through one more record."""
        self._read_node(text, line)
        if kind is LineKind.TRACEBACK:
            self.phase, self.chained, self.traceback_records = Phase.TRACEBACK, False, 0
            self.last_line = line
        elif kind is LineKind.CHAIN:
            self.chained = True
            self.last_line = line
        elif self.phase is Phase.TRACEBACK or _FRAME.match(text):
            self._read_traceback(text, line)
        elif self.phase is Phase.FINAL and text.strip():
            self.phase = Phase.AFTER

    def lines_until_quiet(self, line: int) -> int:
        """How many lines from this one on are still near what told of this failure last; 0 within a traceback."""
        return 0 if self.phase is Phase.TRACEBACK else max(self.last_line + _QUIET_AFTER_LINES + 1 - line, 0)

    def read_plain(self, texts: Sequence[bytes], count: int, line: int) -> bool:
        """Follow the block through so many lines at once, indented ones in a traceback; False, and nothing done, where one of the
        texts that they hold may mean more."""
        joined = b"\n".join(texts)
        if any(mark in joined for mark in _NODE_MARKS):
            return False
        if self.phase is Phase.TRACEBACK:
            if self.traceback_records + count > _LONGEST_TRACEBACK:
                return False
            self.traceback_records += count
            self.last_line = line + count - 1
            self._frames += filter(_FRAME.match, texts)
            del self._frames[:-_MOST_FRAMES]
            return True
        if b'File "' in joined:
            return False
        if self.phase is Phase.FINAL and joined.strip():
            self.phase = Phase.AFTER
        return True

    def _read_traceback(self, text: bytes, line: int) -> None:
        self.traceback_records += 1
        self.last_line = line
        if _FRAME.match(text):
            self.phase = Phase.TRACEBACK
            self._frames.append(text)
            del self._frames[:-_MOST_FRAMES]
        elif text[:1] not in b" \t|+^~" and _EXCEPTION.match(text):
            self.phase = Phase.FINAL
        elif self.traceback_records > _LONGEST_TRACEBACK:
            self.phase = Phase.AFTER

    def _read_node(self, text: bytes, line: int) -> None:
        pattern = _REPORT_NODE if b"Node " in text else _EVENT_NODE if b"node_" in text else None
        for found in pattern.finditer(text) if pattern else ():
            value = found["value"].decode("utf-8", "replace").strip()
            if value == "N/A":
                continue
            if found["what"].upper() == b"ID":
                self.node_id = self.node_id or value
            else:
                self.node_type = self.node_type or value
            self.last_line = line
        if b"Error occurred" in text and (head := _NODE_IN_HEAD.match(text)):
            self.node_type = self.node_type or head["value"].decode("utf-8", "replace").strip()


@lru_cache(maxsize=1024)
def _frame(text: bytes) -> Frame:
    """The frame that a record shows; remembered, because tracebacks come again."""
    found = _FRAME.match(text)
    assert found is not None  # noqa: S101 - only such records are kept
    function = found["function"].decode("utf-8", "replace") if found["function"] else None
    return Frame(found["file"].decode("utf-8", "replace"), int(found["line"]), function)
