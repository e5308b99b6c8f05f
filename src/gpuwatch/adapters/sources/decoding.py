r"""Bytes of a log, in the encoding it was written in -> the same log in UTF-8, which is what rules match.

PowerShell's `>` writes UTF-16, Notepad puts a mark before UTF-8, and a Chinese Windows prints GB18030 (cp936). What is none of
these passes untouched, broken bytes and all. What decides is a prefix of the log, never how it was cut into reads; until
something decides, ASCII passes at once and only what follows the first other byte of a line is held, 4 KiB at most.

Left out: a log that changes into UTF-16 in its middle, and UTF-16 without a mark whose first character is not ASCII.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import Enum, auto

from gpuwatch.errors import GpuwatchError

LOOKED_AT_BYTES = 4096

_UTF8 = "utf-8"
_GB18030 = "gb18030"
_UTF16 = ("utf-16-le", "utf-16-be")
_MARKS = {codecs.BOM_UTF8: _UTF8, codecs.BOM_UTF16_LE: _UTF16[0], codecs.BOM_UTF16_BE: _UTF16[1]}
_ASCII_TEXT = frozenset(b"\a\b\t\n\f\r\x1b") | frozenset(range(0x20, 0x7F))
_NO_TEXT = frozenset({"Cc", "Cn", "Co", "Cs"})

_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_LINE_END = re.compile(rb"[\r\n]")
_LONG_UTF8 = re.compile(rb"[\xe0-\xf4][\x80-\xbf]{2,3}")
_GB_TOKEN = re.compile(
    rb"[\x00-\x7f]+"
    rb"|(?P<common>[\xb0-\xd7][\xa1-\xfe])"  # the 3755 hanzi in everyday use
    rb"|(?P<rare>[\xd8-\xf7][\xa1-\xfe])"
    rb"|[\xa1-\xa9][\xa1-\xfe]"  # punctuation and full-width letters
    rb"|[\x81-\xfe][0-9][\x81-\xfe][0-9]"
)
_CUT_GB_TOKEN = re.compile(rb"[\x81-\xfe](?:[0-9][\x81-\xfe]?)?\Z")
_ENOUGH_HANZI = 3
_MOST_ODD_LINES = 64
"""So many lines that prove nothing, and the log is taken as it is."""


class _Verdict(Enum):
    """What the part of a line that is not ASCII tells."""

    UTF8 = auto()
    GB18030 = auto()
    NOTHING = auto()
    MORE_NEEDED = auto()


class Decoder:
    """One log's way to UTF-8. Feeding it loses nothing and waits for nothing but what decides the encoding."""

    def __init__(self) -> None:
        self._transcoder: codecs.IncrementalDecoder | None = None
        self._settled = False
        """True once all that is to come passes untouched."""
        self._begun = False
        self._held = b""
        self._given = 0
        """Of what is held at the begin: the bytes that were given already."""
        self._passing = False
        """True within a line that proved nothing."""
        self._hanzi: set[bytes] = set()
        self._odd_lines = 0

    @classmethod
    def midway(cls, begin: bytes) -> Decoder:
        """One that goes on somewhere in a log that begins like this, on a border of `unit_bytes`."""
        decoder = cls()
        decoder.feed(begin)
        if decoder._transcoder is not None:
            decoder._transcoder.reset()
        elif decoder._begun:
            decoder._held, decoder._passing = b"", False
        return decoder

    @property
    def unit_bytes(self) -> int:
        """Where this log's characters may begin: at multiples of so many bytes."""
        return 2 if self._transcoder is not None and not self._begun else 1

    @property
    def transparent(self) -> bool:
        """Whether every byte that was taken was given as it was."""
        return self._transcoder is None and not self._held

    @property
    def settled(self) -> bool:
        """Whether all that is to come passes as it is."""
        return self._settled

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes and give what is certain of them."""
        return self._take(data, final=False)

    def flush(self) -> bytes:
        """Give what is held: the log ended."""
        return self._take(b"", final=True)

    def _take(self, data: bytes, *, final: bool) -> bytes:
        if self._transcoder is not None:
            return self._transcoder.decode(data, final).encode()
        if self._settled:
            return data
        if not self._begun:
            return self._begin(data, final=final)
        if not self._held and not self._passing and data.isascii():
            return data
        return self._lines(data, final=final)

    def _begin(self, data: bytes, *, final: bool) -> bytes:
        self._held += data
        encoding = _encoding_at_begin(self._held)
        if encoding is None and not final:
            if len(self._held) == 1 and not self._given and self._held[0] in _ASCII_TEXT:
                self._given = 1
                return self._held
            return b""
        begin, given = self._held, self._given
        self._held, self._given = b"", 0
        if not encoding:
            self._begun = True
            return self._take(begin[given:], final=final)
        begin = begin.removeprefix(next((mark for mark in _MARKS if begin.startswith(mark)), b""))
        if encoding == _UTF8:
            self._settled = True
            return begin
        return self._transcode(encoding, begin, final=final)[given:]

    def _transcode(self, encoding: str, data: bytes, *, final: bool) -> bytes:
        self._transcoder = codecs.getincrementaldecoder(encoding)("replace")
        return self._transcoder.decode(data, final).encode()

    def _lines(self, data: bytes, *, final: bool) -> bytes:
        data, self._held = self._held + data, b""
        at = 0
        while not self._settled:
            if self._passing:
                if (line_end := _LINE_END.search(data, at)) is None:
                    break
                at, self._passing = line_end.end(), False
            if (odd := _NOT_ASCII.search(data, at)) is None:
                break
            start, most = odd.start(), odd.start() + LOOKED_AT_BYTES
            line_end = _LINE_END.search(data, start, most)
            at = line_end.end() if line_end else min(len(data), most)
            verdict = self._judge(data[start:at], ended=line_end is not None or at == most or final)
            if verdict is _Verdict.MORE_NEEDED:
                self._held = data[start:]
                return data[:start]
            if verdict is _Verdict.GB18030:
                return data[:start] + self._transcode(_GB18030, data[start:], final=final)
            self._passing = line_end is None
            self._odd_lines += 1
            self._settled = verdict is _Verdict.UTF8 or self._odd_lines >= _MOST_ODD_LINES
        return data

    def _judge(self, piece: bytes, *, ended: bool) -> _Verdict:
        undecided = _Verdict.NOTHING if ended else _Verdict.MORE_NEEDED
        valid, broken = piece, False
        try:
            piece.decode()
        except UnicodeDecodeError as error:
            valid, broken = piece[: error.start], error.reason != "unexpected end of data"
        if _proves_utf8(valid):
            return _Verdict.UTF8
        return self._judge_gb18030(piece, undecided) if broken else undecided

    def _judge_gb18030(self, piece: bytes, undecided: _Verdict) -> _Verdict:
        at = common = rare = 0
        hanzi = set(self._hanzi)
        while at < len(piece):
            if (token := _GB_TOKEN.match(piece, at)) is None:
                return undecided if _CUT_GB_TOKEN.match(piece, at) else _Verdict.NOTHING
            at = token.end()
            rare += token["rare"] is not None
            if token["common"] is not None:
                common += 1
                hanzi.add(token[0])
                if len(hanzi) >= _ENOUGH_HANZI and common >= 2 * rare:
                    return _Verdict.GB18030
        if undecided is _Verdict.NOTHING:
            self._hanzi = hanzi
        return undecided


def decoded(chunks: Iterable[bytes], decoder: Decoder | None = None) -> Iterator[bytes]:
    """A log's chunks in UTF-8, those after what the decoder took; an empty one, which says that nothing came, is handed on."""
    decoder = decoder or Decoder()
    try:
        for chunk in chunks:
            if (data := decoder.feed(chunk)) or not chunk:
                yield data
    except GpuwatchError:  # what came before it is still to be seen
        if data := decoder.flush():
            yield data
        raise
    if data := decoder.flush():
        yield data


def begins_as_utf16(begin: bytes) -> bool:
    """Whether these first bytes are those of UTF-16: full of NULs, and a text."""
    return _encoding_at_begin(begin) in _UTF16


def _encoding_at_begin(begin: bytes) -> str | None:
    """The encoding that the first bytes of a log prove; "" where they prove none, None where more bytes may."""
    for mark, encoding in _MARKS.items():
        if begin.startswith(mark):
            return encoding
        if mark.startswith(begin):
            return None
    if len(begin) == 1:
        return None if begin[0] in _ASCII_TEXT or not begin[0] else ""
    if not begin[1] and begin[0] in _ASCII_TEXT:
        return _confirmed("utf-16-le", begin)
    if not begin[0] and begin[1] in _ASCII_TEXT:
        return _confirmed("utf-16-be", begin)
    return ""


def _confirmed(encoding: str, begin: bytes) -> str | None:
    """A second ASCII character, with nothing but text before it, is proof."""
    characters = codecs.getincrementaldecoder(encoding)("replace").decode(begin[:LOOKED_AT_BYTES])
    for character in characters[1:]:
        if ord(character) in _ASCII_TEXT:
            return encoding
        if character == "\ufffd" or unicodedata.category(character) in _NO_TEXT:
            return ""
    return None if len(begin) < LOOKED_AT_BYTES else ""


def _proves_utf8(valid: bytes) -> bool:
    """Whether this UTF-8 can hardly be anything else: two bytes that fit happen by chance, three in a row seldom do."""
    if (found := _LONG_UTF8.search(valid)) is None or found.end() == len(valid):
        return False
    return valid[found.end()] < 0x80 or _LONG_UTF8.search(valid, found.end()) is not None
