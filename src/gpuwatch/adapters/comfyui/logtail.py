"""A server's log, put together from the entries it keeps and the frames it sends: each entry once, in its order.

The server keeps the last 300 entries and forgets them when it ends. After a lost connection what we missed is among them; where
nothing that we know is, either more was missed or another process answers.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

_MOST_KNOWN = 1000
_RING = 300
"""How many entries a server keeps."""
_PLACES = 8
"""How many of the last entries say where we stopped: the very last may be a bar's frame that the next one took the place of."""

Entry = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What the entries that a server keeps tell beyond what was known."""

    old: bytes
    """What was there before we came."""
    new: bytes
    restarted: bool
    """Whether another process wrote them."""
    missed: bool = False
    """Whether more came since than a server keeps."""
    overlooked: bool = False
    """Whether something in them should have come as a frame and did not."""


class LogTail:
    """Knows which entries were read."""

    def __init__(self, place: str | None = None) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self._began = False
        self._resumed = False
        if place is not None:
            with suppress(ValueError, TypeError):
                for key in json.loads(place)[-_PLACES:]:
                    self._known[str(key)] = None
                self._began = self._resumed = bool(self._known)

    @property
    def place(self) -> str:
        """Where to go on after what was read so far."""
        return json.dumps(list(self._known)[-_PLACES:])

    def frame(self, entries: Iterable[Entry]) -> bytes:
        """The bytes of a frame's entries that were not read before."""
        return b"".join(_bytes(words) for key, words in _keyed(entries) if self._take(key, words))

    def kept(self, entries: Iterable[Entry]) -> Kept:
        """Go through the entries that the server keeps."""
        keyed = list(_keyed(entries))
        if not self._began:
            self._began = True
            return Kept(b"".join(_bytes(words) for key, words in keyed if self._take(key, words)), b"", restarted=False)
        met = [place for place, (key, _words) in enumerate(keyed) if key in self._known]
        lost_track = not met and bool(self._known)
        restarted = lost_track and len(keyed) < _RING
        missed = lost_track and not restarted and not all(words.startswith("\r") for _key, words in keyed)
        old: list[bytes] = []
        if self._resumed:
            self._resumed = False
            if met:  # known are only the last few of what was read: all before the last of them was read too
                old = [_bytes(words) for key, words in keyed[: met[-1] + 1] if self._take(key, words)]
                keyed = keyed[met[-1] + 1 :]
        new = [_bytes(words) for key, words in keyed if self._take(key, words)]
        overlooked = any(not _is_bar(piece) for piece in new)
        return Kept(b"".join(old), b"".join(new), restarted, missed, overlooked)

    def knows(self, entries: Iterable[Entry]) -> bool:
        """Whether all of these were read, bars apart."""
        return all(key in self._known or words.startswith("\r") for key, words in _keyed(entries))

    def _take(self, key: str, words: str) -> bool:
        """Whether the entry was not read before; from now on it was."""
        if key in self._known:
            return False
        if not words.startswith("\r"):
            self._known[key] = None
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
        return True


def _keyed(entries: Iterable[Entry]) -> Iterable[tuple[str, str]]:
    for at, words in entries:
        yield hashlib.blake2s(f"{at}\0{words}".encode("utf-8", "replace"), digest_size=8).hexdigest(), words


def _bytes(words: str) -> bytes:
    return words.encode("utf-8", "replace")


def _is_bar(piece: bytes) -> bool:
    return piece.startswith(b"\r") or not piece.strip()
