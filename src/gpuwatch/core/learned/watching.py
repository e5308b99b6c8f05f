"""From samples of the card and jobs that ended to measured runs.

The driver tells what ComfyUI's process holds, where it names it; else the server tells what is held on its card altogether.
Both see the memory that PyTorch keeps, which stays at its peak until it is given back: so samples seconds apart find it, unless
the job is shorter than they are apart. A peak counts as the job's own only where it rose above what lay there before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gpuwatch.core.learned.runs import Bound, RunMeasured
from gpuwatch.core.observations import GpuSample, JobEnded, ServerSeen

TOLD_LATE = timedelta(seconds=3)
"""How long after its end a job may be told of."""
FILLED_RATIO = 0.95
"""A process that held so much of what it could have may have been fitted into it: its need was not seen."""
_ROSE_RATIO = 0.01
_MOST_SAMPLES = 4000
_MOST_SERVERS = 32
_SAME_CARD = (0.95, 1.05)
_ALIKE_RATIO = 0.1
"""Server and driver look at other moments, and the driver counts a little of its own."""
_LONGEST_SECONDS = 7 * 86400.0
_OUT_OF_MEMORY = ("out of memory", "Allocation on device", "OutOfMemoryError")


@dataclass(frozen=True, slots=True)
class Held:
    """What was held at one moment."""

    at: datetime
    held_bytes: int
    room_bytes: int
    """What the process could have had: the card, without what others were told to hold."""
    total_bytes: int
    card_bytes: int
    """What everybody held on the card."""
    alone: bool


@dataclass(slots=True)
class RunWatch:
    """Looks at samples and jobs, and tells what each job took."""

    _of_server: dict[str, deque[Held]] = field(default_factory=dict)
    _of_card: dict[str, deque[Held]] = field(default_factory=dict)
    """By the card's uuid, what the one ComfyUI on it held, where the driver names it."""

    def server_seen(self, seen: ServerSeen) -> None:
        """Take what a server says of its card."""
        if seen.total_bytes is None or seen.free_bytes is None or not 0 <= seen.free_bytes <= seen.total_bytes:
            return
        held = seen.total_bytes - seen.free_bytes + min(seen.torch_idle_bytes or 0, seen.free_bytes)
        sample = Held(seen.at, held, seen.total_bytes, seen.total_bytes, held, alone=False)
        if seen.server not in self._of_server and len(self._of_server) >= _MOST_SERVERS:
            return
        self._of_server.setdefault(seen.server, deque(maxlen=_MOST_SAMPLES)).append(sample)

    def card_sampled(self, sample: GpuSample) -> None:
        """Take what the driver says of a card."""
        ours = [process.used_bytes for process in sample.processes if process.program == "comfyui"]
        if len(ours) != 1 or ours[0] is None or sample.total_bytes is None or sample.used_bytes is None:
            return
        others = sum(process.used_bytes or 0 for process in sample.processes if process.program != "comfyui")
        room = max(sample.total_bytes - others, ours[0])
        held = Held(sample.at, ours[0], room, sample.total_bytes, sample.used_bytes, alone=True)
        self._of_card.setdefault(sample.uuid, deque(maxlen=_MOST_SAMPLES)).append(held)

    def job_ended(self, job: JobEnded) -> RunMeasured | None:
        """What a job took, where that can be told."""
        if job.ran is None or not job.fresh or job.outcome == "interrupted":
            return None
        samples = self._samples_for(job)
        if job.outcome == "error":
            if not ran_out(job) or not samples:
                return None
            last = samples[-1]
            return RunMeasured(
                job.at, job.server, job.ran, "at_least", last.room_bytes, last.total_bytes, last.alone
            )  # fmt: skip
        if job.duration_seconds is None or not 0 <= job.duration_seconds < timedelta.max.total_seconds():
            return None
        began = job.at - timedelta(seconds=min(job.duration_seconds, _LONGEST_SECONDS))
        during = [sample for sample in samples if began <= sample.at <= job.at]
        before = [sample for sample in samples if sample.at <= min(began, job.at - TOLD_LATE)]
        if not during:
            return None
        most = max(during, key=lambda sample: sample.held_bytes)
        rose = bool(before) and most.held_bytes > before[-1].held_bytes * (1 + _ROSE_RATIO)
        bound: Bound = "exactly" if rose and most.held_bytes < FILLED_RATIO * most.room_bytes else "at_most"
        return RunMeasured(job.at, job.server, job.ran, bound, most.held_bytes, most.total_bytes, most.alone)

    def _samples_for(self, job: JobEnded) -> list[Held]:
        """The driver's, where it names the process and there is no doubt that it is this server's; else the server's own."""
        own = self._of_server.get(job.server, deque())
        if len(self._of_card) == 1 and len(self._of_server) == 1:
            (card,) = self._of_card.values()
            seconds = min(job.duration_seconds or 0.0, _LONGEST_SECONDS)
            if same_card(own, card, job.at - timedelta(seconds=seconds) - TOLD_LATE):
                return list(card)
        return list(own)


def same_card(server: Sequence[Held], card: Sequence[Held], since: datetime) -> bool:
    """Whether a server's samples and the driver's are of one card: as large, and as full for most of the time since then."""
    if not server or not card:
        return False
    low, high = _SAME_CARD
    if not low * server[-1].total_bytes <= card[-1].total_bytes <= high * server[-1].total_bytes:
        return False
    alike = [_alike(sample, card) for sample in server if sample.at >= since]
    return 2 * sum(alike) >= len(alike)


def _alike(sample: Held, card: Sequence[Held]) -> bool:
    """Whether the card was about as full at that moment as the server says."""
    place = bisect_left(card, sample.at, key=lambda other: other.at)
    near = [card[each] for each in (place - 1, place) if 0 <= each < len(card)]
    return any(
        abs(other.card_bytes - sample.card_bytes) <= _ALIKE_RATIO * sample.total_bytes
        for other in near
        if abs(other.at - sample.at) <= TOLD_LATE
    )


def ran_out(job: JobEnded) -> bool:
    """Whether a job failed for want of the card's memory."""
    words = f"{job.exception_type or ''} {job.exception_message or ''}"
    return any(sign in words for sign in _OUT_OF_MEMORY)
