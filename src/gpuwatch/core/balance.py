"""Whose memory is it: the numbers of an out-of-memory message, the driver and the server, made one account of the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    total_from: str | None = None
    """Who told the total: the message, the driver, the server, an earlier failure, the command line."""

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
            return None
        return max(self.total_bytes - self.free_bytes - self.process_bytes, 0)

    @property
    def slack_bytes(self) -> int | None:
        """What PyTorch holds idle."""
        if self.reserved_bytes is None or self.allocated_bytes is None:
            return None
        return max(self.reserved_bytes - self.allocated_bytes, 0)

    def room_bytes(self, context_bytes: float) -> float | None:
        """What PyTorch can hold in this process if all that it has now were given back to it; None where no total is known.

        Free plus reserved where both are told: it counts neither other processes nor the process's own CUDA context.
        Otherwise the total less a context of `context_bytes`, which supposes that nobody else holds memory.
        """
        held = self.reserved_bytes if self.reserved_bytes is not None else self.allocated_bytes
        if self.free_bytes is not None and held is not None:
            return float(self.free_bytes + held)
        if self.total_bytes is not None:
            return self.total_bytes - context_bytes
        return None

    @property
    def told_room(self) -> bool:
        """Whether the room is told rather than supposed."""
        return self.free_bytes is not None and (self.reserved_bytes is not None or self.allocated_bytes is not None)

    def with_total(self, total_bytes: int | None, told_by: str) -> Balance:
        """The balance with a total from elsewhere, where it has none of its own."""
        if self.total_bytes is not None or total_bytes is None:
            return self
        return Balance(
            total_bytes,
            self.free_bytes,
            self.tried_bytes,
            self.allocated_bytes,
            self.reserved_bytes,
            self.process_bytes,
            told_by,
        )


def balance_of(facts: Mapping[str, Any]) -> Balance:
    """The balance that a message's facts tell."""

    def count(name: str) -> int | None:
        value = facts.get(name)
        return value if isinstance(value, int) else None

    allocated, reserved = count("allocated_bytes"), count("reserved_bytes")
    unallocated = count("reserved_unallocated_bytes")
    if reserved is None and allocated is not None and unallocated is not None:
        reserved = allocated + unallocated
    total = count("total_bytes")
    return Balance(
        total_bytes=total,
        free_bytes=count("free_bytes"),
        tried_bytes=count("tried_bytes"),
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        process_bytes=count("process_in_use_bytes"),
        total_from="message" if total is not None else None,
    )
