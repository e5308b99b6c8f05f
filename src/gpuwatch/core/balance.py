"""Whose memory is it: the numbers of an out-of-memory message, the driver and the server, made one account of the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

MIB = 1 << 20
OWN_CONTEXT_BYTES = 1536 * MIB
"""What a process may hold beyond PyTorch: a context and its libraries. A process that holds what PyTorch reserved and no more
than this beside is the failed one itself: in a container the message does not know its own."""
USUAL_CONTEXT_BYTES = 640 * MIB
"""A context's usual size, where nothing tells it: the high end of the calibration."""
Oddity = Literal["limited", "beyond_card", "free_enough"]
"""Numbers that contradict each other: PyTorch's own limit was in the way; more is held than the card has; enough was free."""


@dataclass(frozen=True, slots=True)
class Balance:
    """The card at the moment of the failure. None is what nobody told."""

    total_bytes: int | None = None
    free_bytes: int | None = None
    tried_bytes: int | None = None
    allocated_bytes: int | None = None
    """Live tensors of the process, as PyTorch counts them."""
    reserved_bytes: int | None = None
    """What PyTorch took from the driver, idle blocks included."""
    process_bytes: int | None = None
    """What the whole process holds, PyTorch's part included."""
    allowed_bytes: int | None = None
    """What PyTorch allows itself, where a limit was set."""
    told_others_bytes: int | None = None
    """What other processes hold, as somebody told it outright: the driver, or a message that names them."""

    @property
    def context_bytes(self) -> int | None:
        """What the process holds outside PyTorch: the CUDA context, libraries."""
        if self.process_bytes is None or self.reserved_bytes is None:
            return None
        return max(self.process_bytes - self.reserved_bytes, 0)

    @property
    def others_bytes(self) -> int | None:
        """What other processes and the driver hold."""
        if self.total_bytes is None or self.free_bytes is None or self.process_bytes is None:
            return self.told_others_bytes
        return max(self.total_bytes - self.free_bytes - self.process_bytes, 0)

    @property
    def outside_bytes(self) -> int | None:
        """What is on the card beside PyTorch's part: other programs, contexts, the driver, and idle memory in the driver's own
        pool where PyTorch leaves that to it."""
        held = self.reserved_bytes if self.reserved_bytes is not None else self.allocated_bytes
        if self.total_bytes is None or self.free_bytes is None or held is None:
            return None
        return max(self.total_bytes - self.free_bytes - held, 0)

    @property
    def short_bytes(self) -> int | None:
        """By how much the failed request was too large; None where nobody told, or where enough was free."""
        if self.tried_bytes is None or self.free_bytes is None or self.free_bytes >= self.tried_bytes:
            return None
        return self.tried_bytes - self.free_bytes

    @property
    def fragmented(self) -> bool:
        """Whether idle memory in pieces explains the failure: with what was free it would have been enough."""
        slack, short = self.slack_bytes, self.short_bytes
        return slack is not None and short is not None and slack >= short and self.allowed_bytes is None

    @property
    def oddity(self) -> Oddity | None:
        """How the numbers contradict each other; None where they do not."""
        held = max(self.reserved_bytes or 0, self.allocated_bytes or 0, self.process_bytes or 0)
        if self.total_bytes is not None and held > self.total_bytes:
            return "beyond_card"
        if self.tried_bytes is None or self.free_bytes is None or self.free_bytes < self.tried_bytes:
            return None
        return "limited" if self.allowed_bytes is not None else "free_enough"

    @property
    def slack_bytes(self) -> int | None:
        """What PyTorch holds idle."""
        if self.reserved_bytes is None or self.allocated_bytes is None:
            return None
        return max(self.reserved_bytes - self.allocated_bytes, 0)

    def room_bytes(self, context_bytes: float) -> float | None:
        """What PyTorch can hold in this process if all that it has now were given back to it; None where no total is known.

        Free plus reserved where both are told: it counts neither other processes nor the process's own CUDA context.
        Otherwise the total less what others are known to hold and a context, of `context_bytes` where the message does not tell it.
        """
        room = self._room(context_bytes)
        if room is None or self.allowed_bytes is None:
            return room if self.allowed_bytes is None else float(self.allowed_bytes)
        return min(room, float(self.allowed_bytes))

    def _room(self, context_bytes: float) -> float | None:
        held = self.reserved_bytes if self.reserved_bytes is not None else self.allocated_bytes
        if self.told_room and self.free_bytes is not None and held is not None:
            told = float(self.free_bytes + held)
            if self.total_bytes is None:
                return told
            return min(told, float(self.total_bytes - (self.context_bytes or 0) - (self.others_bytes or 0)))
        if self.total_bytes is not None:
            outside = context_bytes if self.context_bytes is None else self.context_bytes
            return self.total_bytes - outside - (self.others_bytes or 0)
        return None

    @property
    def told_room(self) -> bool:
        """Whether the room is told rather than supposed. What is beyond the card is no room."""
        known = self.free_bytes is not None and (self.reserved_bytes is not None or self.allocated_bytes is not None)
        return known and self.oddity != "beyond_card"

    def with_total(self, total_bytes: int | None) -> Balance:
        """The balance with a total from elsewhere, where it has none of its own."""
        if self.total_bytes is not None or total_bytes is None:
            return self
        free = self.free_bytes if self.free_bytes is not None and self.free_bytes <= total_bytes else None
        return replace(self, total_bytes=total_bytes, free_bytes=free)

    def with_others(self, others_bytes: int | None) -> Balance:
        """The balance with what others hold, where the message does not tell it."""
        if others_bytes is None or self.others_bytes is not None:
            return self
        return replace(self, told_others_bytes=others_bytes)


def balance_of(facts: Mapping[str, Any]) -> Balance:
    """The balance that a message's facts tell."""

    def count(name: str, least: int = 0) -> int | None:
        value = facts.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= least else None

    allocated, reserved = count("allocated_bytes"), count("reserved_bytes")
    unallocated, cached = count("reserved_unallocated_bytes"), count("cached_bytes")
    if reserved is None and allocated is not None and (unallocated is not None or cached is not None):
        reserved = allocated + (unallocated if unallocated is not None else cached or 0)
    total, process, other = count("total_bytes", 1), count("process_in_use_bytes"), count("other_process_bytes")
    if other is not None and process is None and reserved is not None and reserved - MIB <= other:
        itself = other <= reserved + OWN_CONTEXT_BYTES
        process, other = (other, None) if itself else (None, other)
    if process is not None:  # rounding, or nonsense: a process holds what its PyTorch does
        process = max(process, reserved or 0, allocated or 0)
    free = count("free_bytes")
    return Balance(
        total_bytes=total,
        free_bytes=free if free is not None and (total is None or free <= total) else None,
        tried_bytes=count("tried_bytes", 1),
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        process_bytes=process,
        allowed_bytes=count("allowed_bytes", 1),
        told_others_bytes=other,
    )
