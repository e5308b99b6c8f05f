"""Where in a stretch of log a pattern may match: the prefilter, over many records at once.

A probe stands for a pattern: wherever the pattern matches, the probe is found on the same line. The slower scanners nominate
other lines too, or fewer false ones; which rules match is the same, because the rule's own pattern decides.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from gpuwatch.core.matching.scan import Hit
from gpuwatch.core.matching.scanners import AllAtOnce, OneByOne, PieceByPiece

if TYPE_CHECKING:
    from gpuwatch.core.matching.probes import Probe

_FEW_LINES = 8
_SPACED_BYTES = 2048
"""So far apart lines must stand, on average, for looking at each of them to take less time than looking once, closely."""
_DENSE_BYTES = 4 << 20


class Nominator(Protocol):
    """Finds probes in a stretch of log."""

    @property
    def blind(self) -> frozenset[int]:
        """The probes that it cannot look for."""
        ...

    def hits(self, data: bytes) -> list[Hit]:
        """Every line that a probe is found on, at least once each, by rising offset."""
        ...

    def dump(self) -> bytes | None:
        """What makes the next start quicker: give it to `nominator_of` for the same probes. None where nothing does."""
        ...


class TwoSteps:
    """Looks through a log for few fragments, and closely only at lines that hold one."""

    def __init__(self, coarse: Nominator, fine: Nominator) -> None:
        self._coarse = coarse
        self._fine = fine
        self._dense_bytes = 0
        """How much is read before the coarse step is tried again."""

    @property
    def blind(self) -> frozenset[int]:
        """See `Nominator`."""
        return self._fine.blind

    def hits(self, data: bytes) -> list[Hit]:
        """See `Nominator`."""
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
        """See `Nominator`."""
        coarse, fine = self._coarse.dump(), self._fine.dump()
        return None if coarse is None or fine is None else len(coarse).to_bytes(8, "little") + coarse + fine


def nominator_of(make_probes: Callable[[], Sequence[Probe]], dumped: bytes | None = None) -> Nominator:
    """The fastest prefilter that this machine has. `dumped` is trusted: it must be what `dump` gave for these very probes.

    Raises ValueError where `dumped` is not of this machine's library after all.
    """
    if dumped is not None:
        begin = 8 + int.from_bytes(dumped[:8], "little")
        return TwoSteps(AllAtOnce.loaded(dumped[8:begin]), AllAtOnce.loaded(dumped[begin:]))
    probes = make_probes()
    for make in (partial(in_two_steps, AllAtOnce), PieceByPiece):
        try:
            return make(probes)
        except ImportError:
            continue
    return OneByOne(probes)


def in_two_steps(scanner: Callable[[Sequence[Probe]], Nominator], probes: Sequence[Probe]) -> TwoSteps:
    """Both steps by one kind of scanner. hyperscan gains a half by it; RE2 loses, which leaves out whole pieces anyway."""
    from gpuwatch.core.matching.probes import coarsened  # noqa: PLC0415 - not where a dump tells

    fine = scanner(probes)
    coarse = scanner(coarsened(probe for number, probe in enumerate(probes) if number not in fine.blind))
    return TwoSteps(fine if coarse.blind else coarse, fine)


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
