"""Where in a stretch of log a pattern may match: the prefilter, over many records at once.

A probe stands for a pattern: wherever the pattern matches, the probe is found on the same line. A log is looked through for few
fragments first, and only lines that hold one for the probes. Which rules match is the same with any scanner and any number of
steps, because the rule's own pattern decides.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Protocol

from gpuwatch.core.matching.probes import Probe, coarsened
from gpuwatch.core.matching.scan import Hit
from gpuwatch.core.matching.scanners import AllAtOnce, OneByOne, PieceByPiece

_FEW_LINES = 8
_SPACED_BYTES = 2048
"""So far apart lines must stand, on average, for looking at each of them to take less time than looking once, closely."""
_DENSE_BYTES = 4 << 20


class Scanner(Protocol):
    """Looks for probes."""

    @property
    def blind(self) -> frozenset[int]:
        """The probes that it cannot look for."""
        ...

    def hits(self, data: bytes) -> list[Hit]:
        """Every line that a probe is found on, at least once each, by rising offset."""
        ...

    def dump(self) -> bytes | None:
        """What makes the next start quicker; None where nothing does."""
        ...


class Nominator:
    """Finds in a stretch of log which of the probes are on which lines."""

    def __init__(self, coarse: Scanner, fine: Scanner) -> None:
        self._coarse = coarse
        self._fine = fine
        self._dense_bytes = 0
        """How much is read before the coarse step is tried again."""

    @property
    def blind(self) -> frozenset[int]:
        """The probes that nothing can look for."""
        return self._fine.blind

    def hits(self, data: bytes) -> list[Hit]:
        """Every line that a probe is found on, at least once each, by rising offset. Thread-safe."""
        if self._dense_bytes > 0:
            self._dense_bytes -= len(data)
            return self._fine.hits(data)
        begins, lines = _lines_at(data, self._coarse.hits(data))
        if not lines:
            return []
        if len(lines) > _FEW_LINES and len(lines) * _SPACED_BYTES > len(data):
            self._dense_bytes = _DENSE_BYTES
            return self._fine.hits(data)
        starts = list(accumulate(map(len, lines), initial=0))
        found = []
        for offset, number in self._fine.hits(b"".join(lines)):
            line = bisect_right(starts, offset) - 1
            found.append((begins[line] + offset - starts[line], number))
        return found

    def dump(self) -> bytes | None:
        """What makes the next start quicker: give it to `nominator_of` for the same probes. None where nothing does."""
        coarse, fine = self._coarse.dump(), self._fine.dump()
        return None if coarse is None or fine is None else len(coarse).to_bytes(8, "little") + coarse + fine


def nominator_of(make_probes: Callable[[], Sequence[Probe]], dumped: bytes | None = None) -> Nominator:
    """The fastest prefilter that this machine has. `dumped` is trusted: it must be what `dump` gave for these very probes.

    Raises ValueError where `dumped` is not of this machine's library after all.
    """
    if dumped is not None:
        begin = 8 + int.from_bytes(dumped[:8], "little")
        return Nominator(AllAtOnce.loaded(dumped[8:begin]), AllAtOnce.loaded(dumped[begin:]))
    probes = make_probes()
    for scanner in (AllAtOnce, PieceByPiece):
        try:
            return in_two_steps(scanner, probes)
        except ImportError:
            continue
    return in_two_steps(OneByOne, probes)


def in_two_steps(scanner: Callable[[Sequence[Probe]], Scanner], probes: Sequence[Probe]) -> Nominator:
    """A nominator of these probes by one kind of scanner."""
    fine = scanner(probes)
    coarse = scanner(coarsened(probe for number, probe in enumerate(probes) if number not in fine.blind))
    return Nominator(fine if coarse.blind else coarse, fine)


def _lines_at(data: bytes, hits: Iterable[Hit]) -> tuple[list[int], list[bytes]]:
    """The whole lines that these hits are on, and where each begins."""
    begins, lines, end = [], [], 0
    for offset, _ in hits:
        if offset >= end:
            begin = data.rfind(b"\n", end, offset) + 1 or end
            end = data.find(b"\n", offset) + 1 or len(data)
            begins.append(begin)
            lines.append(data[begin:end])
    return begins, lines
