"""Which card of this machine a failure was on: torch's numbers are not the driver's.

CUDA counts the cards that a process may see (CUDA_VISIBLE_DEVICES, ComfyUI's --cuda-device), from 0, and the fastest first unless
CUDA_DEVICE_ORDER says otherwise. So a number alone means a card only where all that is known; name, size and who runs on a card
tell more. Where two are left, none is meant: no evidence is better than another card's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpuwatch.core.observations import GpuSample, ServerSeen

_SAME_SIZE_RATIO = 0.06
"""What torch calls the card's memory is a little less than what the driver does."""
_OPTION = "--cuda-device"


def card_of(cards: Sequence[GpuSample], facts: Mapping[str, Any], server: ServerSeen | None) -> GpuSample | None:
    """The card, of the newest sample of each; None where that is not certain, or where the server is another machine's."""
    if server is not None and server.local is False:
        return None
    left = list(cards)
    total = facts.get("total_bytes") or (server.total_bytes if server is not None else None)
    tests: list[Callable[[GpuSample], bool]] = [
        lambda card: bool(card.name) and server is not None and card.name in (server.device or ""),
        lambda card: _is_size(card, total),
        lambda card: any(process.program == "comfyui" for process in card.processes),
    ]
    for fits in tests:
        if len(left) > 1:
            left = [card for card in left if fits(card)] or left
    if len(left) > 1 and server is not None:
        wanted = number_of(_index(facts, server), server)
        if server.by_bus or len({card.name for card in cards}) == 1:
            left = [card for card in left if wanted is not None and _is_called(card, wanted)]
    return left[0] if len(left) == 1 else None


def number_of(index: int, server: ServerSeen) -> str | None:
    """The driver's number, or a uuid's begin, of the card that torch calls by this number; None where it is not known."""
    visible = _visible(server)
    if visible is None:
        return None
    if not visible:
        return str(index)
    return visible[index] if index < len(visible) else None


def _visible(server: ServerSeen) -> tuple[str, ...] | None:
    """What the process may see, in its order; empty for all, None where it is not known."""
    for place, word in enumerate(server.argv):
        if word == _OPTION and place + 1 < len(server.argv):
            return _listed(server.argv[place + 1])
        if word.startswith(f"{_OPTION}="):
            return _listed(word.partition("=")[2])
    return None if server.visible_devices is None else _listed(server.visible_devices)


def _listed(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())


def _index(facts: Mapping[str, Any], server: ServerSeen) -> int:
    told = facts.get("gpu_index")
    if isinstance(told, int):
        return told
    begins = (server.device or "").partition(" ")[0].partition(":")[2]
    return int(begins) if begins.isdecimal() and len(begins) < 4 else 0


def _is_size(card: GpuSample, total: Any) -> bool:
    if not isinstance(total, int) or not card.total_bytes:
        return False
    return abs(card.total_bytes - total) <= card.total_bytes * _SAME_SIZE_RATIO


def _is_called(card: GpuSample, wanted: str) -> bool:
    return card.index == int(wanted) if wanted.isdecimal() and len(wanted) < 4 else card.uuid.startswith(wanted)
