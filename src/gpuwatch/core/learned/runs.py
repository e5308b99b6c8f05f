"""What jobs took here, kept by their kind, and the answers that it gives: what a size needs, and which fits.

A job that ran over what the card had held before shows its own peak. One that stayed below what lay there already needed no
more than that, and one that ran out needed more than there was: neither bends the curve, but no size is called fitting that
failed here and has not run since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from gpuwatch.core.learned.jobs import JobKind, Ran, share_left, smaller

if TYPE_CHECKING:
    from gpuwatch.core.diagnosis import Fits
    from gpuwatch.core.memory.band import Band
    from gpuwatch.core.memory.curve import Curve

MOST_KINDS = 64
MOST_OF_KIND = 60
_SAME_ROOM = 1.03
"""A room that is larger by less than this is the same."""

Bound = Literal["exactly", "at_most", "at_least"]


@dataclass(frozen=True, slots=True)
class RunMeasured:
    """A job is over, and it is known what its process held on the card meanwhile."""

    at: datetime
    server: str
    ran: Ran
    bound: Bound
    """Whether the peak is the job's own; else what it needed is at most, or at least, what is told."""
    peak_bytes: int
    """Of the whole process, what was there before included; where the job ran out, what there was for it."""
    total_bytes: int | None = None
    """What the card has."""
    alone: bool = False
    """Whether the process was told apart from others on the card; else the peak holds theirs too."""


@dataclass(frozen=True)
class Experience:
    """The runs of one kind of job, the oldest first."""

    kind: JobKind
    runs: tuple[RunMeasured, ...]

    @cached_property
    def curve(self) -> Curve | None:
        """The curve through the peaks; None where there are too few sizes, or they follow none."""
        from gpuwatch.core.memory.curve import Run, fit_curve  # noqa: PLC0415 - nothing was learned where nothing ran

        return fit_curve(Run(run.ran.pixels, run.peak_bytes) for run in self.runs if run.bound == "exactly")

    @property
    def sizes(self) -> int:
        """How many sizes a peak is known of."""
        return len({run.ran.pixels for run in self.runs if run.bound == "exactly"})

    @property
    def alone(self) -> bool:
        """Whether the peaks are the process's own; else they hold what others had on the card."""
        return all(run.alone for run in self.runs)

    @property
    def ran_pixels(self) -> int | None:
        """The largest job that ran here."""
        return max((run.ran.pixels for run in self.runs if run.bound != "at_least"), default=None)

    def failed_pixels(self, room_bytes: float) -> int | None:
        """The smallest job that ran out in such a room, and that none so large has run since."""
        failed = [
            out
            for out in self.runs
            if out.bound == "at_least"
            and room_bytes <= out.peak_bytes * _SAME_ROOM
            and not any(
                run.bound != "at_least" and run.ran.pixels >= out.ran.pixels and run.at > out.at for run in self.runs
            )
        ]
        return min((out.ran.pixels for out in failed), default=None)

    def need(self, pixels: int) -> Band | None:
        """What the process will hold at a size; None where nothing is known of that size."""
        return self.curve.peak_bytes(pixels) if self.curve is not None and self.curve.answers(pixels) else None

    def fits(self, pixels: int, room_bytes: float) -> Fits:
        """Whether a size fits into what the process can have."""
        need = self.need(pixels)
        if need is None:
            return "uncertain"
        if need.high > room_bytes:
            return "no" if need.low > room_bytes else "uncertain"
        failed = self.failed_pixels(room_bytes)
        return "yes" if failed is None or pixels < failed else "uncertain"

    def largest_pixels(self, room_bytes: float, below: int | None = None) -> int | None:
        """The largest size that surely fits; None where none does, or nothing is known."""
        found = self.curve.largest_pixels(room_bytes) if self.curve is not None else None
        failed = self.failed_pixels(room_bytes)
        limits = [limit - 1 for limit in (failed, below) if limit is not None]
        if found is None or self.curve is None:
            return None
        found = min([found, *limits])
        return found if self.curve.answers(found) else None


def shrunk(known: Experience, ran: Ran, room_bytes: float) -> tuple[Mapping[str, float], Band] | None:
    """The largest sizes that surely fit in place of the job's own, and what it then takes.

    None where the runs here do not tell, or where by them the job fits as it is.
    """
    need = known.need(ran.pixels)
    if need is not None and need.high <= room_bytes:
        return None
    pixels = known.largest_pixels(room_bytes, below=ran.pixels)
    sizes = smaller(ran.sized, pixels / ran.pixels) if pixels is not None else None
    then = known.need(round(ran.pixels * share_left(ran.sized, sizes))) if sizes is not None else None
    return (sizes, then) if sizes is not None and then is not None else None


@dataclass(frozen=True, slots=True)
class Learned:
    """All that was learned, bounded: the newest runs of the newest kinds."""

    kinds: Mapping[JobKind, tuple[RunMeasured, ...]] = field(default_factory=dict)
    """By kind, the one with the newest run last."""

    @classmethod
    def of(cls, runs: Iterable[RunMeasured]) -> Learned:
        """What runs teach, the oldest first."""
        learned = cls()
        for run in runs:
            learned = learned.after(run)
        return learned

    def after(self, run: RunMeasured) -> Learned:
        """With one more run."""
        kind = run.ran.kind
        kept = (*self.kinds.get(kind, ()), run)[-MOST_OF_KIND:]
        kinds = {other: runs for other, runs in self.kinds.items() if other != kind}
        if len(kinds) >= MOST_KINDS:
            del kinds[next(iter(kinds))]
        return Learned({**kinds, kind: kept})

    def experience(self, ran: Ran | None) -> Experience | None:
        """What is known of jobs of that kind; None where there was none."""
        runs = self.kinds.get(ran.kind) if ran is not None else None
        return Experience(ran.kind, runs) if ran is not None and runs else None

    def every(self) -> list[Experience]:
        """All kinds, the newest first."""
        return [Experience(kind, runs) for kind, runs in reversed(list(self.kinds.items()))]
